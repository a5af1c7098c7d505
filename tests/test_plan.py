"""The plan: a pure, lazy function of the config and the facts of the data."""

import hashlib
import itertools
import json
import math
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from prism_ray.config import Config, parse_config
from prism_ray.data import DataFacts
from prism_ray.plan import (
    DISTILLED,
    IMAGE_SETS,
    PLAN_VERSION,
    RANDOM_REAL,
    STAGES,
    Plan,
    RecoverUnit,
    RelabelUnit,
    Slot,
    Unit,
    differences,
    fingerprint,
    fingerprint_inputs,
)
from prism_ray.store.images import encode_images
from prism_ray.store.labels import EpochLabels, Views, encode_labels

quick = settings(deadline=None, max_examples=60)


def facts_of(num_classes: int, *, per_class: int = 1000, identity: str = "some data") -> DataFacts:
    """Facts of imaginary data."""
    return DataFacts(
        class_names=tuple(f"class {label}" for label in range(num_classes)),
        train_counts=(per_class,) * num_classes,
        num_test_images=num_classes,
        channels=3,
        identity=identity,
    )


def config_of(pool_size: int = 4, **changes: Any) -> Config:
    """Return a config with the teachers t0 (the primary), t1, ...; `changes` are a__b=value for a.b."""
    values: dict[str, Any] = {
        "store": "somewhere",
        "data": {"source": "digits", "image_size": 32},
        "teachers": {"pool": [{"name": f"t{k}", "arch": "timm:x"} for k in range(pool_size)]},
        "recover": {"ipc": 4, "primary": "t0", "iterations": 100, "iterations_step": 0},
        "evaluate": {"student": {"arch": "timm:x"}},
    }
    for key, value in changes.items():
        node = values
        *sections, name = key.split("__")
        for section in sections:
            node = node.setdefault(section, {})
        node[name] = value
    return parse_config(values, "test")


def all_units(plan: Plan) -> list[Unit]:
    return [unit for stage in STAGES for unit in plan.units(stage)]


@dataclass(frozen=True)
class Sizes:
    """Sizes of a run, all that the shape of its plan depends on."""

    num_classes: int
    ipc: int
    classes_per_batch: int
    ipc_indices_per_batch: int
    images_per_group: int
    epochs: int
    epochs_per_unit: int

    def plan(self, **changes: Any) -> Plan:
        sizes: dict[str, Any] = {
            "recover__ipc": self.ipc,
            "recover__classes_per_batch": self.classes_per_batch,
            "recover__ipc_indices_per_batch": self.ipc_indices_per_batch,
            "relabel__images_per_group": self.images_per_group,
            "relabel__epochs": self.epochs,
            "relabel__epochs_per_unit": self.epochs_per_unit,
        }
        return Plan(config_of(**(sizes | changes)), facts_of(self.num_classes))


SIZES = st.builds(
    Sizes,
    num_classes=st.integers(1, 40),
    ipc=st.integers(1, 25),
    classes_per_batch=st.integers(1, 50),
    ipc_indices_per_batch=st.integers(1, 30),
    images_per_group=st.integers(1, 1200),
    epochs=st.integers(1, 30),
    epochs_per_unit=st.integers(1, 40),
)
ONE_IMAGE = Sizes(1, 1, 1, 1, 1, 1, 1)


# The shape of the plan


@quick
@given(sizes=SIZES)
@example(sizes=ONE_IMAGE)
def test_every_slot_is_in_exactly_one_batch_of_each_image_set(sizes: Sizes) -> None:
    """A class or IPC index at the rim of a chunk that is made twice or never."""
    plan = sizes.plan()
    expected = {Slot(label, index): 1 for label in range(sizes.num_classes) for index in range(sizes.ipc)}
    for image_set in IMAGE_SETS:
        slots = Counter(slot for unit in plan.recover_units(image_set) for slot in unit.slots)
        assert slots == expected
    assert plan.num_images == len(expected)


