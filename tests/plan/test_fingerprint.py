"""Fingerprints: what binds a run to its settings, scope by scope, and how two runs differ."""

import json
from collections.abc import Iterator
from dataclasses import MISSING
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from prism_ray.plan import Plan
from prism_ray.plan.fingerprint import RUN, Scopes, clashes, differences, fingerprint, run_scopes
from prism_ray.plan.versions import View
from prism_ray.stages import stage_names
from tests.plans import config_of, facts_of

quick = settings(deadline=None, max_examples=60)


def scopes_of(pool_size: int = 1, **changes: Any) -> Scopes:
    return run_scopes(config_of(pool_size, **changes), facts_of(), 1)


def all_clashes(old: Scopes, new: Scopes) -> list[str]:
    """Clashes of a finished run, of which every scope is bound."""
    return clashes(old, new, set(old))


FREE = [
    {"store": "s3://elsewhere/run"},
    {"orchestrate__actors": 7},
    {"orchestrate__gpus_per_actor": 0.5},
    {"orchestrate__students_per_actor": 4},
    {"orchestrate__threads_per_actor": 3},
    {"orchestrate__log_interval_s": 1.0},
    {"orchestrate__metrics_port": 8080},
    {"trackers": ["tensorboard"]},
    {"orchestrate__max_attempts": 9},
    {"orchestrate__actor_start_timeout_s": 1.0},
    {"data__num_classes": 10},
    {"evaluate__num_students": 7},
]
BINDING = [
    {"seed": 1},
    {"data__image_size": 28},
    {"data__test_fraction": 0.3},
    {"data__validation_fraction": 0.3},
    {"teachers__squeeze": {"epochs": 3}},
    {"teachers__pool": [{"name": "t0", "arch": "timm:x", "stem": "small"}]},
    {"teachers__pool": [{"name": "t0", "arch": "timm:x", "kwargs": {"width": 2}}]},
    {"recover__ipc": 5},
    {"recover__iterations": 101},
    {"recover__selection__inclusion_probability": 0.25},
    {"recover__statistics__first_weight": 1.0},
    {"recover__init": "noise"},
    {"recover__images_per_batch": 7},
    {"recover__ipc_indices_per_batch": 2},
    {"relabel__epochs": 3},
    {"relabel__images_per_group": 3},
    {"evaluate__learning_rate": 0.1},
    {"analyze__feature_teacher": "t0"},
]


def key_of(change: dict[str, Any]) -> str:
    return " ".join(change).replace("__", ".")


@pytest.mark.parametrize("change", FREE, ids=key_of)
def test_free_settings_change_no_scope_and_no_unit(change: dict[str, Any]) -> None:
    """A run that cannot be resumed on another cluster, or whose images depend on its size."""
    before, after = config_of(1), config_of(1, **change)
    assert before != after
    assert run_scopes(after, facts_of(), 1) == run_scopes(before, facts_of(), 1)
    for stage in stage_names()[:-1]:
        one, other = (list(Plan(config, facts_of()).units(stage)) for config in (before, after))
        assert one == other


@pytest.mark.parametrize("change", BINDING, ids=key_of)
def test_binding_settings_clash_and_are_named_once(change: dict[str, Any]) -> None:
    """A store that mixes images of two settings; or a refusal that does not say which."""
    lines = all_clashes(scopes_of(), scopes_of(**change))
    assert len(lines) == 1
    key = key_of(change).replace("teachers.pool", "teachers.pool.t0")
    assert lines[0].startswith(key)


def test_what_has_no_commits_may_change() -> None:
    """A typo in the evaluation that costs the teachers and the images made before it was found."""
    old, new = scopes_of(evaluate__learning_rate=1.0), scopes_of(evaluate__learning_rate=0.001)
    done = {scope for scope in old if not scope.startswith("evaluate/")}
    assert clashes(old, new, done) == []
    assert clashes(old, new, {*done, "evaluate/distilled/student"}) != []


def test_a_change_upstream_of_what_is_bound_is_named_even_if_it_is_not_bound() -> None:
    """A teacher lost and squeezed anew with other settings, while the old one's images stay."""
    old, new = scopes_of(), scopes_of(teachers__squeeze={"epochs": 3})
    (line,) = clashes(old, new, {"recover/distilled"})
    assert line.startswith("teachers.squeeze.epochs: the store has 20, now 3")
    assert clashes(old, new, {"recover/random-real"}) == []  # it needs no teacher


def test_image_sets_evaluations_and_teachers_can_be_added() -> None:
    """A comparison that has to be started anew for one more row."""
    sets: dict[str, Any] = {"prism": {}, "sre2l": {"method": "sre2l"}}
    more = sets | {"rded": {"method": "rded"}}
    old = scopes_of(image_sets=sets)
    assert all_clashes(old, scopes_of(image_sets=more)) == []
    assert (
        all_clashes(old, scopes_of(image_sets=sets, evaluations={"student": {}, "b": {"labels": "hard"}}))
        == []
    )
    pool = {"recover__selection__bn_teachers": ["t0"], "relabel__teachers": ["t0"]}
    assert all_clashes(scopes_of(1, **pool), scopes_of(2, **pool)) == []


