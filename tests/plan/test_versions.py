"""Plan versions: a scope holds what differs from the defaults of its version; new keys leave it as it is."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from prism_ray.config import CollectConfig, EvaluateConfig, RecoverConfig, SelectConfig
from prism_ray.config.base import Section
from prism_ray.data import DataFacts
from prism_ray.plan import versions
from prism_ray.plan.fingerprint import clashes, run_scopes
from prism_ray.plan.versions import OLDEST_PLAN_VERSION, PLAN_VERSION, View
from tests.plans import config_of, facts_of

PINNED = json.loads((Path(__file__).parent / "defaults.json").read_text())


def defaults_of(model: type[Section], section: str = "") -> dict[str, Any]:
    """Dotted key -> default, as JSON has it; `required` for a key that must be given."""
    found: dict[str, Any] = {}
    for key, field in model.model_fields.items():
        name = f"{section}.{key}" if section else key
        default = "required" if field.is_required() else field.get_default(call_default_factory=True)
        if isinstance(default, Section):
            found |= defaults_of(type(default), name)
        else:
            found[name] = json.loads(json.dumps(default))
    return found


def current_defaults() -> dict[str, Any]:
    models = {name: model for name, model in versions._SECTIONS.items()}
    models |= {"select": SelectConfig, "squeeze": versions.SqueezeConfig, "teacher": versions.TeacherConfig}
    return {name: defaults_of(model) for name, model in models.items()}


def test_the_defaults_of_this_version_are_pinned() -> None:
    """Catches a default that is changed in passing: half-finished runs go on with another value, unnoticed.

    A new key goes into defaults.json. A changed default raises PLAN_VERSION and its old value goes into
    `versions._OLD_DEFAULTS`; then this file is written anew for the new version.
    """
    assert {"plan_version": PLAN_VERSION, "defaults": current_defaults()} == PINNED


@pytest.mark.parametrize("version", range(OLDEST_PLAN_VERSION, PLAN_VERSION + 1))
def test_a_new_key_with_a_default_changes_no_fingerprint(
    version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a new setting that makes every finished store unreadable, or refused by its own config."""
    before = run_scopes(config_of(2), facts_of(), 1, version=version)

    class Later(RecoverConfig):
        sharpness: float = Field(default=0.5, description="A key of a later version.")

    config = config_of(2)
    values = config.image_sets["distilled"].model_dump()
    for sharpness, same in ((0.5, True), (0.25, False)):
        later = Later.model_validate(values | {"sharpness": sharpness})
        sets = {**config.image_sets, "distilled": later}
        after = run_scopes(config.model_copy(update={"image_sets": sets}), facts_of(), 1, version=version)
        assert (after == before) == same
    assert clashes(before, after, set(before)) == ["recover.sharpness: the store has nothing, now 0.25"]


def test_a_new_fact_with_a_default_changes_no_fingerprint() -> None:
    """Catches a fact of the data that a later version adds, and every store refused for it."""
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Later(DataFacts):
        bits: int = 8

    facts = facts_of()
    later = Later(*(getattr(facts, name) for name in DataFacts.__dataclass_fields__))
    assert View(PLAN_VERSION).facts(later) == View(PLAN_VERSION).facts(facts)
    assert View(PLAN_VERSION).facts(Later(**(later.__dict__ | {"bits": 16})))["bits"] == 16


def test_a_changed_default_leaves_runs_of_the_old_version_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Catches an old run resumed with the new default under its old fingerprint."""
    held = run_scopes(config_of(1), facts_of(), 1, version=4)
    config = config_of(1, recover__learning_rate=0.05, recover__iterations_step=0)  # in full, as config.yaml
    monkeypatch.setattr(versions, "PLAN_VERSION", 5)
    monkeypatch.setattr(versions, "_OLD_DEFAULTS", {4: {"recover": {"learning_rate": 0.05}}})
    monkeypatch.setattr(RecoverConfig.model_fields["learning_rate"], "default", 0.1)
    assert run_scopes(config, facts_of(), 1, version=4) == held
    new = run_scopes(config_of(1, recover__learning_rate=0.1), facts_of(), 1, version=4)
    assert clashes(held, new, set(held)) == ["recover.learning_rate: the store has 0.05, now 0.1"]
    under_5 = run_scopes(config, facts_of(), 1, version=5)
    assert under_5["recover/distilled"]["settings"]["recover"]["learning_rate"] == 0.05


def test_a_view_names_what_differs() -> None:
    """Catches the example of the docstring going stale, and a nested section written for nothing."""
    assert View(4)("collect", CollectConfig(flip=False)) == {"flip": False}
    assert set(View(3)("collect", CollectConfig(), only=("flip", "batch_size"))) == {"flip", "batch_size"}
    evaluation = config_of(1).evaluations["student"]
    assert isinstance(evaluation, EvaluateConfig)
    assert View(4)("evaluate", evaluation) == {"student": {"arch": "timm:x"}}


def test_defaults_are_found_by_the_place_of_a_setting() -> None:
    """Catches a refusal that says "nothing" where a default stands, or another section's default."""
    view = View(4)
    assert view.default_at(("recover", "selection", "slots")) == 3
    assert view.default_at(("recover", "init")) == "real"
    assert view.default_at(("recover", "init"), "random-real") == "random"
    assert view.default_at(("teachers", "squeeze", "epochs")) == 20
    assert view.default_at(("teachers", "pool", "t0", "stem")) == "imagenet"
    assert view.default_at(("evaluate", "student", "stem")) == "imagenet"
    for missing in (("seed",), ("recover", "ipc"), ("recover", "no"), ("data_facts", "identity")):
        assert str(view.default_at(missing)).find("MISSING") > 0
