"""Sweep files: what they mean, and what is wrong with them."""

from pathlib import Path

import pytest

from prism_ray.errors import ConfigError, UsageError
from prism_ray.sweep.file import read_sweep, read_sweeps

JOBS = Path(__file__).resolve().parents[2] / "jobs"


def write(folder: Path, text: str, name: str = "some.yaml") -> str:
    path = folder / name
    path.write_text(f"base: {JOBS / 'digits-ipc10.yaml'}\n{text}\n")
    return str(path)


def folders(path: str) -> list[str]:
    return [point.folder for point in read_sweep(path, (), "runs").points]


def test_grid_list_and_seeds_are_combined(tmp_path: Path) -> None:
    """Catches a list that replaces the grid, and a key that does not reach the config."""
    path = write(
        tmp_path,
        "grid: {recover.ipc: [1, 2]}\nlist: [{evaluate.loss: mse}, {evaluate.loss: kl}]\nseeds: [3, 4]",
    )
    sweep = read_sweep(path, ("recover.iterations=7",), "s3://bucket/all")
    assert len(sweep.points) == 8
    last = sweep.points[-1]
    assert last.folder == "some.loss=kl,ipc=2,seed=4"
    assert last.config.store_url == f"s3://bucket/all/{last.folder}"
    assert (last.config.seed, last.config.evaluations["student"].loss) == (4, "kl")
    distilled = last.config.image_sets["distilled"]
    assert (distilled.ipc, distilled.model_dump()["iterations"]) == (2, 7)
    assert sweep.has_seeds


