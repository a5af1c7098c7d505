"""YAML and options in, Config out; every complaint names file or option, key and value."""

from pathlib import Path

import pytest
import yaml

from prism_ray.config import DISTILLED, Config, RecoverConfig, load_config
from tests.config.loading import JOBS, complaint, write


def distilled_of(config: Config) -> RecoverConfig:
    """Return the one image set of a config that names none."""
    distilled = config.image_sets[DISTILLED]
    assert isinstance(distilled, RecoverConfig)
    return distilled


# The file


@pytest.mark.parametrize("job", JOBS, ids=lambda path: path.name)
def test_every_job_loads(job: Path) -> None:
    """A job that a change of the settings broke, found by the first user who submits it."""
    config = load_config(job)
    assert load_config(job, ["seed=7"]).seed == 7
    assert config.data.image_size >= 1


def test_there_are_jobs() -> None:
    """A glob that finds nothing would make the test above pass for ever."""
    assert {"digits.yaml", "digits-ipc10.yaml", "image-folder.yaml"} <= {job.name for job in JOBS}


@pytest.mark.parametrize("name", ["digits.yaml", "image-folder.yaml"])
def test_a_first_job_compares_with_the_images_that_it_starts_from(name: str) -> None:
    """A first run without a control, so without a verdict, or one whose sets start from other images."""
    image_sets = list(load_config(next(job for job in JOBS if job.name == name)).image_sets.values())
    assert [each.method for each in image_sets].count("random-real") == 1
    assert {"prism", "random-real"} <= {each.method for each in image_sets}
    assert {(each.ipc, each.replicate, each.init) for each in image_sets} == {
        (image_sets[0].ipc, 0, "random")
    }


def test_a_missing_file_suggests_its_neighbour(config_path: Path) -> None:
    """A typing error in the file's name, answered with a traceback."""
    wrong = config_path.with_name("minimla.yaml")
    assert complaint(wrong) == f"{wrong}: no such file; did you mean {config_path}?"
    nowhere = config_path.parent / "nowhere" / "minimal.yaml"
    assert complaint(nowhere) == f"{nowhere}: no such file"


def test_a_folder_or_binary_file_is_refused(tmp_path: Path) -> None:
    """`prism-ray distill runs/digits` in place of the config ends in IsADirectoryError."""
    assert complaint(tmp_path).startswith(f"{tmp_path}: cannot be read as text: ")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00\x01")
    assert complaint(binary).startswith(f"{binary}: cannot be read as text: ")


@pytest.mark.parametrize(
    ("text", "shown"), [("", "None"), ("# nothing\n", "None"), ("- a\n", "['a']"), ("word", "'word'")]
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str, shown: str) -> None:
    """An empty or wrong file gives an AttributeError."""
    path = write(tmp_path / "c.yaml", text)
    assert complaint(path) == f"{path}: a config is a mapping of keys to values, got {shown}"


def test_bad_yaml_is_reported_with_line_and_column(config_path: Path, minimal: str) -> None:
    """A syntax error without a place, in a file of 200 lines."""
    write(config_path, minimal.replace("  image_size: 32", "  image_size: 32: 33"))
    assert complaint(config_path).startswith(f"{config_path}:4:17: not valid YAML: ")


@pytest.mark.parametrize(
    "text",
    [
        "a: \x00",
        "a: 1\n---\nb: 2\n",
        "? [a]\n: 1\n",
        "a: *nowhere\n",
        "a: !!python/object:os.system {}\n",
        "\ta: 1\n",
        "a: &x [*x]\n",
        "a: !!binary aGk=\n",
        "a: !!set {x}\n",
        "? 2020-01-01\n: 1\n",
    ],
)
def test_odd_yaml_is_a_config_error(tmp_path: Path, text: str) -> None:
    """A control character, a second document, a cycle or a foreign tag ends in a traceback."""
    path = write(tmp_path / "c.yaml", text)
    assert complaint(path).startswith(f"{path}")


def test_a_key_given_twice_is_refused(config_path: Path, minimal: str) -> None:
    """YAML takes the last of two equal keys in silence; the first half of an edit is lost."""
    write(config_path, minimal + "store: elsewhere\n")
    line = minimal.count("\n") + 1
    expected = f"{config_path}:{line}:1: not valid YAML: the key 'store' is given twice"
    assert complaint(config_path) == expected
    write(config_path, minimal.replace("  ipc: 10", "  ipc: 10\n  ipc: 1"))
    assert "the key 'ipc' is given twice" in complaint(config_path)


