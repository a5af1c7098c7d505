"""What every section shares: frozen, closed, described."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from prism_ray.config import Config, config_schema, load_config
from prism_ray.config.base import Section, check_crop_scale


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models that an annotation names, at any depth."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from models_in(argument)


def all_models(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """Return `model` and every model below it by name."""
    found = {model.__name__: model}
    for field in model.model_fields.values():
        for inner in models_in(field.annotation):
            found |= all_models(inner)
    return found


MODELS = all_models(Config)


def test_the_walk_meets_every_section() -> None:
    """A walk that misses a section would let its fields go undescribed."""
    assert set(MODELS) == {
        "AnalyzeConfig",
        "CollectConfig",
        "Config",
        "DataConfig",
        "ElasticActors",
        "EvaluateConfig",
        "NetworkConfig",
        "OrchestrateConfig",
        "RecoverConfig",
        "RelabelConfig",
        "SelectConfig",
        "SelectionConfig",
        "SqueezeConfig",
        "StatisticsConfig",
        "StoreConfig",
        "TeacherConfig",
        "TeachersConfig",
    }


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
def test_every_field_has_a_description(model: type[BaseModel]) -> None:
    """A setting without a word of explanation in `config schema` and in errors about missing keys."""
    silent = [name for name, field in model.model_fields.items() if not field.description]
    assert silent == []


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
def test_every_model_is_a_closed_frozen_section(model: type[BaseModel]) -> None:
    """A section that takes unknown keys, changes after its check, or does not check its own defaults."""
    assert issubclass(model, Section)
    assert model.model_config["extra"] == "forbid"
    assert model.model_config["frozen"] is True
    assert model.model_config["validate_default"] is True
    assert model.__doc__


def test_a_loaded_config_cannot_be_changed(config_path: Path) -> None:
    """A stage that edits the config in passing, so that later stages and the fingerprint disagree."""
    config = load_config(config_path)
    with pytest.raises(ValidationError, match="frozen"):
        config.seed = 1  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        config.image_sets["distilled"].ipc = 1  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        config.teachers.pool[0].name = "other"  # type: ignore[misc]


def test_the_json_schema_can_be_generated() -> None:
    """A field type that pydantic cannot put in a schema breaks `prism-ray config schema`."""
    schema = config_schema()
    assert json.loads(json.dumps(schema)) == schema
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) == {"store", "data", "teachers"}
    assert set(schema["$defs"]) == set(MODELS) - {"Config"}
    assert {"recover", "image_sets", "evaluate", "evaluations"} <= set(schema["properties"])


@settings(deadline=None)
@given(
    smallest=st.floats(0, 1, exclude_min=True),
    largest=st.floats(0, 1, exclude_min=True),
)
def test_crop_scale_is_accepted_if_and_only_if_it_is_in_order(smallest: float, largest: float) -> None:
    """A reversed range would draw crops outside the range that the user meant."""
    if smallest <= largest:
        assert check_crop_scale((smallest, largest)) == (smallest, largest)
    else:
        with pytest.raises(ValueError, match="the smallest share of the area comes first"):
            check_crop_scale((smallest, largest))


_FOLDER = Path(__file__).parents[2] / "jobs"
JOBS = sorted(path for path in _FOLDER.rglob("*.yaml") if path.parent.name != "sweeps")


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.name)
def test_every_job_is_valid_under_the_schema(path: Path) -> None:
    """An editor that marks the named sets of a comparison for lacking what they share in `recover`."""
    values = yaml.safe_load(path.read_text())
    jsonschema.validate(values, config_schema())
    values["recover"]["itrations"] = 5
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, config_schema())
