"""The methods by name: the built-in ones, those of installed packages, and the options that they take."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel, Field, model_validator

from prism_ray import methods
from prism_ray.config import Config, RecoverConfig, SelectConfig, parse_config
from prism_ray.errors import ConfigError
from prism_ray.methods import Method, find_method, method_names
from prism_ray.methods.protocols import PROTOCOLS

BUILT_IN = ("prism", "sre2l", "g-vbsm", "edc", "delt", "cv-dd", "lpld", "rded", "random-real")


class Options(BaseModel, extra="forbid"):
    weight: float = Field(default=1e-4, ge=0.0)
    size: int = 3

    @model_validator(mode="after")
    def _check(self) -> "Options":
        if self.size > 100 * self.weight + 3:
            raise ValueError("size is too large for so small a weight")
        return self


class Example(Method):
    """What a package of a user's own would bring."""

    name = "example"
    title = "Example"
    source = "a test"
    preset = {"learning_rate": 0.125, "selection": {"slots": 1}}  # noqa: RUF012 - never changed
    options = Options


class Chosen(Method):
    """A selection of a user's own."""

    name = "chosen"
    title = "Chosen"
    source = "a test"
    preset = {"init": "median"}  # noqa: RUF012 - never changed
    optimises = False


class Nameless(Method):
    """Its author forgot the name."""


class Impostor(Method):
    name = "prism"


@dataclass(frozen=True)
class Entry:
    """Stands in for an entry point of an installed package."""

    name: str
    kind: Any

    @property
    def value(self) -> str:
        return f"package:{getattr(self.kind, '__name__', 'thing')}"

    def load(self) -> Any:
        return self.kind


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[str]]]:
    """Makes objects look like what entry points name; returns a list that grows with each look at them."""

    def put(*kinds: Any) -> list[str]:
        looks: list[str] = []

        def entry_points(*, group: str) -> list[Entry]:
            looks.append(group)
            return [Entry(f"entry{place}", kind) for place, kind in enumerate(kinds)]

        monkeypatch.setattr(methods, "entry_points", entry_points)
        methods._registry.cache_clear()
        return looks

    yield put
    monkeypatch.undo()
    methods._registry.cache_clear()


def config_of(**recover: Any) -> Config:
    return parse_config(
        {
            "store": "nowhere",
            "data": {"source": "digits", "image_size": 32},
            "teachers": {"pool": [{"name": f"t{k}", "arch": "timm:x"} for k in range(3)]},
            "recover": {"ipc": 1, "primary": "t0", **recover},
            "evaluate": {"student": {"arch": "timm:x"}},
        },
        "test.yaml",
    )


def test_the_names_are_pinned() -> None:
    """Would catch a method that is renamed or lost: stores and configs have it by name."""
    assert method_names() == BUILT_IN


@pytest.mark.parametrize("name", BUILT_IN)
def test_methods_are_found_by_their_names(name: str) -> None:
    """Would catch a method under another's name, or without what `prism-ray methods` prints."""
    method = find_method(name)
    assert method is not None
    assert method.name == name
    assert method.title
    assert method.source
    assert method.protocol in PROTOCOLS
    assert method.optimises == (name not in ("rded", "random-real"))


@pytest.mark.parametrize("name", ["", "PRISM", "prisn", "prism ", "gvbsm"])
def test_an_unknown_name_finds_nothing(name: str) -> None:
    """Would catch a lookup that guesses."""
    assert find_method(name) is None


def test_an_unknown_method_is_refused_with_the_nearest_name() -> None:
    """Would catch a misspelt method that runs as PRISM, or an error that leaves the user alone."""
    with pytest.raises(
        ConfigError, match=r"recover\.method: 'sre21' is not a method; did you mean 'sre2l'\?"
    ):
        config_of(method="sre21")


