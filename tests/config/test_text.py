"""The text of a config: what is too much, too deep or no plain data is refused, and nothing in it runs."""

import time
from pathlib import Path

import pytest

from prism_ray.config import load_config
from prism_ray.config.text import parse_yaml, shown, to_yaml
from prism_ray.errors import ConfigError
from tests.config.loading import complaint, write


def nested_aliases(levels: int, merged: bool = False) -> str:
    """Nine of nine of nine ...: a few hundred bytes that stand for 9 ** levels values."""
    lines = ["a0: &a0 {k: 1}" if merged else "a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    for level in range(1, levels):
        inner = ", ".join([f"*a{level - 1}"] * 9)
        lines.append(f"a{level}: &a{level} " + (f"{{<<: [{inner}]}}" if merged else f"[{inner}]"))
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("merged", [False, True])
def test_aliases_of_aliases_are_counted_before_they_are_made(
    config_path: Path, minimal: str, merged: bool
) -> None:
    """Catches "a billion laughs": 600 bytes of aliases, or of merge keys, that fill the memory."""
    write(config_path, minimal + nested_aliases(12, merged))
    started = time.monotonic()
    message = complaint(config_path)
    assert time.monotonic() - started < 5.0
    assert message.startswith(f"{config_path}:")
    assert "not valid YAML: more than 200,000 values, where each use of an alias counts" in message
    assert parse_yaml(nested_aliases(4, merged), "x")["a3"]


def test_a_long_list_is_not_composed_to_its_end() -> None:
    """Catches a megabyte of values, each of which takes a kilobyte of memory."""
    with pytest.raises(ConfigError, match="more than 200,000 values"):
        parse_yaml("[" + "1," * 500_000 + "]", "x")


def test_a_config_of_ten_megabytes_is_refused_unread(config_path: Path, minimal: str) -> None:
    """Catches minutes in the YAML parser, for any file that is named as a config by mistake."""
    write(config_path, minimal + "# " + "x" * 10 * 2**20)
    assert complaint(config_path) == (
        f"{config_path}: cannot be read as text: it has more than 1,048,576 bytes, the limit of a config"
    )


@pytest.mark.parametrize("text", ["[" * 100_000, "x: " + "{a: " * 100_000, "- " * 1000])
def test_deep_nesting_is_named(text: str) -> None:
    """Catches a RecursionError."""
    with pytest.raises(ConfigError, match=r"^here:1:\d+: not valid YAML: nested more than 50 deep$"):
        parse_yaml(text, "here")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("!!timestamp 2020-99-99", "'2020-99-99' is not a valid timestamp"),
        ("!!int foo", "'foo' is not a valid int"),
        ("!!int ''", "'' is not a valid int"),
        ("!!float foo", "'foo' is not a valid float"),
        ("!!bool foo", "'foo' is not a valid bool"),
        ("9" * 5000, "... (5,002 characters) is not a valid int"),
    ],
)
def test_values_that_are_not_what_their_tag_says_are_named(text: str, problem: str) -> None:
    """Catches the ValueError, KeyError or IndexError of the parser's own."""
    with pytest.raises(ConfigError) as caught:
        parse_yaml(f"a: {text}", "here")
    assert str(caught.value).startswith("here:1:4: not valid YAML: ")
    assert str(caught.value).endswith(problem)


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system ['touch {path}']",
        "!!python/object/new:os.system ['touch {path}']",
        "!!python/name:os.system ''",
        "!!python/module:os ''",
    ],
)
def test_tags_run_nothing(config_path: Path, minimal: str, tag: str, tmp_path: Path) -> None:
    """Catches a loader that makes objects: a config from elsewhere that runs a command."""
    write(config_path, minimal + "seed: " + tag.format(path=tmp_path / "ran"))
    assert "could not determine a constructor for the tag" in complaint(config_path)
    assert not (tmp_path / "ran").exists()


def test_keys_are_text(config_path: Path, minimal: str) -> None:
    """Catches `~:`, `yes:` and `1:` as keys, which JSON calls otherwise, ending in an IndexError."""
    assert parse_yaml("{~: 1, yes: 2, 1: 3, 0x10: 4}", "x") == {"~": 1, "yes": 2, "1": 3, "0x10": 4}
    for key in ("~", "null", "yes", "1.5"):
        write(config_path, minimal + f"{key}: 2\n")
        assert complaint(config_path).startswith(f"{config_path}: {key} = 2: unknown key")


def test_text_that_is_not_unicode_is_refused(config_path: Path, minimal: str) -> None:
    """Catches half a surrogate, which no JSON can carry."""
    write(config_path, minimal + 'seed: "\\ud800"\n')
    assert complaint(config_path).startswith(f"{config_path}: a value is not plain data")


def test_long_values_and_many_wrong_keys_are_cut_short(config_path: Path, minimal: str) -> None:
    """Catches an error of megabytes in a terminal or in a job's log."""
    assert shown("short") == "'short'"
    write(config_path, minimal + "".join(f"k{number}: {'x' * 500}\n" for number in range(1000)))
    message = complaint(config_path)
    assert message.endswith("\nand 950 more")
    assert len(message) < 30_000


def test_yaml_comes_back() -> None:
    """Catches text that is read as a number, and the order of keys."""
    values = {"b": ["1e-3", 1e-3, None, True], "a": {"ü": "yes"}}
    assert parse_yaml(to_yaml(values), "x") == values
    assert list(parse_yaml(to_yaml(values), "x")) == ["b", "a"]


def test_an_evaluation_that_shares_a_protocol_of_nan_is_refused(config_path: Path) -> None:
    """Catches NaN, which differs from itself, taken for a protocol of the evaluation's own."""
    with pytest.raises(ConfigError, match=r"evaluate\.protocol = nan"):
        load_config(config_path, ["evaluate.protocol=.nan"])
