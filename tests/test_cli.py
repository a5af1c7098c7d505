"""The command line as a new user meets it: bad input first. None of these starts Ray."""

import json
import re
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from prism_ray.cli import main
from prism_ray.config import load_config
from prism_ray.data import open_data
from prism_ray.run import load_run, new_run, save_run
from prism_ray.store import Failure, Lease, StoreFiles, record_failure, set_aside
from tests.effort import TELL_IMPORTS, imports_told
from tests.filled import finish
from tests.plans import config_of, facts_of


def invoke(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["distill", "nowhere.yaml"], ["nowhere.yaml", "no such file"]),
        (["distill", "CONFIG", "--set", "recover.iteratons=5"], ["recover.iteratons", "recover.iterations?"]),
        (["plan", "CONFIG", "--set", "recover.ipc=ten"], ["recover.ipc = 'ten'"]),
        (["plan", "CONFIG", "--set", "data.num_classes=12"], ["digits-ipc10", "data.num_classes = 12", "10"]),
        (["distill", "CONFIG", "--set", "data.num_classes=12"], ["digits-ipc10", "data.num_classes = 12"]),
        (["distill", "CONFIG", "--set", "recover.ipc=500"], ["recover.ipc = 500", "recover.init"]),
        (["plan", "CONFIG", "--set", "data={source: image-folder, path: absent, image_size: 8}"], ["absent"]),
        (["plan", "CONFIG", "--set", "data={source: fashion-mnist, path: nowhere, image_size: 28}"],
         ["train-images-idx3-ubyte.gz", "data.download"]),
        (["plan", "CONFIG", "--store", "s4://bucket/run"], ["s4://bucket/run"]),
        (["status", "digits.yaml"], ["is a config"]),
        (["config", "show", "CONFIG", "--set", "seed=-1"], ["seed = -1"]),
        (["show", "nowhere", "--classes", "2", "--class", "3"], ["--classes", "give one of the two"]),
        (["show", "nowhere", "--ipc", "2", "--ipc-index", "3"], ["--ipc-index", "give one of the two"]),
    ],
)  # fmt: skip
def test_wrong_input_exits_2_and_names_it(
    arguments: list[str], named: list[str], digits_config: Path, tmp_path: Path
) -> None:
    """Catches a traceback, a wrong exit code, or a message without file, key, value or remedy."""
    words = [str(digits_config) if word == "CONFIG" else word for word in arguments]
    if words[0] in ("distill", "plan") and "--store" not in words:
        words += ["--store", str(tmp_path / "run")]
    code, output = invoke(*words)
    assert code == 2, output
    for name in named:
        assert name in output
    assert "Traceback" not in output
    assert not (tmp_path / "run" / "plan.json").exists()


def test_status_of_nothing_says_how_to_start(tmp_path: Path) -> None:
    """Catches reporting an empty folder as a complete run."""
    code, output = invoke("status", tmp_path / "nothing")
    assert code == 2
    assert "prism-ray distill" in output


def test_plan_prints_the_work_and_changes_nothing(digits_config: Path, tmp_path: Path) -> None:
    """Catches a preview that writes into the store, or numbers that are not those of the config."""
    store = tmp_path / "run"
    options = ["--store", store, "--set", "recover.ipc=3", "--set", "recover.ipc_indices_per_batch=1"]
    code, output = invoke("plan", digits_config, *options)
    assert code == 0
    assert re.search(r"distilled\s+prism\s+30\s+3\s+80 to 100\s+resnet 3", output)
    assert "prism-ray distill" in output
    code, output = invoke("plan", digits_config, *options, "--json")
    figures = json.loads(output)
    assert [(s["name"], s["num_images"]) for s in figures["image_sets"]] == [
        ("distilled", 30),
        ("random-real", 30),
    ]
    assert figures["stages"]["recover"] == [0, 6]
    assert [unit["key"] for unit in figures["batches"]] == [f"i0000{k}-c00000" for k in (0, 1, 2, 0, 1, 2)]
    assert not store.exists()