def test_merge_keys_are_no_duplicates(config_path: Path, minimal: str) -> None:
    """A key overridden beside `<<` is what merging is for; it is given once."""
    text = minimal.replace(
        'arch: "timm:test_resnet"}\n    -', 'arch: "timm:test_resnet", kwargs: &k {w: 1, v: 1}}\n    -'
    )
    text = text.replace("{growth_rate: 8}", "{<<: *k, w: 2}")
    kwargs = [teacher.kwargs for teacher in load_config(write(config_path, text)).teachers.pool]
    assert kwargs == [{"w": 1, "v": 1}, {"w": 2, "v": 1}]


def test_a_merge_of_a_merge_is_no_duplicate(config_path: Path, minimal: str) -> None:
    """A merged mapping that is merged once more: flattening puts the inner keys beside their overrides."""
    text = minimal.replace(
        'arch: "timm:test_resnet"}\n    -', 'arch: "timm:test_resnet", kwargs: &k {w: 1}}\n    -'
    )
    text = text.replace("{growth_rate: 8}", "&m {<<: *k, w: 2}")
    text = text.replace('student: {arch: "timm:test_resnet"', 'student: {arch: "timm:x", kwargs: {<<: *m}')
    config = load_config(write(config_path, text))
    assert config.teachers.pool[1].kwargs == {"w": 2}
    assert config.evaluations["student"].student.kwargs == {"w": 2}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1E-3", 1e-3),
        ("+2e0", 2.0),
        ("1.5e2", 150.0),
        ("2.e1", 20.0),
        ("1", 1.0),
        (".5", 0.5),
        ("1.0e-3", 1e-3),
        (".5e2", 50.0),
    ],
)
def test_numbers_are_read_as_numbers(config_path: Path, minimal: str, text: str, value: float) -> None:
    """YAML 1.1 reads 1e-3 as text, and the user is told that a number should be a number."""
    write(config_path, minimal.replace("  ipc: 10", f"  ipc: 10\n  learning_rate: {text}"))
    config = load_config(config_path)
    distilled = distilled_of(config)
    assert distilled.learning_rate == value
    assert isinstance(distilled.learning_rate, float)
    assert (
        load_config(config_path, [f"evaluate.learning_rate={text}"]).evaluations["student"].learning_rate
        == value
    )


@pytest.mark.parametrize("text", ["e3", "1e", "1e3x", "x1e3"])
def test_words_that_resemble_numbers_stay_text(config_path: Path, text: str) -> None:
    """A pattern for numbers that swallows names."""
    assert load_config(config_path, [f"store={text}"]).store == text


@pytest.mark.parametrize("text", ["2026-01-31", "2026-01-31 12:00:00", "2026-01-31T12:00:00Z"])
def test_dates_are_text(config_path: Path, text: str) -> None:
    """A store named by its date becomes a datetime and is refused, or is renamed."""
    assert load_config(config_path, [f"store={text}"]).store == text


def test_yamls_own_loader_is_left_alone() -> None:
    """Rules added to the class of everyone else in the process."""
    assert yaml.safe_load("1e-3") == "1e-3"
    assert not isinstance(yaml.safe_load("2026-01-31"), str)
    assert yaml.safe_load("{a: 1, a: 2}") == {"a": 2}


# Options


def test_options_lie_over_the_file(config_path: Path) -> None:
    """An option that is lost, or that wipes its section."""
    config = load_config(
        config_path, ["recover.iterations=50", "recover.iterations_step=5", "seed=3", "relabel.epochs=7"]
    )
    assert (distilled_of(config).iterations, config.seed, config.relabel.epochs) == (50, 3, 7)
    assert distilled_of(config).ipc == 10
    assert config.relabel.images_per_group == 1000


def test_the_last_of_two_options_counts(config_path: Path) -> None:
    """`--set` after a script's own options cannot change them."""
    assert load_config(config_path, ["seed=1", "seed=2"]).seed == 2
    assert "--set seed=x" in complaint(config_path, "seed=1", "seed=x")


