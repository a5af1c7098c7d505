"""Teacher selection: the draws of S, from seeds alone. Pure; no torch, no Ray."""

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
    """Return `num_draws` draws of S, each with the primary first if it is always in.

    `random_of` gives the generator of a draw by its number, so that draw n is the same whether or not the
    draws before it are made. A draw that would be empty takes one teacher all the same.
    """
    always = (config.primary,) if config.selection.include_primary else ()
    numbers = range(first_number, first_number + num_draws)
    return tuple(
        always + _fill_slots(config.selection, candidates, number, random_of, must=not always)
        for number in numbers
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
        if selection.inclusion_probability == 1.0:  # nothing is left to chance, in thousands of draws a batch
            return tuple(left[:num_slots])
    rng = random_of(number)
    drawn: list[str] = []
    for place in range(num_slots):
        fill, which = rng.random(), rng.random()
        is_last_chance = must and not drawn and place == num_slots - 1
        if fill < selection.inclusion_probability or is_last_chance:
            chosen = 0 if selection.order == "round-robin" else _choose(left, selection.weights, which)
            drawn.append(left.pop(chosen))
    return tuple(drawn)


def _choose(names: Sequence[str], weights: Mapping[str, float], which: float) -> int:
    """Return the place in `names` that `which` in [0, 1) falls on, each as wide as its weight."""
    widths = [weights.get(name, 1.0) for name in names]
    point = which * sum(widths)
    for place, width in enumerate(widths):
        point -= width
        if point < 0:
            return place
    return len(names) - 1