@quick
@given(sizes=SIZES)
def test_batches_keep_to_their_sizes(sizes: Sizes) -> None:
    """A batch larger than the GPU was promised, or one that mixes rounds."""
    plan = sizes.plan()
    for number, unit in enumerate(plan.recover_units(DISTILLED)):
        labels = {slot.label for slot in unit.slots}
        indices = {slot.ipc_index for slot in unit.slots}
        assert 1 <= len(labels) <= sizes.classes_per_batch
        assert 1 <= len(indices) <= sizes.ipc_indices_per_batch
        assert len(unit.slots) == len(labels) * len(indices)
        assert unit == plan.batch(DISTILLED, number)


@quick
@given(sizes=SIZES)
@example(sizes=ONE_IMAGE)
def test_keys_and_ids_are_unique(sizes: Sizes) -> None:
    """Two units with one name: the commit of one counts for both."""
    plan = sizes.plan()
    for image_set in IMAGE_SETS:
        keys = [unit.key for unit in plan.recover_units(image_set)]
        assert len(set(keys)) == len(keys)
    ids = [unit.id for unit in all_units(plan)]
    assert len(set(ids)) == len(ids)


@quick
@given(sizes=SIZES, seeds=st.integers(1, 4), pool_size=st.integers(1, 5))
@example(sizes=ONE_IMAGE, seeds=1, pool_size=1)
def test_units_are_as_many_as_announced(sizes: Sizes, seeds: int, pool_size: int) -> None:
    """A progress bar that ends at 98 %, or a run that calls itself complete too soon."""
    plan = sizes.plan(evaluate__seeds=seeds, pool_size=pool_size)
    for stage in STAGES:
        assert plan.num_units(stage) == len(list(plan.units(stage)))
    assert plan.num_units("squeeze") == pool_size
    assert plan.num_batches == len(list(plan.recover_units(DISTILLED)))


@quick
@given(sizes=SIZES)
@example(sizes=ONE_IMAGE)
def test_every_batch_is_in_exactly_one_label_group(sizes: Sizes) -> None:
    """Images without soft labels, or labelled twice."""
    plan = sizes.plan()
    for image_set in IMAGE_SETS:
        groups = {unit.group: unit.batch_ids for unit in plan.relabel_units(image_set)}
        assert sorted(groups) == list(range(plan.num_groups))
        batches = [batch for group in sorted(groups) for batch in groups[group]]
        assert batches == [unit.id for unit in plan.recover_units(image_set)]


@quick
@given(sizes=SIZES)
def test_a_label_group_is_no_larger_than_asked(sizes: Sizes) -> None:
    """Groups that grow with the batch until a relabel actor's memory is spent."""
    plan = sizes.plan()
    images = {unit.id: len(unit.slots) for unit in plan.recover_units(DISTILLED)}
    for unit in plan.relabel_units(DISTILLED):
        count = sum(images[batch] for batch in unit.batch_ids)
        assert count <= sizes.images_per_group or len(unit.batch_ids) == 1


@quick
@given(sizes=SIZES)
@example(sizes=ONE_IMAGE)
def test_every_epoch_of_a_group_is_covered_once(sizes: Sizes) -> None:
    """A student that finds no labels for its last epochs."""
    plan = sizes.plan()
    for image_set in IMAGE_SETS:
        epochs: dict[int, list[int]] = {}
        constant: dict[int, set[tuple[tuple[str, ...], int]]] = {}
        for unit in plan.relabel_units(image_set):
            assert 1 <= unit.num_epochs <= sizes.epochs_per_unit
            epochs.setdefault(unit.group, []).extend(
                range(unit.first_epoch, unit.first_epoch + unit.num_epochs)
            )
            constant.setdefault(unit.group, set()).add((unit.batch_ids, unit.seed))
        assert all(sorted(covered) == list(range(sizes.epochs)) for covered in epochs.values())
        assert all(len(found) == 1 for found in constant.values())