def test_a_teacher_that_joins_the_pool_of_a_finished_set_clashes() -> None:
    """Images said to be drawn from five teachers of which one came when they were done."""
    lines = all_clashes(scopes_of(1), scopes_of(2))
    assert "squeeze/t1: it is new" in lines


def test_the_order_of_the_pool_is_binding_where_it_counts() -> None:
    """A run resumed with its pool in another order: the batches still to come draw other teachers."""
    names = ["t0", "t1", "t2"]
    old, new = (
        scopes_of(
            teachers__pool=[{"name": name, "arch": "timm:x"} for name in pool],
            image_sets={"prism": {}, "rded": {"method": "rded"}},
        )
        for pool in (names, ["t0", "t2", "t1"])
    )
    lines = all_clashes(old, new)
    assert "order of teachers.pool.0: the store has 't1', now 't2' (image set prism)" in lines
    assert old["recover/rded"] == new["recover/rded"]  # one teacher scores its patches
    assert old["relabel/rded"] != new["relabel/rded"]


def test_the_image_set_of_a_clash_is_named() -> None:
    """A refusal of a comparison of nine sets that does not say which one changed."""
    sets = {"a": {}, "b": {"iterations": 50}}
    lines = all_clashes(scopes_of(image_sets=sets), scopes_of(image_sets=sets | {"b": {"iterations": 60}}))
    assert lines == ["recover.iterations: the store has 50, now 60 (image set b)"]


def test_a_set_named_as_the_control_is_named_too() -> None:
    """A change of the set random-real among nine others that looks like one of all."""
    old, new = (
        scopes_of(image_sets={"a": {}, "random-real": {"method": "random-real", "ipc": ipc}})
        for ipc in (2, 3)
    )
    assert all_clashes(old, new) == ["recover.ipc: the store has 2, now 3 (image set random-real)"]


def test_data_paths_are_free() -> None:
    """Images that moved to another folder, unchanged, lock the user out of the run."""
    one = scopes_of(data__source="image-folder", data__path="a")
    assert one == scopes_of(data__source="image-folder", data__path="b", data__test_path="c")
    download = [
        scopes_of(data__source="fashion-mnist", data__path="a", data__download=d) for d in (False, True)
    ]
    assert download[0] == download[1]


def test_the_number_of_threads_is_binding() -> None:
    """Sums on the CPU differ in their last bits with the threads; a resumed run must not mix them."""
    old, new = (run_scopes(config_of(1), facts_of(), threads) for threads in (1, 2))
    assert all_clashes(old, new) == ["orchestrate.threads_per_actor: the store has 1, now 2"]


def test_other_images_are_binding() -> None:
    """A run that goes on after the training images were exchanged."""
    old, new = (run_scopes(config_of(1), facts_of(identity=text), 1) for text in ("old", "new"))
    assert all_clashes(old, new) == ["data_facts.identity: the store has 'old', now 'new'"]


def leaves(values: Any, key: str = "") -> Iterator[str]:
    """Yield the dotted keys of plain data."""
    if isinstance(values, dict) and values:
        for name, inner in values.items():
            yield from leaves(inner, f"{key}.{name}" if key else name)
    else:
        yield key


