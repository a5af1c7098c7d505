"""Keys under an old name: read as the new one, with a note, wherever they may stand."""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from prism_ray.config import Config, dump_config, load_config, parse_config
from prism_ray.config import resolve as layers_of_config
from prism_ray.config.renamed import RENAMED, RenamedWarning, old_name, with_new_names
from prism_ray.methods import Method, find_method
from tests.config.loading import complaint, write
from tests.plans import config_of


def values_of(config: Config) -> dict[str, Any]:
    return config.model_dump(mode="json")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("evaluate.seeds=2", "evaluate.num_students=2"),
        ("evaluations.hard.seeds=2", "evaluations.hard.num_students=2"),
        ("store.images=png", "store.image_format=png"),
        ("recover.patch_shuffle=true", "recover.init_patch_shuffle=true"),
        ("image_sets.x.patch_shuffle=true", "image_sets.x.init_patch_shuffle=true"),
        ("image_sets={x: {patch_shuffle: true}}", "image_sets={x: {init_patch_shuffle: true}}"),
    ],
)
def test_an_old_name_of_an_option_is_the_new_one(config_path: Path, old: str, new: str) -> None:
    """A script of last year that ends in "unknown key", or whose setting is lost."""
    with pytest.warns(RenamedWarning) as caught:
        config = load_config(config_path, [old])
    assert config == load_config(config_path, [new])
    assert config != load_config(config_path)
    names = [text.replace("={x: {", ".x.").partition(":" if "{" in text else "=")[0] for text in (old, new)]
    said = f"{names[0]} is now called {names[1]}; the old name is read until 1.0 (--set {old})"
    assert [str(warning.message) for warning in caught] == [said]


def test_old_names_of_a_file_are_read_in_shared_and_named_sections(config_path: Path, minimal: str) -> None:
    """An old config that is half understood; the name that `relabel` keeps taken for the one that changed."""
    old = minimal.replace("store: ./runs/minimal", "store: {url: ./runs/minimal, images: png}")
    old = old.replace("  iterations: 100\n", "  iterations: 100\n  patch_shuffle: true\n")
    old += "  seeds: 2\nevaluations: {a: {seeds: 5}, b: {}}\nrelabel: {patch_shuffle: true}\n"
    with pytest.warns(RenamedWarning) as caught:
        config = load_config(write(config_path, old))
    assert config.image_files == "png"
    assert {name: e.num_students for name, e in config.evaluations.items()} == {"a": 5, "b": 2}
    assert values_of(config)["image_sets"]["distilled"]["init_patch_shuffle"] is True
    assert config.relabel.patch_shuffle is True
    assert [str(warning.message).partition(" is now")[0] for warning in caught] == [
        "store.images",
        "recover.patch_shuffle",
        "evaluate.seeds",
        "evaluations.a.seeds",
    ]
    assert all(str(warning.message).endswith(f"({config_path})") for warning in caught)


def test_an_option_takes_the_place_of_what_the_file_has_under_the_other_name(
    config_path: Path, minimal: str
) -> None:
    """Scripts with old options that break when the config they name gets the new names; or the other way."""
    write(config_path, minimal + "  num_students: 4\n")
    with pytest.warns(RenamedWarning):
        config = load_config(config_path, ["evaluate.seeds=7"])
    assert config.evaluations["student"].num_students == 7
    write(config_path, minimal + "  seeds: 4\n")
    with pytest.warns(RenamedWarning):  # the file still has the old name
        assert load_config(config_path, ["evaluate.num_students=7"]) == config


@pytest.mark.parametrize("names", [("seeds", "num_students"), ("num_students", "seeds")])
def test_both_names_of_a_key_are_refused(config_path: Path, minimal: str, names: tuple[str, str]) -> None:
    """One of two values that is dropped without a word."""
    options = [f"evaluate.{name}=2" for name in names]
    assert complaint(config_path, *options) == (
        f"--set {options[0]} and --set {options[1]} set one key by its old and its new name; remove the old "
        "one"
    )
    write(config_path, minimal + "".join(f"  {name}: 2\n" for name in names))
    with_both = (
        "evaluate.seeds and evaluate.num_students are the old and the new name of one key, and both are "
        "given; remove evaluate.seeds"
    )
    assert complaint(config_path) == f"{config_path}: {with_both}"
    option = "evaluate={seeds: 2, num_students: 3}"
    assert complaint(write(config_path, minimal), option) == f"--set {option}: {with_both}"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("evaluate.seeds=0", "evaluate.num_students = 0: must be 1 or more"),
        ("evaluations.a.seeds=0", "evaluations.a.num_students = 0: must be 1 or more"),
        ("store.images=jpeg", "store.image_format = 'jpeg': must be 'parquet' or 'png'"),
        ("image_sets={x: {patch_shuffle: true, init: noise}}", "init_patch_shuffle = True shuffles"),
        (
            "image_sets={r: {method: rded, patch_shuffle: true}}",
            "image_sets.r.init_patch_shuffle = True: unknown key",
        ),
    ],
)
def test_an_error_names_the_new_key_after_the_note(config_path: Path, override: str, message: str) -> None:
    """A complaint about a key that stands nowhere in the user's file, without the note that explains it."""
    with pytest.warns(RenamedWarning):
        assert message in complaint(config_path, override)