@quick
@given(sizes=SIZES, epochs_per_unit=st.integers(1, 40))
def test_the_range_of_a_label_unit_does_not_change_its_seed(sizes: Sizes, epochs_per_unit: int) -> None:
    """Views that depend on how the epochs are cut into units of work."""
    whole = {unit.group: unit.seed for unit in sizes.plan().relabel_units(DISTILLED)}
    cut = sizes.plan(relabel__epochs_per_unit=epochs_per_unit)
    assert {unit.group: unit.seed for unit in cut.relabel_units(DISTILLED)} == whole


@quick
@given(sizes=SIZES)
def test_a_control_has_the_slots_of_the_distilled_set_and_no_optimisation(sizes: Sizes) -> None:
    """A control that is compared on other images, or that is optimised too."""
    plan = sizes.plan()
    pairs = itertools.zip_longest(plan.recover_units(DISTILLED), plan.recover_units(RANDOM_REAL))
    for distilled, control in pairs:
        assert (distilled.key, distilled.slots) == (control.key, control.slots)
        assert (control.bn_teachers, control.num_iterations) == ((), 0)
        assert distilled.seed != control.seed


def test_students_are_compared_in_pairs() -> None:
    """Students of two image sets with different initial weights: their difference is noise."""
    plan = Plan(config_of(evaluate__seeds=3), facts_of(3))
    seeds = [[unit.seed for unit in plan.evaluate_units(image_set)] for image_set in IMAGE_SETS]
    assert seeds[0] == seeds[1]
    assert len(set(seeds[0])) == 3


def test_iterations_follow_the_schedule_of_the_round() -> None:
    """The early-late schedule counted by batch or by IPC index in place of the round."""
    config = config_of(
        recover__ipc=7,
        recover__ipc_indices_per_batch=2,
        recover__classes_per_batch=3,
        recover__iterations_step=10,
        recover__iterations_cycle=3,
    )
    units = Plan(config, facts_of(5)).recover_units(DISTILLED)
    assert [unit.num_iterations for unit in units] == [100, 100, 90, 90, 80, 80, 100, 100]


# Teacher draws


@quick
@given(
    pool_size=st.integers(1, 6),
    extra_slots=st.integers(0, 8),
    probability=st.floats(0, 1),
    seed=st.integers(0, 2**63),
    round_index=st.integers(0, 10**6),
)
def test_the_primary_is_first_and_nobody_is_drawn_twice(
    pool_size: int, extra_slots: int, probability: float, seed: int, round_index: int
) -> None:
    """A teacher whose statistics count twice, or a draw without the primary."""
    config = config_of(
        pool_size,
        seed=seed,
        recover__extra_slots=extra_slots,
        recover__inclusion_probability=probability,
    )
    drawn = Plan(config, facts_of(1)).draw_bn_teachers(round_index)
    assert drawn[0] == "t0"
    assert len(set(drawn)) == len(drawn)
    assert set(drawn) <= {teacher.name for teacher in config.teachers.pool}
    assert len(drawn) <= 1 + min(extra_slots, pool_size - 1)


def test_only_the_allowed_teachers_are_drawn() -> None:
    """`bn_teachers` that restricts nothing, or that draws the primary a second time."""
    config = config_of(recover__bn_teachers=["t0", "t3"], recover__inclusion_probability=1.0)
    assert Plan(config, facts_of(1)).draw_bn_teachers(0) == ("t0", "t3")
    none = config_of(recover__bn_teachers=[], recover__inclusion_probability=1.0)
    assert Plan(none, facts_of(1)).draw_bn_teachers(0) == ("t0",)


