"""The plan: a pure, lazy function of the config and the facts of the data."""

import hashlib
import itertools
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from prism_ray.config import DISTILLED
from prism_ray.config.resolve import CONTROL, STUDENT
from prism_ray.errors import ConfigError
from prism_ray.plan import Plan
from prism_ray.plan.fingerprint import PLAN_VERSION, RUN, run_scopes
from prism_ray.stages import Unit, find_stage, scope_of, stage_names
from prism_ray.stages.collect import CollectUnit, collection, collections
from prism_ray.stages.evaluate import students
from prism_ray.stages.formation import Slot
from prism_ray.stages.recover import batch
from tests.plans import config_of, facts_of

quick = settings(deadline=None, max_examples=60)


def all_units(plan: Plan) -> list[Unit]:
    return [unit for stage in stage_names() for unit in plan.units(stage)]


@dataclass(frozen=True)
class Sizes:
    """Sizes of a run, all that the shape of its plan depends on."""

    num_classes: int
    ipc: int
    formation: str
    images_per_batch: int
    ipc_indices_per_batch: int
    images_per_group: int
    epochs: int
    epochs_per_unit: int

    @property
    def indices_per_round(self) -> int:
        return min(self.ipc, self.ipc_indices_per_batch, self.images_per_batch)

    def plan(self, **changes: Any) -> Plan:
        indices = self.indices_per_round if self.formation == "cross-class" else None
        sizes: dict[str, Any] = {
            "recover__ipc": self.ipc,
            "recover__formation": self.formation,
            "recover__images_per_batch": self.images_per_batch,
            "recover__ipc_indices_per_batch": indices,
            "relabel__images_per_group": self.images_per_group,
            "relabel__epochs": self.epochs,
            "relabel__epochs_per_unit": self.epochs_per_unit,
        }
        return Plan(config_of(**(sizes | changes)), facts_of(self.num_classes))


SIZES = st.builds(
    Sizes,
    num_classes=st.integers(1, 40),
    ipc=st.integers(1, 25),
    formation=st.sampled_from(["cross-class", "joint", "class-wise"]),
    images_per_batch=st.integers(1, 60),
    ipc_indices_per_batch=st.integers(1, 30),
    images_per_group=st.integers(1, 1200),
    epochs=st.integers(1, 30),
    epochs_per_unit=st.integers(1, 40),
)
ONE_IMAGE = Sizes(1, 1, "cross-class", 1, 1, 1, 1, 1)


# The shape of the plan


