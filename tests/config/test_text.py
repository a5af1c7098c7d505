"""The text of a config: what is too much, too deep or no plain data is refused, and nothing in it runs."""

from pathlib import Path

import pytest
import yaml

from prism_ray.config import dump_config, load_config
from prism_ray.config.text import parse_value, parse_yaml, shown, to_yaml
from prism_ray.errors import ConfigError
from tests.config.loading import complaint, write
from tests.effort import counted_calls


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
    with counted_calls() as calls:
        message = complaint(config_path)
    assert calls.number < 10**6
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
    with pytest.raises(ConfigError, match=r"evaluate\.protocol: '\.nan' is not a protocol"):
        load_config(config_path, ["evaluate.protocol=.nan"])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0777", 777),
        ("010", 10),
        ("-0777", -777),
        ("+12", 12),
        ("08", 8),
        ("0", 0),
        ("0o17", 15),
        ("0x1F", 31),
        ("1e-3", 0.001),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("-.5", -0.5),
        ("5.", 5.0),
        (".inf", float("inf")),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("null", None),
        ("Null", None),
        ("12:30:45", "12:30:45"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("yes", "yes"),
        ("No", "No"),
        ("on", "on"),
        ("OFF", "OFF"),
        ("y", "y"),
        ("tRue", "tRue"),
        ("0o9", "0o9"),
        ("1.2.3", "1.2.3"),
        ("2026-01-31", "2026-01-31"),
    ],
)
def test_plain_values_are_those_of_yaml_1_2(text: str, value: object) -> None:
    """`seed: 0777` was 511, `--set recover.ipc=010` was 8, and 12:30:45 was 45,045."""
    for found in (parse_yaml(f"a: {text}", "x")["a"], parse_value(text, "x")):
        assert found == value
        assert isinstance(found, type(value))
        assert isinstance(found, bool) == isinstance(value, bool)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "data/base #2",
            "a: b",
            "a # b",
            "#x",
            "*",
            "&a",
            "!x",
            "- a",
            "-",
            "|",
            ">",
            "? a",
            "%x",
            "@x",
            "`x`",
        ),
        *("a\tb", " a", "a ", "<<", "=", "it's", 'say "x"', "a, b", "x]", "}", "\\n", "ü", "---", "..."),
    ],
)
def test_the_value_of_an_option_is_taken_as_typed(config_path: Path, text: str) -> None:
    """`--set "data.path=data/base #2"` read data/base: images of another folder, without a word."""
    assert load_config(config_path, [f"store={text}"]).store == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[0.5,1]", [0.5, 1]),
        (" [a, 'b #2'] ", ["a", "b #2"]),
        ("{a: 1, b: [c]}", {"a": 1, "b": ["c"]}),
        ('"a #2"', "a #2"),
        ("'5'", "5"),
        ("'it''s'", "it's"),
        ('"\\t"', "\t"),
        ("", None),
    ],
)
def test_lists_mappings_and_quoted_text_are_yaml(text: str, value: object) -> None:
    """A list that is read as text, or text in quotes that keeps them."""
    assert parse_value(text, "x") == value


@pytest.mark.parametrize(
    "text", ["[old] photos", "[a] #2", "'a' b", '"a', "{x", "[a #2]", "[a]]", "{a: 1} # b"]
)
def test_what_begins_as_yaml_and_is_none_is_refused(config_path: Path, text: str) -> None:
    """Half of a folder's name, taken for a list."""
    message = complaint(config_path, f"store={text}")
    assert message.startswith(f"--set store={text}: not valid YAML: ")
    quoted = message.partition("if it is meant as text, put it in quotes: ")[2]
    assert load_config(config_path, [f"store={quoted}"]).store == text


def test_a_bomb_in_an_option_is_refused() -> None:
    """An option that fills the memory, because only files were protected."""
    for text in ("[" * 100_000, "[" + "1," * 500_000 + "]", "{a: 1, a: 2}", "[!!python/name:os.system x]"):
        with pytest.raises(ConfigError, match="not valid YAML"):
            parse_value(text, "x")


@pytest.mark.parametrize("text", ["5", "007", "0777", "1e3", "0x1F", "-.5", "08"])
def test_a_number_where_text_is_due_is_taken_as_written(config_path: Path, minimal: str, text: str) -> None:
    """`--set data.path=007` for a folder; config.yaml of an earlier version with a teacher called 08."""
    assert load_config(config_path, [f"store={text}"]).store == text
    assert load_config(config_path, [f"store.url={text}"]).store_url == text
    write(config_path, minimal.replace("./runs/minimal", text))
    assert load_config(config_path).store == text
    if text[0] != "-" and text.islower() | text.isdigit():
        write(config_path, minimal.replace("first", text))
        config = load_config(config_path)
        assert config.teachers.pool[0].name == text
        assert config.primary == text


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("data.download=yes", "data.download = 'yes': must be true or false; use true or false"),
        ("data.download=Off", "data.download = 'Off': must be true or false; use true or false"),
        ("seed=1_000", "seed = '1_000': must be a whole number; write a number such as 1000"),
        ("seed=12:30:45", "seed = '12:30:45': must be a whole number; write a number such as 1000"),
        ("seed=0b11", "seed = '0b11': must be a whole number; write a number such as 1000"),
        (
            "teachers.pool.1.kwargs.bias=no",
            "teachers.pool.1.kwargs.bias = no: is text in YAML 1.2; use true or",
        ),
        (
            "teachers.pool.1.kwargs={w: 1_0}",
            "teachers.pool.1.kwargs.w = 1_0: is text in YAML 1.2; write a number",
        ),
        (
            "evaluate.student.kwargs.bias=on",
            "evaluate.student.kwargs.bias = on: is text in YAML 1.2; use true",
        ),
    ],
)
def test_what_only_yaml_1_1_reads_as_a_value_is_no_silent_text(
    config_path: Path, override: str, hint: str
) -> None:
    """An argument `bias: no` of a network, which would count as true."""
    assert complaint(config_path, override).startswith(f"--set {override}: {hint}")


def test_text_in_quotes_is_accepted_where_it_would_be_unclear(config_path: Path) -> None:
    """A way out that does not exist."""
    config = load_config(config_path, ["teachers.pool.1.kwargs={a: 'no', b: \"1_0\", c: true, d: 010}"])
    assert config.teachers.pool[1].kwargs == {"a": "no", "b": "1_0", "c": True, "d": 10}
    assert load_config(write(config_path, dump_config(config))) == config


def test_a_dump_is_the_same_in_both_versions_of_yaml() -> None:
    """config.yaml that an earlier version of prism-ray, or another tool, reads as other values."""
    texts = [
        "0o7",
        "08",
        "-.5",
        "yes",
        "1_0",
        "1e3",
        "~",
        "",
        "2026-01-01",
        "12:30:45",
        "<<",
        "=",
        "010",
        "No",
    ]
    values = {"texts": texts, "numbers": [0, 511, 1e-5, 1e300, -2.0, float("inf")], "rest": [True, None]}
    dumped = to_yaml(values)
    assert parse_yaml(dumped, "x") == yaml.safe_load(dumped) == values