def test_the_registry_needs_no_torch() -> None:
    """Would catch a method that makes every look at a config wait for torch."""
    code = "import sys, prism_ray.methods as m; m.method_names(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_installed_package_brings_a_method(install: Callable[..., list[str]]) -> None:
    """Would catch entry points that are not read, a preset that is not laid under what the user sets, or an
    installed method before the built-in ones."""
    install(Example, Chosen)
    assert method_names() == (*BUILT_IN, "example", "chosen")
    recover = config_of(method="example", iterations=5000).image_sets["distilled"]
    assert isinstance(recover, RecoverConfig)
    assert (recover.learning_rate, recover.selection.slots, recover.iterations) == (0.125, 1, 5000)
    chosen = config_of(method="chosen").image_sets["distilled"]
    assert isinstance(chosen, SelectConfig)
    assert chosen.init == "median"


def test_entry_points_are_read_once(install: Callable[..., list[str]]) -> None:
    """Would catch another group's entry points, or a search through all installed packages for each section
    of a config."""
    looks = install(Example)
    config_of(method="example")
    assert find_method("example") is find_method("example")
    assert looks == ["prism_ray.methods"]


@pytest.mark.parametrize("thing", [dict, "prism", Example(), object, lambda: Example])
def test_an_entry_point_that_is_no_method_is_refused(thing: Any, install: Callable[..., list[str]]) -> None:
    """Would catch an instance, or any class at all, that fails later and elsewhere."""
    install(thing)
    with pytest.raises(
        TypeError, match=r"the entry point entry0 = package:\S+ is not a prism_ray\.methods\.Method"
    ):
        method_names()


def test_a_method_without_a_name_is_refused(install: Callable[..., list[str]]) -> None:
    """Would catch an AttributeError that does not say which package it is about."""
    install(Nameless)
    with pytest.raises(TypeError, match="entry0 = package:Nameless is a method without a name"):
        method_names()


@pytest.mark.parametrize("kinds", [(Impostor,), (Example, Example)])
def test_a_name_that_is_taken_is_refused(
    kinds: tuple[type[Method], ...], install: Callable[..., list[str]]
) -> None:
    """Would catch an installed package that quietly takes the place of a method."""
    install(*kinds)
    with pytest.raises(TypeError, match=rf"names its method '{kinds[0].name}', which is taken"):
        method_names()


# Options


def test_options_reach_the_method(install: Callable[..., list[str]]) -> None:
    """Would catch options that are dropped, or are checked for other methods than their own."""
    install(Example)
    recover = config_of(method="example", options={"weight": 0.5}).image_sets["distilled"]
    assert isinstance(recover, RecoverConfig)
    assert recover.options == {"weight": 0.5}
    Example.check_options({})
    Example.check_options({"weight": 2, "size": 7})


@pytest.mark.parametrize("name", BUILT_IN)
def test_methods_without_options_take_none(name: str) -> None:
    """Would catch an option that is set for a method which has no use for it."""
    method = find_method(name)
    assert method is not None
    method.check_options({})
    with pytest.raises(ValueError, match=f"method {name} takes no options, got weight, size"):
        method.check_options({"weight": 1.0, "size": 2})


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"weight": "much"}, r"options\.weight = 'much': must be a number"),
        ({"weight": -1.0}, r"options\.weight = -1\.0: must be 0 or more"),
        ({"wieght": 1.0}, r"options\.wieght = 1\.0: unknown key"),
        ({"size": 9}, r"options = .*size is too large for so small a weight"),
    ],
)
def test_wrong_options_are_named(
    options: dict[str, Any], complaint: str, install: Callable[..., list[str]]
) -> None:
    """Would catch an error that does not say which option is wrong: a model that passes on another's
    complaint loses its place."""
    with pytest.raises(ValueError, match=f"method example: {complaint}"):
        Example.check_options(options)
    install(Example)
    with pytest.raises(ConfigError, match=rf"test\.yaml: recover: method example: {complaint}"):
        config_of(method="example", options=options)


def test_all_wrong_options_are_named_at_once() -> None:
    """Would catch a user who is sent round once for each mistake."""
    with pytest.raises(ValueError, match=r"options\.weight = 'a': .*; options\.size = 'b': "):
        Example.check_options({"weight": "a", "size": "b"})
