"""Folders of points: readable where possible, never the same for two points, safe for every file system."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from prism_ray.store.elsewhere import is_point
from prism_ray.sweep.naming import point_folder, short_keys

KEYS = ("recover.selection.slots", "recover.loss", "evaluate.loss", "evaluations.Größe.epochs")
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-9, 9),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(["1", "1.0", "true", "null", "a-b", "A-B", "a/b", "..", "x,y=1"]),
    st.lists(st.sampled_from(["a", "b", "a-b"]), max_size=3),
)
POINTS = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3)


def folder(changes: dict[str, Any]) -> str:
    return f"name.{point_folder(changes, short_keys(KEYS))}"


@given(POINTS, POINTS)
def test_different_points_have_different_folders(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Catches two points in one store, also on a file system that does not tell A from a."""
    same = json.dumps(one) == json.dumps(other)
    assert (folder(one).lower() == folder(other).lower()) == same


@given(POINTS)
def test_a_folder_is_the_name_of_a_point(changes: dict[str, Any]) -> None:
    """Catches a folder that leads out of the sweep, or that no other point could refer to."""
    name = folder(changes)
    assert is_point(name)
    assert len(name) < 120
    assert name.isascii()


def test_plain_values_are_readable() -> None:
    """Catches hashes where a person would write the value."""
    assert folder({"recover.selection.slots": 1}) == "name.slots=1"
    assert folder({"evaluate.loss": "kl", "recover.selection.slots": 0}) == "name.evaluate.loss=kl,slots=0"
    assert folder({}) == "name.base"


def test_another_point_does_not_move_the_others() -> None:
    """Catches stores that a sweep with one more value would not find again."""
    names = short_keys(["recover.selection.slots"])
    assert point_folder({"recover.selection.slots": 1}, names) == "slots=1"
    assert names == {"recover.selection.slots": "slots"}