def test_a_base_is_a_file_beside_the_sweep_or_a_config(tmp_path: Path) -> None:
    """Catches a base that is looked for in the working directory."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "base.yaml").write_text((JOBS / "digits.yaml").read_text())
    (tmp_path / "a.yaml").write_text("base: configs/base.yaml\ngrid: {recover.ipc: [1]}\n")
    assert len(read_sweep(str(tmp_path / "a.yaml"), (), "runs").points) == 1
    inline = "\n".join(f"  {line}" for line in (JOBS / "digits.yaml").read_text().splitlines())
    (tmp_path / "b.yaml").write_text(f"base:\n{inline}\ngrid: {{recover.ipc: [1]}}\n")
    assert len(read_sweep(str(tmp_path / "b.yaml"), (), "runs").points) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gird: {recover.ipc: [1]}", "gird: unknown key; did you mean 'grid'?"),
        ("teachers: {}", "this looks like a config"),
        ("grid: {recover.iterationz: [1, 2]}", "grid: recover.iterationz: .*did you mean recover.iterations"),
        ("grid: {recover.iterations: [a]}", "recover.iterations = 'a': must be a whole number"),
        ("list: [{recover.iterations: 0}]", r"list.0: recover.iterations: .*must be 1 or more"),
        ("grid: {recover.ipc: 1}", "grid: recover.ipc = 1: must be a list with at least one value"),
        ("grid: {recover.ipc: []}", "must be a list with at least one value"),
        ("grid: [1]", r"grid = \[1\]: must be a mapping of keys to lists"),
        ("grid: {}", "must be a mapping of keys to lists"),
        ("list: {recover.ipc: 1}", "must be a list of mappings"),
        ("list: [1]", "list.0 = 1: must be a mapping of keys"),
        ("grid: {recover.ipc: [1, 1]}", "1 is given twice"),
        ("grid: {recover..ipc: [1]}", "'recover..ipc' is not a key"),
        ("grid: {store: [a]}", "gives each point a store of its own"),
        ("grid: {orchestrate.actors: [1, 2]}", "all points share one pool of actors"),
        ("grid: {seed: [0]}\nseeds: [1]", "the file has seeds too"),
        ("seeds: 3", "must be a list of whole numbers"),
        ("seeds: [true]", "must be a list of whole numbers"),
        ("seeds: [1, 1]", "one is given twice"),
        ("grid: {recover.ipc: [1]}\nlist: [{recover.ipc: 2}]", "set one key; remove one"),
        ("list: [{}, {recover.selection.slots: 3}]", "are the same run"),
        ("name: A b\ngrid: {recover.ipc: [1]}", "must be lower-case letters, digits and hyphens"),
        ("name: 3\ngrid: {recover.ipc: [1]}", "must be lower-case letters"),
        ("", "the sweep has no points"),
        ("grid: {recover.ipc: [1, 2", "not valid YAML"),
        ("grid: {data.source: [digitz]}", "did you mean 'digits'"),
    ],
)
def test_what_is_wrong_is_named_with_a_remedy(tmp_path: Path, text: str, message: str) -> None:
    """Catches a traceback, and a misspelt key that silently changes nothing."""
    with pytest.raises(ConfigError, match=message):
        read_sweep(write(tmp_path, text), (), "runs")


def test_the_same_error_is_told_once(tmp_path: Path) -> None:
    """Catches a screen full of one error, which every point has."""
    path = write(tmp_path, "grid: {recover.ipc: [1, 2, 3]}")
    with pytest.raises(ConfigError) as error:
        read_sweep(path, ("recover.primary=nobody",), "runs")
    assert len(str(error.value).splitlines()) == 1


def test_an_option_and_the_file_may_not_set_one_key(tmp_path: Path) -> None:
    """Catches a --set that has no effect."""
    path = write(tmp_path, "grid: {recover.ipc: [1, 2]}")
    with pytest.raises(ConfigError, match=r"--set recover.ipc=5 and .* set one key; remove one"):
        read_sweep(path, ("recover.ipc=5",), "runs")


def test_the_store_and_the_base_are_checked(tmp_path: Path) -> None:
    """Catches a --set without effect, and a missing base that is told without the file that names it."""
    path = write(tmp_path, "grid: {recover.ipc: [1, 2]}")
    with pytest.raises(ConfigError, match="give their folder with --store"):
        read_sweep(path, ("store=elsewhere",), "runs")
    (tmp_path / "two.yaml").write_text("base: sme.yaml\ngrid: {recover.ipc: [2]}")
    with pytest.raises(ConfigError, match=r"two.yaml: base: .*sme.yaml: no such file; did you mean"):
        read_sweep(str(tmp_path / "two.yaml"), (), "runs")


def test_files_of_one_call_fit_each_other(tmp_path: Path) -> None:
    """Catches two files whose points would be in one store, and actors that suit only one file."""
    (tmp_path / "other").mkdir()
    one = write(tmp_path, "grid: {recover.ipc: [1]}")
    with pytest.raises(UsageError, match="have one name, 'some'"):
        read_sweeps([one, write(tmp_path / "other", "grid: {recover.ipc: [2]}")], (), "runs")
    (tmp_path / "base.yaml").write_text((JOBS / "digits.yaml").read_text().replace("actors: 2", "actors: 3"))
    (tmp_path / "two.yaml").write_text("base: base.yaml\ngrid: {recover.ipc: [2]}")
    with pytest.raises(UsageError, match=r"orchestrate.actors is 2 in .* and 3 in"):
        read_sweeps([one, str(tmp_path / "two.yaml")], (), "runs")


def test_the_ready_files_are_right() -> None:
    """Catches a ready file with a key that was renamed, and one that needs another pool than the others."""
    paths = sorted(str(path) for path in JOBS.rglob("sweeps/*.yaml"))
    sweeps = read_sweeps(paths, (), "runs")
    assert {sweep.name for sweep in sweeps} == {Path(path).stem for path in paths}
    assert len(sweeps) >= 9
    assert all(len(sweep.points) >= 3 for sweep in sweeps)


def test_dates_of_yaml_and_old_names_are_taken_as_in_a_config(tmp_path: Path) -> None:
    """Catches a sweep that reads keys in another way than --set."""
    path = write(tmp_path, "grid: {evaluate.seeds: [1, 2]}")
    with pytest.warns(match="evaluate.num_students"):
        sweep = read_sweep(path, (), "runs")
    assert [point.config.evaluations["student"].num_students for point in sweep.points] == [1, 2]