@pytest.mark.parametrize("extra_slots", [0, 1, 3, 9])
def test_certain_slots_are_always_filled_and_impossible_ones_never(extra_slots: int) -> None:
    """A comparison with < that should be <=, which lets p = 0 fill or p = 1 leave a slot empty."""
    for probability, expected in ((0.0, 0), (1.0, min(extra_slots, 3))):
        config = config_of(recover__extra_slots=extra_slots, recover__inclusion_probability=probability)
        plan = Plan(config, facts_of(1))
        assert {len(plan.draw_bn_teachers(k)) - 1 for k in range(300)} == {expected}


@pytest.mark.parametrize("probability", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_draws_match_the_inclusion_probability_and_are_fair(probability: float) -> None:
    """Slots filled too rarely, or a pool whose first teacher is drawn more often than its last."""
    rounds, slots, extras = 4000, 3, 4
    config = config_of(extras + 1, recover__extra_slots=slots, recover__inclusion_probability=probability)
    plan = Plan(config, facts_of(1))
    draws = [plan.draw_bn_teachers(k)[1:] for k in range(rounds)]

    filled = Counter(len(drawn) for drawn in draws)
    for count in range(slots + 1):
        share = math.comb(slots, count) * probability**count * (1 - probability) ** (slots - count)
        assert abs(filled[count] - rounds * share) <= 5 * math.sqrt(rounds * share * (1 - share))

    included = Counter(itertools.chain.from_iterable(draws))
    share = slots * probability / extras
    for teacher in config.extra_bn_teachers:
        assert abs(included[teacher] - rounds * share) <= 5 * math.sqrt(rounds * share * (1 - share))

    first = Counter(drawn[0] for drawn in draws if drawn)
    num_first = sum(first.values())
    for teacher in config.extra_bn_teachers:
        assert abs(first[teacher] - num_first / extras) <= 5 * math.sqrt(num_first * 3 / 16) + 1e-9


def test_a_round_draws_once_for_all_its_classes() -> None:
    """Batches of one round with other teachers: PRISM draws per IPC index, not per class chunk."""
    config = config_of(6, recover__ipc=40, recover__classes_per_batch=2)
    plan = Plan(config, facts_of(6))
    draws: dict[int, set[tuple[str, ...]]] = {}
    for unit in plan.recover_units(DISTILLED):
        draws.setdefault(unit.slots[0].ipc_index, set()).add(unit.bn_teachers)
    assert all(len(found) == 1 for found in draws.values())
    assert len(set().union(*draws.values())) > 5


def test_a_draw_of_a_smaller_probability_is_part_of_that_of_a_larger() -> None:
    """Ablations over the probability that compare other teachers as well."""
    few = Plan(config_of(9, recover__inclusion_probability=0.3, recover__extra_slots=1), facts_of(1))
    many = Plan(config_of(9, recover__inclusion_probability=0.7, recover__extra_slots=1), facts_of(1))
    for k in range(200):
        assert set(few.draw_bn_teachers(k)) <= set(many.draw_bn_teachers(k))


# What the plan depends on

FREE = [
    {"store": "s3://elsewhere/run"},
    {"orchestrate__actors": 7},
    {"orchestrate__gpus_per_actor": 0.5},
    {"orchestrate__threads_per_actor": 3},
    {"orchestrate__log_interval_s": 1.0},
    {"orchestrate__max_attempts": 9},
    {"orchestrate__actor_start_timeout_s": 1.0},
    {"data__num_classes": 10},
]
BINDING = [
    {"seed": 1},
    {"data__image_size": 28},
    {"data__test_fraction": 0.3},
    {"teachers__squeeze": {"epochs": 3}},
    {"teachers__pool": [{"name": "t0", "arch": "timm:x", "stem": "small"}]},
    {"teachers__pool": [{"name": "t0", "arch": "timm:x", "kwargs": {"width": 2}}]},
    {"recover__ipc": 5},
    {"recover__iterations": 101},
    {"recover__inclusion_probability": 0.25},
    {"recover__init": "noise"},
    {"recover__classes_per_batch": 7},
    {"recover__ipc_indices_per_batch": 2},
    {"relabel__epochs": 3},
    {"relabel__images_per_group": 3},
]


def key_of(change: dict[str, Any]) -> str:
    return " ".join(change).replace("__", ".")


@pytest.mark.parametrize("change", FREE, ids=key_of)
def test_free_settings_change_neither_plan_nor_fingerprint(change: dict[str, Any]) -> None:
    """A run that cannot be resumed on another cluster, or whose images depend on its size."""
    facts = facts_of(10)
    before, after = config_of(), config_of(**change)
    assert before != after
    assert all_units(Plan(after, facts)) == all_units(Plan(before, facts))
    assert fingerprint(fingerprint_inputs(after, facts, 1)) == fingerprint(
        fingerprint_inputs(before, facts, 1)
    )


@quick
@given(sizes=SIZES, actors=st.integers(1, 1000), seed=st.integers(0, 2**63))
def test_the_plan_does_not_change_with_the_number_of_actors(sizes: Sizes, actors: int, seed: int) -> None:
    """Work cut to the size of the cluster: growing it would change the images."""
    assert all_units(sizes.plan(orchestrate__actors=actors, seed=seed)) == all_units(sizes.plan(seed=seed))


@pytest.mark.parametrize("change", BINDING, ids=key_of)
def test_binding_settings_change_the_fingerprint_and_are_named(change: dict[str, Any]) -> None:
    """A store that mixes images of two settings; or a refusal that does not say which."""
    facts = facts_of(10)
    old = fingerprint_inputs(config_of(pool_size=1), facts, 1)
    new = fingerprint_inputs(config_of(pool_size=1, **change), facts, 1)
    assert fingerprint(old) != fingerprint(new)
    lines = differences(old, new)
    assert len(lines) == 1
    assert lines[0].startswith(key_of(change))


def test_data_paths_are_free() -> None:
    """Images that moved to another folder, unchanged, lock the user out of the run."""
    facts = facts_of(3)
    places: list[dict[str, Any]] = [
        {"data__source": "image-folder", "data__path": "a"},
        {"data__source": "image-folder", "data__path": "b", "data__test_path": "c"},
    ]
    prints = {fingerprint(fingerprint_inputs(config_of(**place), facts, 1)) for place in places}
    assert len(prints) == 1
    download = [
        config_of(data__source="fashion-mnist", data__path="a", data__download=flag) for flag in (False, True)
    ]
    assert len({fingerprint(fingerprint_inputs(config, facts, 1)) for config in download}) == 1


def test_the_number_of_threads_is_binding() -> None:
    """Sums on the CPU differ in their last bits with the threads; a resumed run must not mix them."""
    config, facts = config_of(), facts_of(3)
    old, new = fingerprint_inputs(config, facts, 1), fingerprint_inputs(config, facts, 2)
    assert fingerprint(old) != fingerprint(new)
    assert differences(old, new) == ["orchestrate.threads_per_actor: the store has 1, now 2"]


def test_other_images_are_binding() -> None:
    """A run that goes on after the training images were exchanged."""
    config = config_of()
    old, new = (fingerprint_inputs(config, facts_of(3, identity=text), 1) for text in ("old", "new"))
    assert fingerprint(old) != fingerprint(new)
    assert differences(old, new) == ["data_facts.identity: the store has 'old', now 'new'"]


def leaves(values: Any, key: str = "") -> Iterator[str]:
    """Yield the dotted keys of plain data."""
    if isinstance(values, dict) and values:
        for name, inner in values.items():
            yield from leaves(inner, f"{key}.{name}" if key else name)
    else:
        yield key


def test_every_setting_is_either_free_by_name_or_binding() -> None:
    """A new setting that slips past the fingerprint, or a new free one that nobody decided on."""
    config = config_of()
    settings_ = set(leaves(config.model_dump(mode="json")))
    inputs = set(leaves(fingerprint_inputs(config, facts_of(3), 1)))
    assert settings_ - inputs == {
        "store",
        "data.path",
        "data.test_path",
        "data.download",
        "data.num_classes",
        "evaluate.seeds",
        "orchestrate.actors",
        "orchestrate.gpus_per_actor",
        "orchestrate.max_attempts",
        "orchestrate.actor_start_timeout_s",
        "orchestrate.log_interval_s",
    }
    assert {"data_facts.identity", "plan_version"} <= inputs - settings_


@quick
@given(sizes=SIZES, seed=st.integers(0, 2**62))
def test_another_seed_changes_every_seed_and_no_slot(sizes: Sizes, seed: int) -> None:
    """Two runs said to be independent that share their noise; or a seed that moves classes about."""
    one, other = all_units(sizes.plan(seed=seed)), all_units(sizes.plan(seed=seed + 1))
    assert [unit.id for unit in one] == [unit.id for unit in other]
    assert all(a.seed != b.seed for a, b in zip(one, other, strict=True))


def test_another_seed_changes_the_draws() -> None:
    """Teacher draws that depend on the round alone: every seed of an ablation has the same ensemble."""
    plans = [Plan(config_of(6, seed=seed), facts_of(1)) for seed in range(2)]
    draws = [[plan.draw_bn_teachers(k) for k in range(50)] for plan in plans]
    same = sum(a == b for a, b in zip(*draws, strict=True))
    assert 0 < same < 25


@quick
@given(sizes=SIZES, seed=st.integers(0, 2**63))
def test_all_seeds_of_a_plan_differ(sizes: Sizes, seed: int) -> None:
    """Two batches, or a batch and a teacher, that share their random numbers."""
    plan = sizes.plan(seed=seed)
    seeds = [unit.seed for unit in itertools.chain(plan.units("squeeze"), plan.units("recover"))]
    assert len(set(seeds)) == len(seeds)
    groups = {unit.seed for unit in plan.units("relabel")}
    assert len(groups) == plan.num_groups  # one for all image sets: their views are paired
    assert groups.isdisjoint(seeds)


def test_the_plan_of_this_version_is_pinned() -> None:
    """A change that gives the same config other images, without a new PLAN_VERSION to refuse old stores."""
    config = config_of(
        seed=5,
        recover__ipc=5,
        recover__ipc_indices_per_batch=2,
        recover__classes_per_batch=2,
        recover__iterations_step=10,
        relabel__images_per_group=10,
        relabel__epochs=5,
        relabel__epochs_per_unit=2,
    )
    text = "\n".join(repr(unit) for unit in all_units(Plan(config, facts_of(3))))
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert (PLAN_VERSION, digest[:16]) == (1, "692ac9efa5d0435e")


# Lazy


def test_a_plan_of_a_million_batches_is_lazy() -> None:
    """A driver that makes all units, or counts them one by one, before it starts the first."""
    config = config_of(recover__ipc=10**6, relabel__images_per_group=10, relabel__epochs=10**6)
    started = time.perf_counter()
    plan = Plan(config, facts_of(1))
    assert plan.num_batches == 10**6
    assert plan.num_units("recover") == 2 * 10**6
    assert plan.num_units("relabel") == 2 * 10**5 * 10**4
    first = next(plan.units("recover"))
    label = next(plan.units("relabel"))
    last = plan.batch(RANDOM_REAL, 10**6 - 1)
    seconds = time.perf_counter() - started
    assert isinstance(first, RecoverUnit)
    assert first.slots == (Slot(0, 0),)
    assert isinstance(label, RelabelUnit)
    assert len(label.batch_ids) == 10
    assert last.slots == (Slot(0, 10**6 - 1),)
    assert seconds < 0.25


# Differences

JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 3),
        st.sampled_from([0.0, -0.0, 1.0, 0.5, -3.0]),
        st.sampled_from(["", "a", "1"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=8,
)
SETTINGS = st.dictionaries(st.sampled_from("abc"), JSON, max_size=3)


@settings(deadline=None, max_examples=300)
@given(old=SETTINGS, new=SETTINGS)
@example(old={"a": 1}, new={"a": True})
@example(old={"a": 1}, new={"a": 1.0})
@example(old={"a": None}, new={})
@example(old={"a": {}}, new={})
@example(old={"a": [1]}, new={"a": [1, None]})
def test_there_is_a_difference_if_and_only_if_the_fingerprints_differ(
    old: dict[str, Any], new: dict[str, Any]
) -> None:
    """A store refused without a reason: to Python 1, 1.0 and True are equal, to the fingerprint not."""
    assert (differences(old, new) == []) == (fingerprint(old) == fingerprint(new))


@quick
@given(values=SETTINGS)
def test_the_fingerprint_does_not_depend_on_the_order_of_keys(values: dict[str, Any]) -> None:
    """A config whose sections were reordered is refused; or one read back from JSON."""
    shuffled = dict(reversed(values.items()))
    assert fingerprint(shuffled) == fingerprint(values)
    assert fingerprint(json.loads(json.dumps(values))) == fingerprint(values)


def test_a_difference_names_the_key_and_both_values() -> None:
    """A refusal that leaves the user to compare two files."""
    facts = facts_of(3)
    old = fingerprint_inputs(config_of(recover__iterations=100), facts, 1)
    new = fingerprint_inputs(
        config_of(recover__iterations=50, seed=1, recover__crop_scale=[0.1, 1.0]), facts, 1
    )
    assert differences(old, new) == [
        "recover.crop_scale.0: the store has 0.08, now 0.1",
        "recover.iterations: the store has 100, now 50",
        "seed: the store has 0, now 1",
    ]


def test_a_difference_inside_a_teacher_names_the_teacher() -> None:
    """The whole pool printed twice because one teacher changed."""
    facts = facts_of(3)
    pool = [{"name": "t0", "arch": "timm:x"}, {"name": "t1", "arch": "timm:x"}]
    changed = [pool[0], {**pool[1], "kwargs": {"width": 2}}]
    old, new = (
        fingerprint_inputs(config_of(teachers__pool=teachers), facts, 1) for teachers in (pool, changed)
    )
    (line,) = differences(old, new)
    assert line.startswith("teachers.pool.1.kwargs.width: the store has ")
    assert line.endswith(", now 2")


# Estimates


def test_the_estimate_of_image_bytes_is_near_the_truth() -> None:
    """A promise of megabytes for a run that writes gigabytes (a factor of bits, channels or sets)."""
    config = config_of(recover__ipc=10, data__image_size=64)
    plan = Plan(config, facts_of(10))
    rng = np.random.default_rng(0)
    written = 0
    for image_set in IMAGE_SETS:
        for unit in plan.recover_units(image_set):
            noise = rng.integers(0, 256, (len(unit.slots), 3, 64, 64), dtype=np.uint8)
            written += len(encode_images(unit, noise, plan.facts.class_names))
    assert 0.8 < plan.estimated_image_bytes() / written < 1.25


def test_the_estimate_of_label_bytes_is_near_the_truth() -> None:
    """Soft labels are the larger part of a store: the estimate must not forget the epochs or float16."""
    num_classes, ipc, epochs = 100, 2, 5
    config = config_of(recover__ipc=ipc, relabel__epochs=epochs)
    plan = Plan(config, facts_of(num_classes))
    rng = np.random.default_rng(0)
    count = num_classes * ipc
    columns: list[Any] = [rng.integers(0, 32, count) for _ in range(13)]
    columns[6] = columns[6] > 15  # flip
    labels = [
        EpochLabels(epoch, Views(*columns), rng.normal(size=(count, num_classes)).astype(np.float16))
        for epoch in range(epochs)
    ]
    written = len(IMAGE_SETS) * len(encode_labels(labels))
    assert 0.7 < plan.estimated_label_bytes() / written < 1.4