def test_a_misspelt_old_name_is_near_the_new_one(config_path: Path) -> None:
    """A typo in a script with old options that is answered with a key of another section."""
    assert "did you mean evaluate.num_students?" in complaint(config_path, "evaluate.seed=3")


def test_an_old_option_without_effect_is_named_as_it_was_written(config_path: Path) -> None:
    """The check of options that reach nothing overlooks the old name, or speaks of another option."""
    named = "evaluations={a: {num_students: 2}}"
    with pytest.warns(RenamedWarning):
        text = complaint(config_path, named, "evaluate.seeds=9")
    assert text.startswith("--set evaluate.seeds=9: evaluate.num_students = 9 has no effect")


def test_a_stored_config_is_read_without_a_warning() -> None:
    """plan.json of an earlier version that is taken for damaged, or warns at every `status`."""
    config = config_of(recover__init_patch_shuffle=True, store={"url": "x", "image_format": "png"})
    values = values_of(config)
    for section in values["image_sets"].values():
        if "init_patch_shuffle" in section:
            section["patch_shuffle"] = section.pop("init_patch_shuffle")
    for section in values["evaluations"].values():
        section["seeds"] = section.pop("num_students")
    values["store"]["images"] = values["store"].pop("image_format")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert parse_config(json.loads(json.dumps(values)), "plan.json") == config


def test_a_method_from_outside_may_have_an_old_name_in_its_preset(
    config_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plugin that stops working because a key of `recover` has another name."""

    class Outside(Method):
        name = "outside"
        preset: Mapping[str, Any] = {"init": "rded", "patch_shuffle": True}

    monkeypatch.setattr(
        layers_of_config, "find_method", lambda name: Outside() if name == "prism" else find_method(name)
    )
    assert values_of(load_config(config_path))["image_sets"]["distilled"]["init_patch_shuffle"] is True
    mine = load_config(config_path, ["recover.init_patch_shuffle=false"])
    assert values_of(mine)["image_sets"]["distilled"]["init_patch_shuffle"] is False


def test_a_dump_has_new_names_only(config_path: Path) -> None:
    """A resolved config that notes the same key at every resume."""
    with pytest.warns(RenamedWarning):
        config = load_config(config_path, ["evaluate.seeds=2", "store.images=png"])
    assert load_config(write(config_path, dump_config(config))) == config


def test_every_new_name_is_a_key_and_no_old_one_is() -> None:
    """A typo in the table: a key that is renamed to nothing."""
    values = values_of(config_of(store={"url": "x"}))
    held = {
        "recover": values["image_sets"]["distilled"],
        "evaluate": values["evaluations"]["student"],
        "store": values["store"],
    }
    assert held.keys() == RENAMED.keys()
    for section, names in RENAMED.items():
        assert set(names.values()) <= held[section].keys()
        assert not names.keys() & held[section].keys()
        assert {old_name(section, new): new for new in names.values()} == names


def test_a_key_that_was_never_renamed_keeps_its_name() -> None:
    """Fingerprints of old stores derived from names that they never had."""
    assert old_name("recover", "ipc") == "ipc"
    assert old_name("relabel", "patch_shuffle") == "patch_shuffle"
    assert old_name("nothing", "of that") == "of that"


def test_values_of_other_sections_and_the_users_own_values_are_left_alone() -> None:
    """`relabel.patch_shuffle`, a method's option or a class called `seeds` renamed by mistake."""
    values = {
        "relabel": {"patch_shuffle": True},
        "recover": {"options": {"patch_shuffle": 1, "seeds": 2}},
        "seeds": 1,
        "image_sets": {"seeds": {"options": {"patch_shuffle": 1}}},
        "evaluations": 3,
    }
    assert with_new_names(values, "file") == (values, {})
