"""How many actors a run wants."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prism_ray.orchestrate.scaling import Load, Shape


@pytest.mark.parametrize(
    ("bounds", "num_busy", "num_waiting", "expected"),
    [
        ((2, 2), 0, 0, 2),  # a fixed number is that number
        ((2, 2), 2, 100, 2),
        ((1, 8), 0, 100, 8),
        ((1, 8), 0, 3, 3),  # no more than there is work for
        ((1, 8), 2, 3, 5),
        ((1, 8), 6, 0, 6),  # at the tail the busy ones stay
        ((1, 8), 0, 0, 1),
    ],
)
def test_as_many_as_there_is_work_for(
    bounds: tuple[int, int], num_busy: int, num_waiting: int, expected: int
) -> None:
    """Catches nodes paid for that have nothing to do, and work that waits for nodes nobody asks for."""
    shape = Shape(*bounds, num_threads=1, num_gpus=0.0)
    assert shape.wanted(Load(num_busy, num_waiting)) == (expected, 0)


@given(
    bounds=st.tuples(st.integers(1, 6), st.integers(1, 6)).map(sorted),
    num_sharing=st.integers(2, 5),
    busy=st.data(),
    num_waiting=st.tuples(st.integers(0, 20), st.integers(0, 20)),
)
def test_students_get_the_places_that_are_left(
    bounds: list[int], num_sharing: int, busy: st.DataObject, num_waiting: tuple[int, int]
) -> None:
    """Catches more actors than places, work that nobody gets, and students in the way of other work."""
    least, most = bounds
    num_whole = busy.draw(st.integers(0, most))
    num_shared = busy.draw(st.integers(0, num_sharing * (most - num_whole)))
    shape = Shape(least, most, num_threads=1, num_gpus=1.0, num_sharing=num_sharing)
    whole, shared = Load(num_whole, num_waiting[0]), Load(num_shared, num_waiting[1])
    found_whole, found_shared = shape.wanted(whole, shared)
    num_places = found_whole + -(-found_shared // num_sharing)
    assert least <= num_places <= most
    assert found_whole >= whole.num_busy
    assert found_shared >= shared.num_busy  # nothing that runs is ended
    if num_whole + num_shared == 0:
        assert found_whole + found_shared > 0
        assert (found_shared > 0) == (shared.num_waiting > 0 and whole.num_waiting < most)
    if found_shared > num_sharing * -(-num_shared // num_sharing):  # a place more: all other work has one
        assert found_whole >= min(whole.num_wanted, most)


@pytest.mark.parametrize("num_sharing", range(1, 13))
@pytest.mark.parametrize("num_gpus", [0.5, 1.0])
def test_all_that_share_fit_where_one_was(num_sharing: int, num_gpus: float) -> None:
    """Catches shares that are rounded up, so that the last finds no place: 6 times 0.1667 is over 1."""
    shape = Shape(1, 1, num_threads=7, num_gpus=num_gpus, num_sharing=num_sharing)
    whole, shared = shape.request(is_shared=False), shape.request(is_shared=True)
    for name, amount in whole.items():
        parts = round(10_000 * shared[name])
        assert parts == pytest.approx(10_000 * shared[name], abs=1e-6)  # Ray has no smaller ones
        assert 0.99 * 10_000 * amount <= num_sharing * parts <= 10_000 * amount
