"""What a tracker has: ranges of numbers."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from prism_ray.run.sent import Numbers


@given(st.lists(st.integers(0, 40)))
def test_ranges_contain_what_was_added_and_nothing_else(added: list[int]) -> None:
    """Catches a unit that is never sent because a range swallowed its number, or one that is sent twice."""
    numbers = Numbers()
    for number in added:
        numbers.add(number)
    assert {number for number in range(50) if number in numbers} == set(added)
    assert len(numbers) == len(set(added))
    ranges = numbers.ranges()
    assert all(last + 1 < first for (_, last), (first, _) in pairwise(ranges))
    assert Numbers(ranges).ranges() == ranges
