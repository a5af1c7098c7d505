"""Teacher selection: which teachers a draw of S may hold, how likely each is, and what it depends on."""

import itertools
import math
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prism_ray.config import DISTILLED, Config, RecoverConfig, parse_config
from prism_ray.errors import ConfigError
from prism_ray.plan import Plan
from prism_ray.seeds import derive_random
from prism_ray.stages.draws import draw_teachers
from tests.plans import facts_of

quick = settings(deadline=None, max_examples=60)
Draws = tuple[tuple[str, ...], ...]


def generators(seed: int = 0) -> Callable[[int], random.Random]:
    return lambda number: derive_random(seed, "test", number)


def draw(num_draws: int, num_others: int = 3, first: int = 0, seed: int = 0, **selection: Any) -> Draws:
    """Draws of a primary p and the teachers t0, t1, ..."""
    config = RecoverConfig.model_validate({"ipc": 1, "primary": "p", "selection": selection})
    candidates = [f"t{k}" for k in range(num_others)]
    if not config.selection.include_primary:
        candidates.insert(0, "p")
    return draw_teachers(config, candidates, num_draws, generators(seed), first)


SELECTIONS = st.fixed_dictionaries(
    {
        "include_primary": st.booleans(),
        "slots": st.integers(1, 8),
        "inclusion_probability": st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1)),
        "order": st.sampled_from(["random", "round-robin"]),
    }
)


# What a draw holds


@quick
@given(
    selection=SELECTIONS, num_others=st.integers(1, 6), number=st.integers(0, 10**9), seed=st.integers(0, 99)
)
def test_nobody_is_drawn_twice_and_nobody_is_missing(
    selection: dict[str, Any], num_others: int, number: int, seed: int
) -> None:
    """A teacher whose statistics count twice, a draw without the primary or with nobody, too full a draw."""
    (drawn,) = draw(1, num_others, number, seed, **selection)
    assert len(set(drawn)) == len(drawn) >= 1
    assert set(drawn) <= {"p", *(f"t{k}" for k in range(num_others))}
    if selection["include_primary"]:
        assert drawn[0] == "p"
        assert len(drawn) <= 1 + min(selection["slots"], num_others)
    else:
        assert len(drawn) <= min(selection["slots"], 1 + num_others)


@pytest.mark.parametrize("order", ["random", "round-robin"])
@pytest.mark.parametrize("include_primary", [True, False])
@pytest.mark.parametrize("slots", [1, 3, 4, 9])
def test_certain_slots_are_always_filled_and_impossible_ones_never(
    slots: int, include_primary: bool, order: str
) -> None:
    """A comparison with < that should be <=, which lets p = 0 fill or p = 1 leave a slot empty."""
    shared: dict[str, Any] = {"slots": slots, "include_primary": include_primary, "order": order}
    full = draw(300, inclusion_probability=1.0, **shared)
    empty = draw(300, inclusion_probability=0.0, **shared)
    assert {len(drawn) for drawn in full} == {min(slots, 3) + 1 if include_primary else min(slots, 4)}
    assert {len(drawn) for drawn in empty} == {1}
    if include_primary:
        assert set(empty) == {("p",)}


@pytest.mark.parametrize("include_primary", [True, False])
def test_a_fixed_set_is_all_teachers_in_every_draw(include_primary: bool) -> None:
    """A fixed set that loses a teacher: a slot for each, and every slot is sure to be filled."""
    num_slots = 3 if include_primary else 4
    draws = draw(200, slots=num_slots, inclusion_probability=1.0, include_primary=include_primary)
    assert {frozenset(drawn) for drawn in draws} == {frozenset({"p", "t0", "t1", "t2"})}


def test_no_slots_leave_the_primary_alone() -> None:
    """SRe2L that is supervised by more than one teacher."""
    assert set(draw(100, slots=0, inclusion_probability=1.0)) == {("p",)}