def test_options_reach_into_lists(config_path: Path) -> None:
    """A teacher of the pool that only the file can change."""
    config = load_config(
        config_path,
        ["teachers.pool.1.name=renamed", "teachers.pool.1.kwargs.growth_rate=4", "recover.crop_scale.0=0.25"],
    )
    assert config.teachers.pool[1].name == "renamed"
    assert config.teachers.pool[1].kwargs == {"growth_rate": 4}
    assert config.teachers.pool[0].name == "first"
    assert distilled_of(config).crop_scale == (0.25, 1.0)


def test_an_option_changes_one_place_of_a_shared_mapping(config_path: Path, minimal: str) -> None:
    """YAML gives an alias the very object of its anchor: a change of one teacher changes both."""
    text = minimal.replace(
        'arch: "timm:test_resnet"}\n    -', 'arch: "timm:test_resnet", kwargs: &k {w: 1}}\n    -'
    )
    write(config_path, text.replace("{growth_rate: 8}", "*k"))
    config = load_config(config_path, ["teachers.pool.0.kwargs.w=2"])
    assert [teacher.kwargs for teacher in config.teachers.pool] == [{"w": 2}, {"w": 1}]


def test_an_option_makes_the_sections_that_it_needs(config_path: Path) -> None:
    """A setting of a section that the file leaves out cannot be given."""
    assert load_config(config_path, ["orchestrate.actors=4"]).orchestrate.actors == 4
    assert load_config(config_path, ["teachers.squeeze.epochs=4"]).teachers.squeeze.epochs == 4


def test_an_options_value_is_yaml(config_path: Path) -> None:
    """Lists and mappings that a shell user cannot write, or an '=' in the value that cuts it short."""
    assert distilled_of(load_config(config_path, ["recover.crop_scale=[0.1, 0.2]"])).crop_scale == (0.1, 0.2)
    assert load_config(config_path, ["store=s3://bucket/a=b"]).store == "s3://bucket/a=b"
    assert load_config(config_path, [" seed =3"]).seed == 3


@pytest.mark.parametrize("override", ["recover.ipc", "=3", "recover..ipc=3", ".ipc=3", "recover.=3", ""])
def test_an_option_that_is_no_assignment_is_refused(config_path: Path, override: str) -> None:
    """`--set recover.ipc 5` sets ipc to nothing."""
    message = complaint(config_path, override)
    assert message == f"--set {override}: expected key=value, for example recover.ipc=1"


@pytest.mark.parametrize("place", ["2", "-1", "x", "²"])
def test_a_bad_index_in_a_list_is_refused(config_path: Path, place: str) -> None:
    """IndexError, or the last teacher changed by -1."""
    message = complaint(config_path, f"teachers.pool.{place}.name=x")
    expected = f"{place!r} is not an index in teachers.pool, a list of 2; use 0 to 1"
    assert message == f"--set teachers.pool.{place}.name=x: {expected}"


def test_an_option_below_a_plain_value_is_refused(config_path: Path) -> None:
    """TypeError: 'str' object does not support item assignment."""
    override = "data.source.folder=x"
    assert complaint(config_path, override) == f"--set {override}: data.source is 'digits' and has no keys"


def test_bad_yaml_in_an_option_names_the_option(config_path: Path) -> None:
    """A syntax error said to be in the file."""
    assert complaint(config_path, "recover.crop_scale=[1").startswith("--set recover.crop_scale=[1")


def test_the_store_option_overrides_everything(config_path: Path) -> None:
    """A run that goes on writing into the store of the file."""
    assert load_config(config_path, ["store=a"], store="s3://bucket/run").store == "s3://bucket/run"
    assert load_config(config_path).store == "./runs/minimal"


def test_the_store_option_is_text(config_path: Path) -> None:
    """A store called 5 or 2026-01-31 on the command line is parsed as YAML."""
    assert load_config(config_path, store="5").store == "5"
    assert load_config(config_path, store="1e3").store == "1e3"


def test_a_check_of_a_section_names_the_file_and_the_option(config_path: Path) -> None:
    """A rule over several keys that blames the file alone, though the option broke it."""
    message = complaint(config_path, "recover.iterations_step=100", "seed=1")
    assert message.startswith(f"{config_path} with --set recover.iterations_step=100: recover: ")
