"""Teacher selection: the draws of S, from seeds only. Pure; no torch, no Ray."""

import random
from collections.abc import Callable, Mapping, Sequence

from prism_ray.config import RecoverConfig, SelectionConfig


def draw_teachers(
    config: RecoverConfig,
    candidates: Sequence[str],
    num_draws: int,
    random_of: Callable[[int], random.Random],
    first_number: int = 0,
) -> tuple[tuple[str, ...], ...]:
    """Return `num_draws` draws of S, each with the primary first if it is always included.

    `random_of` returns the generator of a draw by its number, so that draw n does not depend on the draws
    before it. A draw that would be empty gets one teacher.
    """
    always = (config.primary,) if config.selection.include_primary else ()
    return tuple(
        always + _fill_slots(config.selection, candidates, number, random_of, must=not always)
        for number in range(first_number, first_number + num_draws)
    )


def _fill_slots(
    selection: SelectionConfig,
    candidates: Sequence[str],
    number: int,
    random_of: Callable[[int], random.Random],
    must: bool,
) -> tuple[str, ...]:
    """Fill each slot with the inclusion probability, without replacement."""
    left = list(candidates)
    num_slots = min(selection.slots, len(left))
    if selection.order == "round-robin" and left:
        start = number * num_slots % len(left)
        left = left[start:] + left[:start]
        if selection.inclusion_probability == 1.0:  # not random; a batch may have thousands of draws
            return tuple(left[:num_slots])
    rng = random_of(number)
    drawn: list[str] = []
    for slot in range(num_slots):
        fill, which = rng.random(), rng.random()
        is_last_chance = must and not drawn and slot == num_slots - 1
        if fill < selection.inclusion_probability or is_last_chance:
            chosen = 0 if selection.order == "round-robin" else _choose(left, selection.weights, which)
            drawn.append(left.pop(chosen))
    return tuple(drawn)


def _choose(names: Sequence[str], weights: Mapping[str, float], which: float) -> int:
    """Return the index in `names` for `which` in [0, 1): each name has a share as large as its weight."""
    widths = [weights.get(name, 1.0) for name in names]
    point = which * sum(widths)
    for index, width in enumerate(widths):
        point -= width
        if point < 0:
            return index
    return len(names) - 1