def test_status_counts_from_the_store_alone(digits_config: Path, tmp_path: Path) -> None:
    """Catches a `status` that exits 0 on an incomplete run, or names no way on."""
    store = tmp_path / "run"
    config = load_config(digits_config, store=str(store))
    save_run(StoreFiles(str(store)), new_run(config, open_data(config.data).facts(), 1))
    code, output = invoke("status", store)
    assert code == 3
    assert "0/4" in output
    assert f"prism-ray distill {store}/config.yaml" in output
    code, output = invoke("status", store, "--json")
    assert code == 3
    assert json.loads(output)["complete"] is False
    code, output = invoke("verify", store)
    assert code == 3
    code, output = invoke("show", store)
    assert code == 2
    assert "no finished batch of images yet" in output
    assert load_config(store / "config.yaml") == config


def test_another_runs_store_is_refused_before_ray_starts(digits_config: Path, tmp_path: Path) -> None:
    """Catches mixing images of two configs in one store, and a `plan` that says distill would do it."""
    store = tmp_path / "run"
    config = load_config(digits_config, store=str(store))
    files = StoreFiles(str(store))
    run = save_run(files, new_run(config, open_data(config.data).facts(), 1))
    files.create("commits/recover/distilled/i00000-c00000.json", b"{}")
    for command in ("distill", "plan"):
        code, output = invoke(command, digits_config, "--store", store, "--set", "recover.iterations=120")
        assert code == 2
        assert "recover.iterations: the store has 100, now 120" in output
    assert load_run(files) == run
    code, output = invoke(
        "distill", digits_config, "--store", store, "--set", "orchestrate.threads_per_actor=7"
    )
    assert code == 2
    assert "threads_per_actor: the store has 1, now 7" in output


def test_a_stage_needs_the_stages_before_it(digits_config: Path, tmp_path: Path) -> None:
    """Catches `recover` on an empty store starting Ray only to fail in every unit."""
    code, output = invoke("recover", digits_config, "--store", tmp_path / "run")
    assert code == 2
    assert "prism-ray squeeze" in output