def test_nobody_to_draw_is_refused_before_it_comes_to_a_draw() -> None:
    """An empty draw at run time, which divides by |S| = 0."""
    with pytest.raises(ValueError, match="leave no teacher to draw"):
        RecoverConfig.model_validate(
            {"ipc": 1, "primary": "p", "selection": {"include_primary": False, "slots": 0}}
        )
    with pytest.raises(ConfigError, match="the pool has 0 to draw from"):
        plan_of(recover={"selection": {"include_primary": False, "bn_teachers": []}})


# How likely each teacher is


@pytest.mark.parametrize("probability", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_draws_match_the_inclusion_probability_and_are_fair(probability: float) -> None:
    """Slots filled too rarely, or a pool whose first teacher is drawn more often than its last."""
    num_draws, slots, others = 4000, 3, 4
    draws = [drawn[1:] for drawn in draw(num_draws, others, slots=slots, inclusion_probability=probability)]

    filled = Counter(len(drawn) for drawn in draws)
    for count in range(slots + 1):
        share = math.comb(slots, count) * probability**count * (1 - probability) ** (slots - count)
        assert abs(filled[count] - num_draws * share) <= 5 * math.sqrt(num_draws * share * (1 - share))

    included = Counter(itertools.chain.from_iterable(draws))
    share = slots * probability / others
    first = Counter(drawn[0] for drawn in draws if drawn)
    num_first = sum(first.values())
    for k in range(others):
        spread = math.sqrt(num_draws * share * (1 - share))
        assert abs(included[f"t{k}"] - num_draws * share) <= 5 * spread
        assert abs(first[f"t{k}"] - num_first / others) <= 5 * math.sqrt(num_first * 3 / 16) + 1e-9


def test_chances_are_proportional_to_the_weights() -> None:
    """Weights that are ignored, squared, or make a teacher certain."""
    weights = {"t0": 3.0, "t2": 0.5}  # t1: 1
    num_draws = 9000
    draws = draw(num_draws, slots=1, inclusion_probability=1.0, weights=weights)
    counts = Counter(drawn[1] for drawn in draws)
    for name, weight in {"t1": 1.0, **weights}.items():
        share = weight / 4.5
        assert abs(counts[name] - num_draws * share) <= 5 * math.sqrt(num_draws * share * (1 - share))


def test_a_later_slot_is_filled_by_the_weights_of_those_that_are_left() -> None:
    """A second draw by the weights of teachers that are already in."""
    num_draws = 9000
    draws = draw(num_draws, slots=2, inclusion_probability=1.0, weights={"t0": 8.0, "t1": 2.0})
    pairs = Counter(drawn[1:] for drawn in draws)
    sums, weights = 11.0, {"t0": 8.0, "t1": 2.0, "t2": 1.0}
    for one, other in itertools.permutations(weights, 2):
        share = weights[one] / sums * weights[other] / (sums - weights[one])
        spread = math.sqrt(num_draws * share * (1 - share))
        assert abs(pairs[one, other] - num_draws * share) <= 5 * spread


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_a_draw_that_would_be_empty_takes_one_teacher_at_random(slots: int) -> None:
    """Without the primary: an empty draw, one that falls back on the primary, or one that is filled up
    although a teacher is in already."""
    draws = draw(4000, slots=slots, include_primary=False, inclusion_probability=0.3)
    sizes = Counter(len(drawn) for drawn in draws)
    assert 0 not in sizes
    one = (1 - 0.3) ** slots + slots * 0.3 * 0.7 ** (slots - 1)
    assert abs(sizes[1] - 4000 * one) <= 5 * math.sqrt(4000 * one * (1 - one)) + 1e-9
    alone = Counter(drawn[0] for drawn in draws if len(drawn) == 1)
    for name in ("p", "t0", "t1", "t2"):
        assert abs(alone[name] - sizes[1] / 4) <= 5 * math.sqrt(sizes[1] * 3 / 16)


# Round robin


@quick
@given(
    slots=st.integers(1, 5),
    num_others=st.integers(0, 5),
    first=st.integers(0, 10**6),
    include_primary=st.booleans(),
)
def test_round_robin_takes_every_teacher_in_turn(
    slots: int, num_others: int, first: int, include_primary: bool
) -> None:
    """A teacher that is left out or comes twice in one turn, or a turn in another order than the pool's."""
    draws = draw(
        24,
        num_others,
        first,
        slots=slots,
        inclusion_probability=1.0,
        order="round-robin",
        include_primary=include_primary,
    )
    pool = [f"t{k}" for k in range(num_others)]
    if include_primary:
        draws = tuple(drawn[1:] for drawn in draws)
    else:
        pool.insert(0, "p")
    filled = min(slots, len(pool))
    in_turn = list(itertools.chain.from_iterable(draws))
    assert len(in_turn) == 24 * filled
    if pool:
        start = first * filled % len(pool)
        assert in_turn == [pool[(start + k) % len(pool)] for k in range(24 * filled)]


def test_round_robin_fills_a_slot_with_the_probability() -> None:
    """Round robin that knows no chance, or whose turn depends on chance."""
    draws = draw(4000, slots=1, inclusion_probability=0.25, order="round-robin")
    filled = [(number, drawn[1]) for number, drawn in enumerate(draws) if len(drawn) > 1]
    assert abs(len(filled) - 1000) <= 5 * math.sqrt(4000 * 0.25 * 0.75)
    assert all(name == f"t{number % 3}" for number, name in filled)


# What a draw depends on


@quick
@given(selection=SELECTIONS, first=st.integers(0, 1000), seed=st.integers(0, 99))
def test_a_draw_depends_on_its_number_and_not_on_earlier_draws(
    selection: dict[str, Any], first: int, seed: int
) -> None:
    """A generator that draws share: a resumed batch, or another order of work, draws other teachers."""
    together = draw(8, 4, first, seed, **selection)
    alone = tuple(draw(1, 4, first + k, seed, **selection)[0] for k in range(8))
    assert together == alone


def test_draws_depend_on_number_and_seed() -> None:
    """Every round, or every seed of an ablation, with the same ensemble."""
    draws = draw(100, 5)
    assert len(set(draws)) > 10
    assert draws != draw(100, 5, seed=1)
    assert draws == draw(100, 5)


@pytest.mark.parametrize("include_primary", [True, False])
def test_a_draw_of_a_smaller_probability_is_part_of_that_of_a_larger(include_primary: bool) -> None:
    """Ablations over the probability that compare other teachers as well."""
    shared: dict[str, Any] = {"slots": 1, "include_primary": include_primary}
    few = draw(300, 8, inclusion_probability=0.3, **shared)
    many = draw(300, 8, inclusion_probability=0.7, **shared)
    assert all(set(a) <= set(b) for a, b in zip(few, many, strict=True))


def test_a_draw_does_not_depend_on_slots_that_are_not_reached() -> None:
    """Ablations over the slots whose first slots differ as well."""
    few = draw(300, 8, slots=2, inclusion_probability=0.5)
    many = draw(300, 8, slots=4, inclusion_probability=0.5)
    assert all(b[: len(a)] == a for a, b in zip(few, many, strict=True))


# When it is drawn, and among whom: through the plan


def plan_of(num_classes: int = 6, pool_size: int = 6, **values: Any) -> Plan:
    config: Config = parse_config(
        {
            "store": "somewhere",
            "data": {"source": "digits", "image_size": 32},
            "teachers": {"pool": [{"name": f"t{k}", "arch": "timm:x"} for k in range(pool_size)]},
            "evaluate": {"student": {"arch": "timm:x"}},
            **values,
            "recover": {
                "ipc": 40,
                "primary": "t0",
                "iterations": 100,
                "iterations_step": 0,
                "images_per_batch": 2,
                **values.get("recover", {}),
            },
        },
        "test",
    )
    return Plan(config, facts_of(num_classes))


def draws_by_round(plan: Plan) -> dict[int, list[Draws]]:
    draws: dict[int, list[Draws]] = {}
    for unit in plan.units("recover", DISTILLED):
        draws.setdefault(unit.slots[0].ipc_index, []).append(unit.draws)
    return draws


def test_a_round_draws_once_for_all_its_classes() -> None:
    """Batches of one round with other teachers: PRISM draws per IPC index, not per class chunk."""
    draws = draws_by_round(plan_of())
    assert len(draws) == 40
    assert all(len(of_round) == 3 and len(set(of_round)) == 1 for of_round in draws.values())
    assert all(len(of_round[0]) == 1 for of_round in draws.values())
    assert len({of_round[0] for of_round in draws.values()}) > 5


def test_a_batch_may_draw_for_itself() -> None:
    """`redraw: batch` that still draws once per round."""
    draws = draws_by_round(plan_of(recover={"selection": {"redraw": "batch"}}))
    assert all(len(unit_draws) == 1 for of_round in draws.values() for unit_draws in of_round)
    assert sum(len(set(of_round)) > 1 for of_round in draws.values()) > 20


@pytest.mark.parametrize(("every", "expected"), [(1, 100), (30, 4), (50, 2), (99, 2), (100, 1), (1000, 1)])
def test_a_redraw_every_n_iterations_covers_all_of_them(every: int, expected: int) -> None:
    """A batch that runs out of draws in its last iterations, or that has some which it never uses."""
    for unit in itertools.islice(
        plan_of(recover={"selection": {"redraw": every}}).units("recover", DISTILLED), 5
    ):
        assert len(unit.draws) == expected


def test_redraws_differ_between_iterations_and_batches() -> None:
    """Redraws that are all the same draw, or the same ones in every batch."""
    units = list(plan_of(recover={"selection": {"redraw": 10}}).units("recover", DISTILLED))
    assert all(len(set(unit.draws)) > 1 for unit in units)
    assert len({unit.draws for unit in units}) == len(units)


def test_redraws_of_a_longer_batch_begin_with_those_of_a_shorter() -> None:
    """Draws that change when the iterations do."""
    short = plan_of(recover={"selection": {"redraw": 10}, "iterations": 50})
    long = plan_of(recover={"selection": {"redraw": 10}, "iterations": 90})
    for a, b in zip(short.units("recover", DISTILLED), long.units("recover", DISTILLED), strict=True):
        assert b.draws[:5] == a.draws


def test_draws_depend_on_seed_and_replicate() -> None:
    """Image sets said to be independent that share all their teachers."""
    sets = [plan_of(), plan_of(seed=1), plan_of(recover={"replicate": 1})]
    draws = [[unit.draws for unit in plan.units("recover", DISTILLED)] for plan in sets]
    for one, other in itertools.combinations(draws, 2):
        assert one != other


def test_only_the_allowed_teachers_are_drawn() -> None:
    """`bn_teachers` that restricts nothing, or that draws the primary a second time."""
    selection = {"bn_teachers": ["t0", "t3"], "inclusion_probability": 1.0}
    for unit in plan_of(recover={"selection": selection}).units("recover", DISTILLED):
        assert unit.draws == (("t0", "t3"),)
    for unit in plan_of(recover={"selection": {**selection, "bn_teachers": []}}).units("recover", DISTILLED):
        assert unit.draws == (("t0",),)


def test_verifiers_are_never_drawn() -> None:
    """Images that were optimised for the network that is to judge them."""
    plan = plan_of(
        recover={"selection": {"include_primary": False, "slots": 5, "inclusion_probability": 1.0}},
        analyze={"verifiers": ["t2"]},
    )
    teachers = {name for unit in plan.units("recover", DISTILLED) for name in unit.teachers}
    assert teachers == {"t0", "t1", "t3", "t4", "t5"}


def test_round_robin_draws_cost_no_hashing() -> None:
    """A plan that hashes once per iteration: seconds for each pass over the units of a large run."""

    def no_generator(number: int) -> random.Random:
        raise AssertionError(f"draw {number} needs no chance")

    config = RecoverConfig.model_validate(
        {
            "ipc": 1,
            "primary": "t0",
            "method": "prism",
            "selection": {
                "include_primary": False,
                "slots": 1,
                "inclusion_probability": 1.0,
                "order": "round-robin",
            },
        }
    )
    assert draw_teachers(config, ["t0", "t1"], 3, no_generator) == (("t0",), ("t1",), ("t0",))
