"""The stores of a report."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prism_ray.errors import UsageError
from prism_ray.report.opened import open_all, plain, short_names
from prism_ray.run import load_run
from prism_ray.store import StoreFiles


@given(st.lists(st.lists(st.sampled_from("ab"), min_size=1, max_size=4).map("/".join), unique=True))
def test_names_differ_and_are_ends(locations: list[str]) -> None:
    """Catches two stores with one name, whose figures could not be told apart."""
    names = short_names(locations)
    assert len(set(names)) == len(locations)
    assert all(location.endswith(name) for location, name in zip(locations, names, strict=True))


def test_a_store_counts_once(made: Path) -> None:
    """Catches a run that is compared with itself, which makes every interval narrower."""
    files = StoreFiles(str(made))
    with pytest.raises(UsageError, match="is given twice; remove one"):
        open_all([(files, load_run(files)), (StoreFiles(f"{made}/"), load_run(files))])


def test_infinite_numbers_become_none() -> None:
    """Catches NaN in the data of the page, which no JSON reader takes."""
    assert plain({"a": [1.5, float("nan")], 2: (float("inf"),)}) == {"a": [1.5, None], "2": [None]}
