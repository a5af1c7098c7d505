"""All keys of a config with all kinds of wrong values: each error is a sentence that helps."""

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from prism_ray.config import Config, EvaluateConfig, RecoverConfig, load_config, parse_config
from prism_ray.config.complaints import EXAMPLES, _all_keys, _find_model
from prism_ray.errors import ConfigError
from tests.config.loading import complaint, write

# Sections that a value of the other form may stand for.
EXTRA = ["store.url", "store.image_format", "orchestrate.actors.min", "orchestrate.actors.max"]
KEYS = sorted(
    {key for key in _all_keys(Config) if key.partition(".")[0] not in ("image_sets", "evaluations", "store")}
    | {f"recover.{key}" for key in _all_keys(RecoverConfig)}
    | {f"evaluate.{key}" for key in _all_keys(EvaluateConfig)}
    | {"store", "image_sets", "evaluations", *EXTRA}
)
WRONG = [
    "zz zz", "-1", "0", "1.5", ".inf", "true", "null", "[]", "[1]", "[a, b, c, d]", "{}", "{a: b}", "{0: {}}",
    "-7.25", "1e400", "''", "[[1, 2], [3]]", "{A b: {x: 1}}", "99999999999999999999999",
]  # fmt: skip
MINIMAL: dict[str, Any] = {
    "store": "./runs/minimal",
    "data": {"source": "digits", "image_size": 32},
    "teachers": {"pool": [{"name": "first", "arch": "timm:x"}, {"name": "second", "arch": "timm:x"}]},
    "recover": {"ipc": 10, "primary": "first"},
    "evaluate": {"student": {"arch": "timm:x"}},
}
RAW = re.compile(r"should (be|match|have)|Input |pattern|Traceback|pydantic|Field required|\^\[|validator")
REMEDY = re.compile(r"must be|; |leave|set |remove|is missing|did you mean|for example|lower|write")


def path_of(key: str) -> str:
    """Return a key with the index of a teacher, as an option takes it."""
    return key.replace("teachers.pool.", "teachers.pool.0.")


def problem_with(path: Path, key: str, value: str) -> str | None:
    """Return the message if the value is refused, None if it is right for the key."""
    try:
        load_config(path, [f"{path_of(key)}={value}"])
    except ConfigError as error:
        return str(error)
    return None


@pytest.mark.parametrize("key", KEYS)
def test_every_wrong_value_of_every_key_has_a_sentence(key: str, config_path: Path) -> None:
    """Catches a raw pattern, a message without key or value, or a traceback for one of 100 keys."""
    refused = 0
    for value in WRONG:
        message = problem_with(config_path, key, value)
        if message is None:
            continue
        refused += 1
        assert not RAW.search(message), message
        assert key.rpartition(".")[2] in message or "actors.max is missing" in message, message
        assert f"--set {path_of(key)}={value}" in message or "actors.max is missing" in message, message
        assert REMEDY.search(message), message
    assert refused


@settings(max_examples=150)
@given(
    key=st.sampled_from(KEYS),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=5,
    ),
)
def test_no_value_of_any_kind_ends_in_a_traceback(key: str, value: Any) -> None:
    """Catches a value of a kind that nobody thought of: an exception of another class than ConfigError."""
    config = copy.deepcopy(MINIMAL)
    node: Any = config
    *sections, name = path_of(key).split(".")
    for section in sections:
        if isinstance(node, dict) and not isinstance(node.get(section), dict | list):
            node[section] = {}
        node = node[int(section)] if isinstance(node, list) else node[section]
    node[name] = value
    message = ""
    try:
        parse_config(config, "config.yaml")
    except ConfigError as error:
        message = str(error)
    assert not RAW.search(message.replace(repr(value), ""))


def test_every_key_without_a_default_has_an_example() -> None:
    """Catches a new key whose error says what is wrong and shows nothing that is right."""
    without = set()
    for model in models(Config):
        for name, field in model.model_fields.items():
            default = None if field.is_required() else field.get_default(call_default_factory=True)
            is_choice = "Literal" in str(field.annotation)
            if default in (None, (), {}) and not is_choice and name not in EXAMPLES:
                without.add(f"{model.__name__}.{name}")
    assert without == set()


def models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        inner = _find_model(field.annotation)
        if inner is not None:
            yield from models(inner)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "orchestrate.actors={mn: 1, max: 4}",
            "orchestrate.actors.mn = 1: unknown key; did you mean orchestrate.actors.min?",
        ),
        ("relabel.teachers=[true]", "relabel.teachers.0 = True: must be text; put text in quotes"),
        (
            "recover.crop_scale=[0.5]",
            "recover.crop_scale = [0.5]: must be a list of 2 values; for example crop_scale: [0.08, 1.0]",
        ),
        (
            "teachers.pool.0.arch=resnet18",
            "teachers.pool.0.arch = 'resnet18': must be timm:<architecture> or torchvision:<architecture>; "
            "for example arch: timm:resnet18",
        ),
    ],
)
def test_what_is_wrong_is_said_once_and_where_it_is(override: str, message: str, config_path: Path) -> None:
    """Catches the other forms that a value could have had beside what is wrong with the given form."""
    assert complaint(config_path, override) == f"--set {override}: {message}"


@pytest.mark.parametrize("name", ["recover", "evaluate", "data", "teachers"])
def test_a_misspelt_section_is_the_one_complaint(name: str, config_path: Path, minimal: str) -> None:
    """Catches six `is missing` lines before the typo that they follow from."""
    write(config_path, minimal.replace(f"{name}:", f"{name[:-1]}:"))
    message = complaint(config_path)
    assert "is missing" not in message
    assert len(message.splitlines()) == 1
    assert f"{config_path}: {name[:-1]} = " in message
    assert message.endswith(f"did you mean {name}?")


def test_a_misspelt_key_stands_before_what_else_is_wrong(config_path: Path, minimal: str) -> None:
    """Catches a typo that is the third line, and a missing key that hides because another one is misspelt."""
    text = minimal.replace("  ipc: 10", "  icp: 10").replace("  image_size: 32\n", "")
    write(config_path, text)
    lines = complaint(config_path, "seed=-1").splitlines()
    assert "recover.icp = 10: unknown key; did you mean recover.ipc?" in lines[0]
    assert not any("recover.ipc is missing" in line for line in lines)
    assert sum("data.image_size is missing" in line for line in lines) == 1
    assert len(lines) == 3


def test_shared_and_named_sections_stand_for_each_other(config_path: Path, minimal: str) -> None:
    """Catches `recover.ipc is missing` for a config whose image_sets are misspelt."""
    text = minimal.replace("recover:", "image_sts:\n  one:").replace("\n  ipc", "\n    ipc")
    write(config_path, text.replace("\n  primary", "\n    primary"))
    message = complaint(config_path)
    assert "did you mean image_sets?" in message.splitlines()[0]
    assert "ipc is missing" not in message
