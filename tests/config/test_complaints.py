"""Keys and values that are refused: each is named, with what was probably meant."""

from pathlib import Path

import pytest

from tests.config.loading import complaint, write


@pytest.mark.parametrize(
    ("override", "suggestion"),
    [
        ("recover.iteration=5", "recover.iterations"),
        ("recover.lerning_rate=5", "recover.learning_rate"),
        ("evaluate.lerning_rate=5", "evaluate.learning_rate"),
        ("teachers.squeeze.epoch=5", "teachers.squeeze.epochs"),
        ("relabel.epoch=5", "relabel.epochs"),
        ("teachers.pool.1.achr=5", "teachers.pool.1.arch"),
        ("evaluate.student.kwarg={}", "evaluate.student.kwargs"),
        ("recovr.ipc=5", "recover"),
        ("ipc=5", "recover.ipc"),
        ("data.primary=first", "recover.primary"),
        ("orchestrate.image_size=5", "data.image_size"),
    ],
)
def test_an_unknown_key_suggests_the_nearest_in_the_right_section(
    config_path: Path, override: str, suggestion: str
) -> None:
    """A misspelt setting is ignored, or answered with the key of another section."""
    message = complaint(config_path, override)
    key, _, value = override.partition("=")
    assert message.endswith(f"unknown key; did you mean {suggestion}?")
    if key != "recovr.ipc":
        assert message.startswith(f"--set {override}: {key} = ")
    assert value in message


def test_an_unknown_key_of_the_file_names_the_file(config_path: Path, minimal: str) -> None:
    """A complaint that does not say which of the configs is meant."""
    write(config_path, minimal.replace("  ipc: 10", "  ipc: 10\n  iteration: 5"))
    expected = f"{config_path}: recover.iteration = 5: unknown key; did you mean recover.iterations?"
    assert complaint(config_path) == expected


def test_an_unknown_key_like_no_other_lists_the_keys(config_path: Path) -> None:
    """No hint at all for a key that resembles none."""
    message = complaint(config_path, "orchestrate.zzzzzz=1")
    assert "unknown key; the keys here are actors, gpus_per_actor, " in message


@pytest.mark.parametrize("key", ["int", "pool[0]"])
def test_an_unknown_key_named_like_a_type_is_refused_too(config_path: Path, key: str) -> None:
    """The key is taken for pydantic's mark of a union's member: IndexError in place of a complaint."""
    assert f"--set {key}=1: {key} = 1: unknown key" in complaint(config_path, f"{key}=1")


def test_a_place_in_brackets_is_answered_with_the_list(config_path: Path) -> None:
    """`teachers.pool[0].name`, as Python writes it, is called an unknown key 'teachers'."""
    message = complaint(config_path, "teachers.pool[0].name=x")
    assert ": teachers.pool[0] = " in message
    assert message.endswith("did you mean teachers.pool?")


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("recover.ipc=ten", "recover.ipc = 'ten': must be a whole number"),
        ("recover.ipc='10'", "recover.ipc = '10': must be a whole number"),
        ("recover.ipc=10.0", "recover.ipc = 10.0: must be a whole number"),
        ("recover.ipc=true", "recover.ipc = True: must be a whole number"),
        ("recover.ipc=", "recover.ipc = None: must be a whole number"),
        ("recover.flip=yes please", "recover.flip = 'yes please': must be true or false"),
        ("recover.flip=1", "recover.flip = 1: must be true or false"),
        ("store=true", "store = True: must be text; put text in quotes"),
        ("recover.learning_rate=fast", "recover.learning_rate = 'fast': must be a number"),
        ("recover.crop_scale.0=x", "recover.crop_scale.0 = 'x': must be a number"),
        ("recover=5", "recover = 5: "),
    ],
)
def test_a_wrong_type_is_refused_with_option_key_and_value(
    config_path: Path, override: str, problem: str
) -> None:
    """A value is bent to the type in silence, or refused without saying which."""
    assert complaint(config_path, override).startswith(f"--set {override}: {problem}")


@pytest.mark.parametrize(
    ("override", "suggestion"),
    [
        ("data.source=digit", "'digits'"),
        ("data.source=imagefolder", "'image-folder'"),
        ("recover.init=nose", "'noise'"),
        ("teachers.pool.0.stem=smal", "'small'"),
    ],
)
def test_a_wrong_word_suggests_the_right_one(config_path: Path, override: str, suggestion: str) -> None:
    """A misspelt choice is answered with the list alone, or taken for the default."""
    message = complaint(config_path, override)
    assert message.startswith(f"--set {override}: {override.partition('=')[0]} = ")
    assert message.endswith(f"; did you mean {suggestion}?")


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("store: ./runs/minimal", "store"),
        ("  ipc: 10", "recover.ipc"),
        ("  image_size: 32", "data.image_size"),
    ],
)
def test_a_missing_key_is_named_with_what_it_means(
    config_path: Path, minimal: str, line: str, key: str
) -> None:
    """'Field required' without a name, or without a word on what belongs there."""
    write(config_path, minimal.replace(f"{line}\n", ""))
    assert complaint(config_path).startswith(f"{config_path}: {key} is missing (")


def test_every_wrong_key_has_its_line(config_path: Path) -> None:
    """A user who mends one mistake per attempt."""
    message = complaint(config_path, "recover.ipc=ten", "seed=-1", "data.bogus_thing=1")
    lines = message.splitlines()
    assert len(lines) == 3
    assert [sum(key in line for line in lines) for key in ("recover.ipc", "seed", "data.bogus_thing")] == [
        1
    ] * 3
