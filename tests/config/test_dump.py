"""Plain values in, and a Config as YAML that loads equal."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from prism_ray.config import Config, dump_config, load_config, parse_config
from prism_ray.errors import ConfigError
from tests.config.loading import JOBS, write


def test_values_that_are_not_plain_data_are_refused() -> None:
    """A set or a date in a dictionary ends in a TypeError of json."""
    with pytest.raises(ConfigError, match="here: a value is not plain data"):
        parse_config({"store": {1, 2}}, "here")


def test_values_that_are_no_mapping_are_refused() -> None:
    """plan.json whose config is a list ends in a traceback."""
    with pytest.raises(ConfigError, match="here"):
        parse_config([1, 2], "here")


def test_a_dump_is_readable_and_complete(config_path: Path) -> None:
    """config.yaml of a store that leaves out the defaults, which the next version may change."""
    config = load_config(config_path)
    values = yaml.safe_load(dump_config(config))
    assert values == json.loads(config.model_dump_json())
    assert values["relabel"]["epochs"] == 300
    assert list(values)[:2] == ["store", "seed"]


NAMES = st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,63}", fullmatch=True)
# Not the line breaks of Unicode, which PyYAML itself folds when it reads them back.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x85\u2028\u2029"), max_size=30)
KWARGS = st.dictionaries(
    TEXT,
    st.one_of(
        st.integers(-(2**53), 2**53),
        st.floats(allow_nan=False, allow_infinity=False),
        st.booleans(),
        TEXT,
        st.lists(st.integers(-10, 10), max_size=3),
        st.none(),
    ),
    max_size=3,
)


@pytest.fixture(scope="module")
def dumped_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dumped") / "config.yaml"


def round_trip(config: Config, path: Path) -> Config:
    return load_config(write(path, dump_config(config)))


@settings(deadline=None, max_examples=80)
@given(
    names=st.lists(NAMES, min_size=1, max_size=4, unique=True),
    store=TEXT,
    kwargs=KWARGS,
    seed=st.integers(0, 2**70),
    rate=st.floats(min_value=0, exclude_min=True, allow_infinity=False),
    actors=st.one_of(st.just("auto"), st.integers(1, 1000)),
)
@example(names=["1e3"], store="x", kwargs={}, seed=0, rate=1.0, actors="auto")
@example(names=["a"], store="1e-3", kwargs={"1E5": "2e7"}, seed=0, rate=1e-5, actors=1)
@example(
    names=["2026-01-31", "null", "true", "1_000", "0x1", "0o7"],
    store="~",
    kwargs={},
    seed=0,
    rate=1.0,
    actors=1,
)
def test_a_dumped_config_loads_equal(
    dumped_path: Path,
    names: list[str],
    store: str,
    kwargs: dict[str, Any],
    seed: int,
    rate: float,
    actors: int | str,
) -> None:
    """config.yaml of a store that does not load, or that leads to another run: text read as a number."""
    config = parse_config(
        {
            "store": store,
            "seed": seed,
            "data": {"source": "digits", "image_size": 32},
            "teachers": {"pool": [{"name": name, "arch": "timm:x", "kwargs": kwargs} for name in names]},
            "recover": {"ipc": 1, "primary": names[-1], "learning_rate": rate},
            "evaluate": {"student": {"arch": "torchvision:resnet18"}},
            "orchestrate": {"actors": actors},
        },
        "test",
    )
    assert round_trip(config, dumped_path) == config


@pytest.mark.parametrize("job", JOBS, ids=lambda path: path.name)
def test_every_job_survives_the_round_trip(job: Path, tmp_path: Path) -> None:
    """The resolved config of a shipped job that cannot be used again."""
    config = load_config(job)
    assert round_trip(config, tmp_path / "resolved.yaml") == config
    assert parse_config(config.model_dump(mode="json"), "test") == config
