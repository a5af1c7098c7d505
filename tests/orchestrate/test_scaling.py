"""How many actors a run wants."""

import pytest

from prism_ray.orchestrate.scaling import Shape


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
    assert shape.wanted(num_busy, num_waiting) == expected