def test_a_label_group_of_joint_batches_has_classes_from_everywhere() -> None:
    """CutMix partners from ten neighbouring classes: a hundred dogs, and never a car in one's corner."""
    changes = {"recover__formation": "joint", "recover__ipc": 10, "recover__images_per_batch": 50}
    plan = Plan(config_of(**changes, relabel__images_per_group=1000), facts_of(1000))
    for unit in plan.units("relabel", DISTILLED):
        assert len(unit.batch_ids) == 20
        firsts = sorted(int(batch.rsplit("j", 1)[1]) // 10 for batch in unit.batch_ids)
        gaps = [b - a for a, b in itertools.pairwise([*firsts, firsts[0] + 1000])]
        assert max(gaps) <= 80  # 50 would be even


def test_a_label_group_of_class_wise_batches_has_classes_from_everywhere() -> None:
    """CutMix partners from neighbouring classes alone: batches of a class numbered in class order."""
    changes = {"recover__formation": "class-wise", "recover__ipc": 10}
    plan = Plan(config_of(**changes, relabel__images_per_group=1000), facts_of(1000))
    for unit in plan.units("relabel", DISTILLED):
        assert len(unit.batch_ids) == 100
        firsts = sorted(int(batch.rsplit("j", 1)[1]) // 10 for batch in unit.batch_ids)
        gaps = [b - a for a, b in itertools.pairwise([*firsts, firsts[0] + 1000])]
        assert max(gaps) <= 30  # 10 would be even


def test_scopes_follow_from_ids() -> None:
    """A commit held against the settings of another part of the run, or of none."""
    sets = {"prism": {}, "g": {"method": "g-vbsm", "iterations_step": 0}}
    run = Plan(config_of(image_sets=sets), facts_of(3))
    scopes = set(run_scopes(run.config, run.facts, 1))
    found = {scope_of(unit.id) for unit in all_units(run)}
    assert found == scopes - {RUN}


@quick
@given(sizes=SIZES)
@example(sizes=ONE_IMAGE)
def test_a_unit_is_found_by_its_id(sizes: Sizes) -> None:
    """A commit of the plan that does not count; or one that belongs to another unit."""
    plan = sizes.plan()
    for unit in all_units(plan):
        assert plan.has(unit.id)
        assert plan.find(unit.id) == unit


@quick
@given(
    sizes=SIZES, key=st.from_regex(r"(i-?\d{1,6}-c\d{1,6}|j\d{1,8}|g\d{1,6}-e\d{1,6}|)\n?", fullmatch=True)
)
@example(sizes=ONE_IMAGE, key="i000000-c00000")
@example(sizes=ONE_IMAGE, key="i00000-c00000/")
def test_nothing_else_is_found(sizes: Sizes, key: str) -> None:
    """A commit from elsewhere that counts as one of the plan: a run complete with an image missing."""
    plan = sizes.plan()
    known = {unit.id for unit in all_units(plan)}
    for stage in ("recover", "relabel", "evaluate", "x"):
        for image_set in (*plan.image_sets, "none"):
            unit_id = f"{stage}/{image_set}/{key}"
            assert plan.has(unit_id) == (unit_id in known)


@quick
@given(sizes=SIZES)
@example(sizes=ONE_IMAGE)
def test_every_slot_is_in_exactly_one_batch_of_each_image_set(sizes: Sizes) -> None:
    """A class or IPC index at the rim of a chunk that is made twice or never."""
    plan = sizes.plan()
    expected = {Slot(label, index): 1 for label in range(sizes.num_classes) for index in range(sizes.ipc)}
    for image_set in plan.image_sets:
        slots = Counter(slot for unit in plan.units("recover", image_set) for slot in unit.slots)
        assert slots == expected
        assert plan.num_images(image_set) == len(expected)


@quick
@given(sizes=SIZES)
def test_batches_keep_to_their_sizes(sizes: Sizes) -> None:
    """A batch larger than the GPU was promised, one that mixes rounds, or a joint one out of class order."""
    plan = sizes.plan()
    for number, unit in enumerate(plan.units("recover", DISTILLED)):
        labels = {slot.label for slot in unit.slots}
        indices = {slot.ipc_index for slot in unit.slots}
        assert 1 <= len(unit.slots) <= sizes.images_per_batch
        if sizes.formation == "cross-class":
            assert 1 <= len(indices) <= sizes.indices_per_round
            assert len(unit.slots) == len(labels) * len(indices)
        elif sizes.formation == "class-wise":
            num_pieces = -(-sizes.ipc // sizes.images_per_batch)
            assert len(labels) == 1
            assert sorted(indices) == list(range(min(indices), max(indices) + 1))
            assert len(unit.slots) in (sizes.ipc // num_pieces, -(-sizes.ipc // num_pieces))
        else:
            places = [slot.label * sizes.ipc + slot.ipc_index for slot in unit.slots]
            assert places == list(range(places[0], places[0] + len(places)))
            last = places[-1] == sizes.num_classes * sizes.ipc - 1
            assert len(unit.slots) == sizes.images_per_batch or last
        assert unit == batch(plan, DISTILLED, number)
        assert plan.formation(DISTILLED).size(number) == len(unit.slots)


@quick
@given(sizes=SIZES)
@example(sizes=ONE_IMAGE)
def test_keys_and_ids_are_unique(sizes: Sizes) -> None:
    """Two units with one name: the commit of one counts for both."""
    plan = sizes.plan()
    for image_set in plan.image_sets:
        keys = [unit.key for unit in plan.units("recover", image_set)]
        assert len(set(keys)) == len(keys)
    ids = [unit.id for unit in all_units(plan)]
    assert len(set(ids)) == len(ids)


@quick
@given(sizes=SIZES, seeds=st.integers(1, 4), pool_size=st.integers(1, 5))
@example(sizes=ONE_IMAGE, seeds=1, pool_size=1)
def test_units_are_as_many_as_announced(sizes: Sizes, seeds: int, pool_size: int) -> None:
    """A progress bar that ends at 98 %, or a run that calls itself complete too soon."""
    plan = sizes.plan(evaluate__num_students=seeds, pool_size=pool_size)
    for stage in stage_names():
        assert plan.num_units(stage) == len(list(plan.units(stage)))
    assert plan.num_units("squeeze") == pool_size
    assert plan.formation(DISTILLED).num_batches == len(list(plan.units("recover", DISTILLED)))


@quick
@given(sizes=SIZES)
@example(sizes=ONE_IMAGE)
def test_every_batch_is_in_exactly_one_label_group(sizes: Sizes) -> None:
    """Images without soft labels, or labelled twice."""
    plan = sizes.plan()
    for image_set in plan.image_sets:
        groups = {unit.group: unit.batch_ids for unit in plan.units("relabel", image_set)}
        assert sorted(groups) == list(range(plan.formation(image_set).num_groups))
        batches = [batch for group in sorted(groups) for batch in groups[group]]
        assert batches == [unit.id for unit in plan.units("recover", image_set)]


@quick
@given(sizes=SIZES)
def test_a_label_group_is_no_larger_than_asked(sizes: Sizes) -> None:
    """Groups that grow with the batch until a relabel actor's memory is spent."""
    plan = sizes.plan()
    images = {unit.id: len(unit.slots) for unit in plan.units("recover", DISTILLED)}
    for unit in plan.units("relabel", DISTILLED):
        count = sum(images[batch] for batch in unit.batch_ids)
        assert count <= sizes.images_per_group or len(unit.batch_ids) == 1


@quick
@given(sizes=SIZES)
@example(sizes=ONE_IMAGE)
def test_every_epoch_of_a_group_is_covered_once(sizes: Sizes) -> None:
    """A student that finds no labels for its last epochs."""
    plan = sizes.plan()
    for image_set in plan.image_sets:
        epochs: dict[int, list[int]] = {}
        constant: dict[int, set[tuple[tuple[str, ...], int]]] = {}
        for unit in plan.units("relabel", image_set):
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
    whole = {unit.group: unit.seed for unit in sizes.plan().units("relabel", DISTILLED)}
    cut = sizes.plan(relabel__epochs_per_unit=epochs_per_unit)
    assert {unit.group: unit.seed for unit in cut.units("relabel", DISTILLED)} == whole


@quick
@given(sizes=SIZES)
def test_a_control_has_the_slots_of_the_distilled_set_and_no_optimisation(sizes: Sizes) -> None:
    """A control that is compared on other images, or that is optimised too."""
    plan = replace(sizes, formation="cross-class").plan()
    pairs = itertools.zip_longest(plan.units("recover", DISTILLED), plan.units("recover", CONTROL))
    for distilled, control in pairs:
        assert (distilled.key, distilled.slots) == (control.key, control.slots)
        assert (control.teachers, control.num_iterations) == ((), 0)


def test_sets_are_compared_in_pairs() -> None:
    """Image sets with other students, views or noise: their difference is noise."""
    plan = Plan(config_of(evaluate__num_students=3), facts_of(3))
    sets = plan.image_sets
    seeds = [[unit.seed for unit in students(plan, image_set, STUDENT)] for image_set in sets]
    assert seeds[0] == seeds[1]
    assert len(set(seeds[0])) == 3
    views = [[unit.seed for unit in plan.units("relabel", image_set)] for image_set in sets]
    assert views[0] == views[1]
    batches = [[unit.seed for unit in plan.units("recover", image_set)] for image_set in sets]
    assert batches[0] == batches[1]


def test_a_replicate_is_another_image_set_from_the_same_settings() -> None:
    """Two image sets said to be independent that are one and the same."""
    sets = {"first": {}, "second": {"replicate": 1}}
    plan = Plan(config_of(6, image_sets=sets, recover__ipc=40), facts_of(3))
    one, other = list(plan.units("recover", "first")), list(plan.units("recover", "second"))
    assert not {unit.seed for unit in one} & {unit.seed for unit in other}
    assert [unit.draws for unit in one] != [unit.draws for unit in other]


def test_iterations_follow_the_schedule_of_the_round() -> None:
    """The early-late schedule counted by batch or by IPC index in place of the round."""
    config = config_of(
        recover__ipc=7,
        recover__ipc_indices_per_batch=2,
        recover__images_per_batch=6,
        recover__iterations_step=10,
        recover__iterations_cycle=3,
    )
    units = Plan(config, facts_of(5)).units("recover", DISTILLED)
    assert [unit.num_iterations for unit in units] == [100, 100, 90, 90, 80, 80, 100, 100]


@quick
@given(
    ipc=st.integers(1, 60), cycle=st.integers(1, 12), num_classes=st.integers(1, 5), size=st.integers(1, 99)
)
def test_sub_batches_of_a_class_join_one_after_the_other(
    ipc: int, cycle: int, num_classes: int, size: int
) -> None:
    """Images of one class in unequal parts, or a sub-batch that joins before the one in front of it."""
    config = config_of(
        recover__ipc=ipc,
        recover__formation="joint",
        recover__images_per_batch=size,
        recover__iterations=200,
        recover__iterations_step=10,
        recover__iterations_cycle=cycle,
    )
    given_: dict[Slot, int] = {}
    for unit in Plan(config, facts_of(num_classes)).units("recover", DISTILLED):
        given_ |= dict(zip(unit.slots, unit.iterations, strict=True))
    expected = [
        200 - 10 * k for k, part in enumerate(np.array_split(np.arange(ipc), min(ipc, cycle))) for _ in part
    ]
    assert [given_[slot] for slot in sorted(given_)] == expected * num_classes


@quick
@given(ipc=st.integers(1, 60), cycle=st.integers(1, 12), size=st.integers(1, 99))
def test_an_image_has_as_many_iterations_in_a_class_wise_as_in_a_cross_class_batch(
    ipc: int, cycle: int, size: int
) -> None:
    """A comparison of the two formations in which the images of one are optimised longer."""
    iterations: list[dict[Slot, int]] = []
    for formation in ("cross-class", "class-wise"):
        config = config_of(
            recover__ipc=ipc,
            recover__formation=formation,
            recover__images_per_batch=size,
            recover__iterations=200,
            recover__iterations_step=10,
            recover__iterations_cycle=cycle,
        )
        given_: dict[Slot, int] = {}
        for unit in Plan(config, facts_of(3)).units("recover", DISTILLED):
            given_ |= dict(zip(unit.slots, unit.iterations, strict=True))
        iterations.append(given_)
    assert iterations[0] == iterations[1]
    assert len(iterations[0]) == 3 * ipc


# What is collected


def test_nothing_is_collected_unless_a_method_needs_it() -> None:
    """A pass over ImageNet that nobody asked for."""
    plan = Plan(config_of(), facts_of(3))
    assert plan.num_units("collect") == 0
    assert list(plan.units("collect")) == []


def test_what_several_sets_need_is_collected_once() -> None:
    """Two sets that each pass the real images through the same teacher; or a teacher left out."""
    sets = {"gvbsm": {"method": "g-vbsm"}, "edc": {"method": "edc"}, "rded": {"method": "rded"}}
    config = config_of(3, image_sets=sets, collect__classes_per_unit=3)
    plan = Plan(config, facts_of(7, per_class=50))
    assert collections(plan) == [
        ("rded", "t0"),
        ("statistics", "t0"),
        ("statistics", "t1"),
        ("statistics", "t2"),
    ]
    units = [unit for unit in plan.units("collect") if isinstance(unit, CollectUnit)]
    assert plan.num_units("collect") == len(units) == 12
    for kind, teacher in collections(plan):
        mine = [unit for unit in units if (unit.kind, unit.teacher) == (kind, teacher)]
        classes = [label for u in mine for label in range(u.first_class, u.first_class + u.num_classes)]
        assert classes == list(range(7))
        assert mine == list(collection(plan, kind, teacher))


# What the plan depends on


@quick
@given(sizes=SIZES, seed=st.integers(0, 2**62))
def test_another_seed_changes_every_seed_and_no_slot(sizes: Sizes, seed: int) -> None:
    """Two runs said to be independent that share their noise; or a seed that moves classes about."""
    one, other = all_units(sizes.plan(seed=seed)), all_units(sizes.plan(seed=seed + 1))
    assert [unit.id for unit in one] == [unit.id for unit in other]
    assert all(a.seed != b.seed for a, b in zip(one, other, strict=True))


def test_another_seed_changes_the_draws() -> None:
    """Teacher draws that depend on the round alone: every seed of an ablation has the same ensemble."""
    plans = [Plan(config_of(6, seed=seed, recover__ipc=50), facts_of(1)) for seed in range(2)]
    draws = [[unit.draws for unit in plan.units("recover", DISTILLED)] for plan in plans]
    same = sum(a == b for a, b in zip(*draws, strict=True))
    assert 0 < same < 25


@quick
@given(sizes=SIZES, seed=st.integers(0, 2**63))
def test_all_seeds_of_a_plan_differ(sizes: Sizes, seed: int) -> None:
    """Two batches, or a batch and a teacher, that share their random numbers."""
    plan = sizes.plan(seed=seed)
    seeds = [unit.seed for unit in itertools.chain(plan.units("squeeze"), plan.units("recover", DISTILLED))]
    assert len(set(seeds)) == len(seeds)
    groups = {unit.seed for unit in plan.units("relabel", DISTILLED)}
    assert len(groups) == plan.formation(DISTILLED).num_groups
    assert groups.isdisjoint(seeds)


def test_the_plan_of_this_version_is_pinned() -> None:
    """A change that gives the same config other images, without a new PLAN_VERSION to refuse old stores."""
    config = config_of(
        seed=5,
        recover__ipc=5,
        recover__images_per_batch=4,
        recover__iterations_step=10,
        image_sets={
            "prism": {"ipc_indices_per_batch": 2},
            "delt": {"method": "delt"},
            "edc": {"method": "edc"},
        },
        relabel__images_per_group=10,
        relabel__epochs=5,
        relabel__epochs_per_unit=2,
    )
    text = "\n".join(repr(unit) for unit in all_units(Plan(config, facts_of(3))))
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert (PLAN_VERSION, digest[:16]) == (4, "2ceb1619c1c511a6")


@pytest.mark.parametrize(
    ("change", "stage"),
    [
        ({"recover__ipc": 10**12}, "recover"),
        ({"relabel__epochs": 10**13, "relabel__epochs_per_unit": 1}, "relabel"),
        ({"evaluate__num_students": 10**9}, "evaluate"),
    ],
)
def test_a_plan_without_end_is_refused(change: dict[str, Any], stage: str) -> None:
    """Catches a digit too many, or a config from elsewhere, that keeps `status` busy for ever."""
    plan = Plan(config_of(**{"recover__init": "noise", **change}), facts_of())
    with pytest.raises(
        ConfigError, match=rf"^c\.yaml: its settings make [\d,]+ units of {stage}, .*lower ipc"
    ):
        plan.check_size("c.yaml")
    Plan(config_of(recover__ipc=1000), facts_of(1000)).check_size("c.yaml")


def test_teachers_with_weights_come_first() -> None:
    """Catches weights of another order of the classes, found out after hours of training the others."""
    pool = [{"name": "t0", "arch": "timm:x"}, {"name": "t1", "arch": "timm:x@x.pth"}]
    units = [
        unit.id for unit in find_stage("squeeze").units(Plan(config_of(teachers__pool=pool), facts_of()))
    ]
    assert units == ["squeeze/t1", "squeeze/t0"]