@pytest.fixture
def _every_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a scope hold every setting that counts, defaults too."""
    monkeypatch.setattr(View, "default", lambda *_: MISSING)


@pytest.mark.usefixtures("_every_key")
def test_every_setting_is_either_free_by_name_or_binding() -> None:
    """A new setting that slips past the fingerprint, or a new free one that nobody decided on."""
    config = config_of(1)
    values = config.model_dump(mode="json")
    pool = values["teachers"].pop("pool")
    inputs: set[str] = set()
    for scope in run_scopes(config, facts_of(), 1).values():
        inputs |= set(leaves(scope["settings"]))
    inputs = {key.replace("teachers.pool.t0.", "teachers.pool.") for key in inputs}
    sets, evaluations = values.pop("image_sets"), values.pop("evaluations")
    found = set(leaves(values)) | {f"teachers.pool.{key}" for key in leaves(pool[0])}
    for section, named in (("recover", sets), ("evaluate", evaluations)):
        found |= {f"{section}.{key}" for own in named.values() for key in leaves(own)}
    # collect is an input only of what is collected
    found = {key for key in found if not key.startswith("collect.")}
    assert found - inputs == {
        "store",
        "data.path",
        "data.test_path",
        "data.download",
        "teachers.check_accuracy",
        "data.num_classes",
        "data.classes",
        "data.allow_left_out",
        "data.hashed",
        "data.max_megapixels",
        "teachers.pool.name",
        "evaluate.num_students",
        "evaluate.image_sets",
        "evaluate.controls",
        "evaluate.full_data_epochs",
        "orchestrate.actors",
        "orchestrate.gpus_per_actor",
        "orchestrate.students_per_actor",
        "orchestrate.accelerator_type",
        "orchestrate.label_selector",
        "orchestrate.max_attempts",
        "orchestrate.error_budget",
        "orchestrate.preemption_budget",
        "orchestrate.straggler_factor",
        "orchestrate.stall_timeout_s",
        "orchestrate.label_actors",
        "orchestrate.idle_actor_s",
        "orchestrate.lease_ttl_s",
        "orchestrate.teacher_cache_gib",
        "orchestrate.checkpoint_interval_s",
        "orchestrate.actor_start_timeout_s",
        "orchestrate.log_interval_s",
        "orchestrate.ray_start_timeout_s",
        "orchestrate.metrics_port",
        "trackers",
    }
    assert {"data_facts.identity", "plan_version"} <= inputs - found


def test_how_real_images_are_collected_binds_those_who_use_it() -> None:
    """Statistics of other crops under images that were matched with the old ones; or PRISM refused for it."""
    sets = {"prism": {}, "edc": {"method": "edc"}}
    old, new = (scopes_of(image_sets=sets, collect__flip=flip) for flip in (True, False))
    assert all_clashes(old, new) == ["collect.flip: the store has True, now False"]
    assert old["recover/prism"] == new["recover/prism"]
    assert old["recover/edc"] != new["recover/edc"]


@pytest.mark.usefixtures("_every_key")
def test_a_collection_binds_the_settings_of_its_kind_alone() -> None:
    """EDC that cannot be added to a run of RDED, because its statistics want patches of another size."""
    rded, edc = {"rded": {"method": "rded"}}, {"edc": {"method": "edc"}}
    old = scopes_of(image_sets=rded)
    assert all_clashes(old, scopes_of(image_sets=rded | edc, collect__patch_size=4)) == []
    assert all_clashes(old, scopes_of(image_sets=rded, collect__rded_crops_per_image=2)) != []
    original = scopes_of(image_sets=rded, collect__crop_from="original")
    assert all_clashes(old, original) == ["collect.crop_from: the store has 'square', now 'original'"]
    delt = {"delt": {"method": "delt", "iterations_step": 0}}  # whole images
    square, original = (scopes_of(image_sets=delt, collect__crop_from=one) for one in ("square", "original"))
    assert square == original
    sets = {"edc": {"method": "edc"}, "delt": {"method": "delt", "iterations_step": 0}}
    inputs: set[str] = set()
    for scope in scopes_of(image_sets=sets).values():  # EDC starts from collages
        inputs |= set(scope["settings"].get("collect", {}))
    assert inputs == set(config_of(1).collect.model_dump())


def test_a_teacher_that_no_slot_is_for_can_be_added() -> None:
    """A run of SRe2L, which draws nobody beside the primary, refused for a teacher that only gives labels."""
    settings: dict[str, Any] = {"recover__selection__slots": 0, "recover__statistics__layers": "bn+conv"}
    old, new = (scopes_of(size, **settings) for size in (1, 2))
    assert old["recover/distilled"] == new["recover/distilled"]
    assert [scope for scope in new if scope.startswith("collect/")] == ["collect/statistics/t0"]
    assert config_of(2, **settings).bn_teachers == ("t0",)


def test_the_control_does_not_depend_on_the_teachers_but_its_labels_do() -> None:
    """A control made anew, or labels kept, when a teacher changes."""
    old, new = scopes_of(), scopes_of(teachers__squeeze={"epochs": 3})
    assert old["recover/random-real"] == new["recover/random-real"]
    assert old["relabel/random-real"] != new["relabel/random-real"]
    assert old[RUN] == new[RUN]


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
    old = scopes_of(recover__iterations=100)
    new = scopes_of(recover__iterations=50, seed=1, recover__crop_scale=[0.1, 1.0])
    assert all_clashes(old, new) == [
        "seed: the store has 0, now 1",
        "recover.crop_scale.0: the store has 0.08, now 0.1",
        "recover.iterations: the store has 100, now 50",
    ]


def test_a_difference_inside_a_teacher_names_the_teacher() -> None:
    """The whole pool printed twice because one teacher changed."""
    pool = [{"name": "t0", "arch": "timm:x"}, {"name": "t1", "arch": "timm:x"}]
    changed = [pool[0], {**pool[1], "kwargs": {"width": 2}}]
    (line,) = all_clashes(scopes_of(teachers__pool=pool), scopes_of(teachers__pool=changed))
    assert line == "teachers.pool.t1.kwargs.width: the store has nothing, now 2"