def test_relative_paths_are_refused_in_a_job(
    digits_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a run stored in the temporary folder of a Ray job, lost with it."""
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    code, output = invoke("distill", digits_config)
    assert code == 2
    assert "store = './runs/digits-ipc10' is relative" in output
    assert "--store" in output


def test_config_show_and_schema(digits_config: Path) -> None:
    """Catches a resolved config that does not load again, and settings without a description."""
    code, output = invoke("config", "show", digits_config, "--set", "recover.ipc=2")
    assert code == 0
    assert yaml.safe_load(output)["image_sets"]["distilled"]["ipc"] == 2
    assert yaml.safe_load(output)["image_sets"]["distilled"]["betas"] == [0.5, 0.9]
    code, output = invoke("config", "schema")
    schema = json.loads(output)
    models = [schema, *schema["$defs"].values()]
    assert all(
        "description" in field or "$ref" in field for m in models for field in m["properties"].values()
    )


def test_status_is_light(
    cli: Callable[..., "subprocess.CompletedProcess[str]"], digits_config: Path, tmp_path: Path
) -> None:
    """Catches an import of torch, Ray or scikit-learn on the way to `status`."""
    store = tmp_path / "run"
    config = load_config(digits_config, store=str(store))
    save_run(StoreFiles(str(store)), new_run(config, open_data(config.data).facts(), 1))
    result = cli("status", store, **TELL_IMPORTS)
    assert result.returncode == 3
    assert not imports_told(result.stderr) & {"torch", "ray", "sklearn"}


@pytest.mark.ray
def test_no_cluster_and_no_store_are_found_at_once(
    cli: Callable[..., "subprocess.CompletedProcess[str]"], digits_config: Path, tmp_path: Path
) -> None:
    """Catches minutes of silence for an address where no Ray is, and starting Ray for an unwritable store."""
    result = cli(
        "distill", digits_config, "--store", tmp_path / "run", timeout=60.0, RAY_ADDRESS="127.0.0.1:1"
    )
    assert result.returncode == 1
    assert "RAY_ADDRESS = 127.0.0.1:1 cannot be reached" in result.stderr
    (tmp_path / "file").write_text("not a folder")
    result = cli("distill", digits_config, "--store", tmp_path / "file" / "run")
    assert result.returncode == 2
    assert f"{tmp_path / 'file'} is a file, not a folder" in result.stderr
    assert "starting Ray" not in result.stdout


def test_methods_and_protocols_are_listed() -> None:
    """Catches a method that can be run but not found."""
    code, output = invoke("methods")
    assert code == 0
    for name in ("prism", "sre2l", "g-vbsm", "edc", "delt", "cv-dd", "lpld", "rded", "random-real"):
        assert re.search(rf"^{name} ", output, re.MULTILINE)
    code, output = invoke("methods", "--json")
    assert {"name": "rded", "protocol": "rded"}.items() <= json.loads(output)["methods"][7].items()


def test_the_pool_is_measured_without_a_store(digits_config: Path, tmp_path: Path) -> None:
    """Catches a pool that can be looked at only when it has been paid for."""
    command = ["teachers", digits_config, "--store", tmp_path / "run", "--batch-size", "2", "--json"]
    code, output = invoke(*command)
    assert code == 0
    networks = json.loads(output)["networks"]
    assert [network["name"] for network in networks] == ["efficientnet", "byobnet", "densenet", "resnet"]
    assert all(network["flops"] > 0 and network["step_bytes"] > 0 for network in networks)
    assert not (tmp_path / "run").exists()


def test_the_pools_next_command_is_for_the_same_run(digits_config: Path, tmp_path: Path) -> None:
    """Catches a plan of another run than the one that was measured."""
    pool = "teachers.pool=[{name: resnet, arch: 'timm:test_resnet'}]"
    options = ["--set", pool, "--store", str(tmp_path / "run")]
    code, output = invoke("teachers", digits_config, "--batch-size", "2", *options)
    assert code == 0
    assert output.endswith(f"Next: {shlex.join(['prism-ray', 'plan', str(digits_config), *options])}\n")


def begun(config_path: Path, store: Path) -> StoreFiles:
    """Return the store of a run that was begun, with nothing done."""
    files = StoreFiles(str(store))
    config = load_config(config_path, store=str(store))
    save_run(files, new_run(config, open_data(config.data).facts(), 1))
    return files


@pytest.mark.parametrize("command", ["status", "verify", "failures", "show", "gc"])
def test_commands_on_a_store_that_is_not_there(command: str, tmp_path: Path) -> None:
    """Catches `0 failures` for a misspelt path, and files written into it."""
    code, output = invoke(command, tmp_path / "nowhere")
    assert code == 2
    assert "nowhere" in output
    assert not (tmp_path / "nowhere").exists()


def test_failures_are_shown_and_set_back(digits_config: Path, tmp_path: Path) -> None:
    """Catches a unit that failed for good and of which nobody can say why, or that never comes back."""
    files = begun(digits_config, tmp_path / "run")
    code, output = invoke("failures", files.location)
    assert code == 0
    assert output.startswith("No attempt failed.")
    assert "/failures" not in output
    failure = Failure("recover/a/b", "EngineError", "not finite\nby far", "Traceback", "node-7")
    record_failure(files, failure)
    set_aside(files, failure)
    code, output = invoke("failures", files.location)
    assert code == 0
    assert "node-7  recover/a/b  EngineError: not finite\n" in output
    assert "set aside: recover/a/b" in output
    assert f"Next: prism-ray retry --failed {files.location}" in output
    found = json.loads(invoke("failures", files.location, "--json")[1])
    assert found["set_aside"] == ["recover/a/b"]
    assert found["failures"][0]["traceback"] == "Traceback"

    for arguments in ([], ["recover/a/b", "--failed"]):
        code, output = invoke("retry", files.location, *arguments)
        assert code == 2
        assert "--failed for all" in output
    code, output = invoke("retry", files.location, "recover/a/c")
    assert code == 2
    assert "'recover/a/c' is neither done nor set aside; the units set aside are recover/a/b" in output
    code, output = invoke("retry", files.location, "recover/a/b")
    assert (code, output.splitlines()[0]) == (0, "1 unit is pending again")
    assert json.loads(invoke("failures", files.location, "--json")[1])["set_aside"] == []


def test_repair_waits_for_no_run(digits_config: Path, tmp_path: Path) -> None:
    """Catches a unit set back behind the back of a run that counts on it."""
    files = begun(digits_config, tmp_path / "run")
    files.create("commits/squeeze/resnet.json", b"{}")
    with Lease(files, 0.5, print):
        code, output = invoke("verify", files.location, "--repair")
        assert code == 1
        assert "is working on this store" in output
        assert files.exists("commits/squeeze/resnet.json")
        assert invoke("verify", files.location)[0] == 3
    assert invoke("verify", files.location, "--repair")[0] == 3
    assert not files.exists("commits/squeeze/resnet.json")


def test_gc_deletes_what_nothing_needs_and_waits_for_runs(digits_config: Path, tmp_path: Path) -> None:
    """Catches files that pile up for ever, and a collector beside a run that is writing them."""
    files = begun(digits_config, tmp_path / "run")
    files.create("images/part-a-0.parquet", b"12345")
    code, output = invoke("gc", files.location)
    assert (code, output.splitlines()[-2]) == (0, "0 files, 0 bytes deleted")
    code, output = invoke("gc", files.location, "--older-than", "0", "--dry-run")
    assert (code, output.splitlines()[-2]) == (0, "1 file, 5 bytes would be deleted")
    with Lease(files, 0.5, print):
        code, output = invoke("gc", files.location, "--older-than", "0")
    assert code == 1
    assert "is working on this store" in output
    assert files.exists("images/part-a-0.parquet")
    code, output = invoke("gc", files.location, "--older-than", "0")
    assert (code, output.splitlines()[-2]) == (0, "1 file, 5 bytes deleted")
    assert not files.exists("images/part-a-0.parquet")


def test_an_old_name_of_a_key_is_noted_once_on_stderr(digits_config: Path, tmp_path: Path) -> None:
    """Catches a warning with a line of our source, a note per use, or one in what a script reads."""
    shown = ["config", "show", str(digits_config), "--json", "--set", "evaluate.seeds=5"]
    result = CliRunner().invoke(main, [*shown, "--set", "evaluate.seeds=6"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["evaluations"]["student"]["num_students"] == 6
    assert result.stderr == (
        "note: evaluate.seeds is now called evaluate.num_students; the old name is read until 1.0 "
        "(--set evaluate.seeds=6)\n"
    )


def test_export_takes_an_image_set_under_both_names_of_the_option(tmp_path: Path) -> None:
    """Catches a script with the old `export --set NAME` that breaks, or the old name in the help."""
    files = StoreFiles(str(tmp_path / "run"))
    facts = replace(facts_of(3), channels=1)
    finish(files, new_run(config_of(1, recover__ipc=1, data__image_size=8, relabel__epochs=2), facts, 1))
    outputs = {}
    for option in ("--image-set", "--set"):
        words = ["export", files.location, "--to", str(tmp_path / option), option, "random-real"]
        result = CliRunner().invoke(main, words)
        assert (result.exit_code, result.output.count("3 images of random-real")) == (0, 1)
        outputs[option] = result.stderr
    assert outputs["--image-set"] == ""
    assert outputs["--set"] == (
        "note: --set is now called --image-set; the old name is read until 1.0 (--set random-real)\n"
    )
    both = ["--image-set", "distilled", "--set", "distilled"]
    code, output = invoke("export", files.location, "--to", tmp_path / "both", *both)
    assert (code, "--set and --image-set" in output) == (2, True)
    assert "--set" not in invoke("export", "--help")[1]
