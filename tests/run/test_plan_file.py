"""plan.json: created once, held against every later command."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from prism_ray.config import load_config
from prism_ray.errors import FingerprintError, NewerStoreError, StoreError, UsageError
from prism_ray.run import Run, load_run, save_run
from prism_ray.run.plan_file import bound_scopes, package_versions, refusal
from prism_ray.store import Commit, StoreFiles, layout, write_commit
from prism_ray.store.commits import list_commits


def commit_something(files: StoreFiles, run: Run) -> None:
    unit = next(run.plan.units("squeeze"))
    write_commit(files, Commit(unit.id, run.fingerprint_of(unit.id), (), {}, 1.0, "here", "now"))


def edit(files: StoreFiles, change: Callable[[dict[str, Any]], None]) -> None:
    """Change plan.json as with an editor."""
    values = json.loads(files.read(layout.PLAN))
    change(values)
    files.replace(layout.PLAN, json.dumps(values).encode())


# Saving and loading


def test_a_saved_run_is_loaded_equal(files: StoreFiles, make_run: Callable[..., Run]) -> None:
    """A run that another command sees with other settings, facts or threads."""
    run = make_run(num_threads=3, recover__crop_scale=[0.25, 0.75], seed=9)
    assert save_run(files, run) == run
    held = load_run(files)
    assert held == run
    assert held.scopes == run.scopes
    assert list(held.plan.units("recover")) == list(run.plan.units("recover"))


def test_the_resolved_config_loads_from_the_store(local: StoreFiles, make_run: Callable[..., Run]) -> None:
    """config.yaml for people that `distill` does not take."""
    run = save_run(local, make_run())
    assert load_config(local.path(layout.CONFIG)) == run.config


def test_a_store_without_a_run_says_how_to_start_one(files: StoreFiles) -> None:
    """`status` on a wrong folder: FileNotFoundError."""
    with pytest.raises(UsageError) as caught:
        load_run(files)
    assert str(caught.value).startswith(f"{files.location} contains no run (no plan.json)")
    assert f"prism-ray distill CONFIG --store {files.location}" in str(caught.value)


def test_the_same_settings_resume(files: StoreFiles, make_run: Callable[..., Run]) -> None:
    """A resumed run that is refused, or that takes the time and versions of the second start."""
    first = save_run(files, replace(make_run(), created_at="2026-01-01", versions={"torch": "old"}))
    commit_something(files, first)
    plan = files.read(layout.PLAN)
    again = save_run(files, make_run())
    assert (again.created_at, again.versions) == ("2026-01-01", {"torch": "old"})
    assert files.read(layout.PLAN) == plan


def test_free_settings_may_change_on_the_way(files: StoreFiles, make_run: Callable[..., Run]) -> None:
    """A run that must be finished with the number of actors that it began with."""
    commit_something(files, save_run(files, make_run(orchestrate__actors=1)))
    again = save_run(files, make_run(orchestrate__actors=5, orchestrate__max_attempts=7))
    assert (again.config.orchestrate.actors, again.config.orchestrate.max_attempts) == (5, 7)
    assert b"actors: 5" in files.read(layout.CONFIG)


def test_other_settings_are_refused_once_there_is_work(
    files: StoreFiles, make_run: Callable[..., Run]
) -> None:
    """A store that mixes images of two settings; or a refusal without the key and both values."""
    held = save_run(files, make_run())
    commit_something(files, held)
    plan, config = files.read(layout.PLAN), files.read(layout.CONFIG)
    with pytest.raises(FingerprintError) as caught:
        save_run(files, make_run(teachers__squeeze={"epochs": 50}, seed=3))
    message = str(caught.value)
    assert message.startswith(f"{files.location} contains another run")
    assert (
        "\n  seed: the store has 0, now 3\n  teachers.squeeze.epochs: the store has 20, now 50\n" in message
    )
    assert (files.read(layout.PLAN), files.read(layout.CONFIG)) == (plan, config)


@pytest.mark.parametrize("change", [{"num_threads": 2}, {"identity": "other data"}])
def test_other_threads_and_other_data_are_refused_too(
    files: StoreFiles, make_run: Callable[..., Run], change: dict[str, Any]
) -> None:
    """Only the config guarded: the last bits, or the images, change in the middle of a run."""
    commit_something(files, save_run(files, make_run()))
    with pytest.raises(FingerprintError, match="the store has"):
        save_run(files, make_run(**change))


def test_a_refusal_always_gives_a_reason(files: StoreFiles, make_run: Callable[..., Run]) -> None:
    """1 and true are equal to Python and different to the fingerprint: a refusal without a line."""
    pool = [{"name": "a", "arch": "timm:x", "kwargs": {"width": 1}}]
    other = [{"name": "a", "arch": "timm:x", "kwargs": {"width": True}}]
    held, asked = make_run(teachers__pool=pool), make_run(teachers__pool=other)
    assert held.scopes != asked.scopes
    assert "teachers.pool.a.kwargs.width" in str(refusal(files, held, asked, {"squeeze/a"}))


def test_other_settings_replace_a_run_without_work(files: StoreFiles, make_run: Callable[..., Run]) -> None:
    """A first attempt with a wrong setting that must be deleted by hand."""
    save_run(files, make_run())
    asked = make_run(recover__iterations=50)
    assert save_run(files, asked) == asked
    assert load_run(files) == asked
    assert b"iterations: 50" in files.read(layout.CONFIG)


def test_what_is_not_done_yet_may_change(files: StoreFiles, make_run: Callable[..., Run]) -> None:
    """A typo in a later stage that costs the teachers squeezed before it was found."""
    commit_something(files, save_run(files, make_run()))
    asked = make_run(recover__iterations=50, relabel__epochs=9)
    assert save_run(files, asked).config == asked.config
    assert load_run(files).config == asked.config


def test_a_set_left_out_for_a_while_stays_guarded(files: StoreFiles, make_run: Callable[..., Run]) -> None:
    """Image sets forgotten by a call for others, then made a second time with other settings."""
    both = make_run(image_sets={"one": {}, "two": {"iterations": 5}})
    run = save_run(files, both)
    unit = next(run.plan.units("recover", "two"))
    write_commit(files, Commit(unit.id, run.fingerprint_of(unit.id), (), {}, 1.0, "here", "now"))
    without = save_run(files, make_run(image_sets={"one": {}}))
    assert list(without.config.image_sets) == ["one"]
    assert "recover/two" in load_run(files).scopes
    assert load_run(files) == without
    with pytest.raises(FingerprintError, match=r"iterations: the store has 5, now 6 \(image set two\)"):
        save_run(files, make_run(image_sets={"one": {}, "two": {"iterations": 6}}))
    assert save_run(files, both).scopes == run.scopes


def test_work_is_noticed(files: StoreFiles, make_run: Callable[..., Run]) -> None:
    """A store with commits taken for an empty one: its run would be replaced."""
    run = save_run(files, make_run())
    assert bound_scopes(list_commits(files)) == set()
    commit_something(files, run)
    assert bound_scopes(list_commits(files)) == {"squeeze/a"}


# Damage


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"5", b"{}", b"\xff\xfe\x00"])
def test_a_plan_that_is_none_is_a_store_error(
    files: StoreFiles, make_run: Callable[..., Run], content: bytes
) -> None:
    """A traceback in every command on a store whose plan.json was cut short."""
    save_run(files, make_run())
    files.replace(layout.PLAN, content)
    with pytest.raises(StoreError) as caught:
        load_run(files)
    assert str(caught.value).startswith(f"{files.location}/plan.json is damaged: ")


@pytest.mark.parametrize("key", ["format", "scopes", "num_threads", "versions", "facts", "config"])
def test_a_plan_without_a_key_is_a_store_error(
    files: StoreFiles, make_run: Callable[..., Run], key: str
) -> None:
    """KeyError for a plan of which an editor lost a part."""
    save_run(files, make_run())
    edit(files, lambda values: values.pop(key))
    with pytest.raises(StoreError, match=r"plan\.json is damaged"):
        load_run(files)


def test_a_plan_of_another_format_is_a_store_error(files: StoreFiles, make_run: Callable[..., Run]) -> None:
    """A store of a later version read as if nothing had changed."""
    save_run(files, make_run())
    edit(files, lambda values: values.update(format=3))
    with pytest.raises(NewerStoreError, match=r"plan\.json has format 3, .*upgrade prism-ray"):
        load_run(files)
    edit(files, lambda values: values.update(format=1))
    with pytest.raises(StoreError, match="its format is 1, this version reads 2"):
        load_run(files)


EDITS: dict[str, Callable[[dict[str, Any]], object]] = {
    "seed": lambda values: values["config"].update(seed=1),
    "threads": lambda values: values.update(num_threads=2),
    "threads as text": lambda values: values.update(num_threads="1"),
    "identity": lambda values: values["facts"].update(identity="other"),
    "scopes": lambda values: values["scopes"].pop("recover/distilled"),
    "an inner scope": lambda values: values["scopes"]["recover/distilled"]["settings"].update(x=1),
    "an input": lambda values: values["scopes"]["run"]["settings"].update(seed=1),
    "wrong type": lambda values: values["config"]["image_sets"]["distilled"].update(ipc="two"),
    "config a list": lambda values: values.update(config=[1]),
    "facts null": lambda values: values.update(facts=None),
    "fewer classes": lambda values: values["facts"].update(class_names=["x", "y"]),
    "other class names": lambda values: values["facts"].update(class_names=["z", "y", "x"]),
    "more channels": lambda values: values["facts"].update(channels=3),
    "needs that are none": lambda values: values["scopes"]["run"].update(needs=None),
    "other counts": lambda values: values["facts"].update(train_counts=[5, 5, 4]),
}


@pytest.mark.parametrize("change", EDITS.values(), ids=EDITS.keys())
def test_an_edited_plan_is_a_store_error(
    files: StoreFiles, make_run: Callable[..., Run], change: Callable[[dict[str, Any]], None]
) -> None:
    """Settings or classes changed in plan.json by hand: the rest of the run would not fit what is done."""
    save_run(files, make_run())
    edit(files, change)
    with pytest.raises(StoreError, match=r"plan\.json is damaged"):
        load_run(files)


def test_keys_of_a_later_version_are_passed_over(files: StoreFiles, make_run: Callable[..., Run]) -> None:
    """A colleague's newer prism-ray that adds a key locks everybody else out of the store."""
    run = save_run(files, make_run())

    def add(values: dict[str, Any]) -> None:
        for node in (values, values["config"], values["config"]["image_sets"]["distilled"], values["facts"]):
            node["of_a_later_version"] = {"a": 1}
        values["config"]["image_sets"]["distilled"]["selection"]["also"] = 2
        values["config"]["teachers"]["pool"][1]["also"] = 3

    edit(files, add)
    assert load_run(files) == run


def test_a_scope_of_a_stage_that_came_later_may_be_missing(
    files: StoreFiles, make_run: Callable[..., Run]
) -> None:
    """A new stage that makes every store unreadable that was written before."""
    run = save_run(files, make_run())
    edit(files, lambda values: values["scopes"].pop("measure/distilled"))
    assert load_run(files).scopes == {k: v for k, v in run.scopes.items() if k != "measure/distilled"}


def test_a_damaged_plan_is_not_replaced(files: StoreFiles, make_run: Callable[..., Run]) -> None:
    """`distill` on a damaged store that overwrites the only record of what its images are."""
    save_run(files, make_run())
    files.replace(layout.PLAN, b"{")
    with pytest.raises(StoreError, match=r"plan\.json is damaged"):
        save_run(files, make_run())
    assert files.read(layout.PLAN) == b"{"


def test_versions_name_what_can_change_a_byte() -> None:
    """A run whose bytes nobody can make again, because it does not say with what they were made."""
    versions = package_versions()
    assert {"python", "torch", "numpy", "pillow", "pyarrow"} <= set(versions)
    assert all(versions.values())
