"""Keys of the config that have a new name: the table, and the reading of old names. Torch-free, plain data.

An old name is read until version 1.0. The command line then prints a note that says the new name.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prism_ray.errors import ConfigError

# Section -> old name -> new name. The named sections below have the keys of the shared ones.
RENAMED: dict[str, dict[str, str]] = {
    "recover": {"patch_shuffle": "init_patch_shuffle"},
    "evaluate": {"seeds": "num_students"},
    "store": {"images": "image_format"},
}
_NAMED = {"image_sets": "recover", "evaluations": "evaluate"}
_SECTIONS = RENAMED.keys() | _NAMED.keys()


class RenamedWarning(FutureWarning):
    """A key or an option stands under its old name. The message says both names and where it stands."""


@dataclass(frozen=True)
class RenamedKey:
    """A key that the user wrote under its old name, for example evaluate.seeds."""

    old: str
    new: str  # both with the whole path


def note(old: str, new: str, where: str) -> RenamedWarning:
    """Return the warning for an old name; `where` is the file or the option that it stands in."""
    return RenamedWarning(f"{old} is now called {new}; the old name is read until 1.0 ({where})")


def old_name(section: str, name: str) -> str:
    """Return what a key of `section` was called before, as stores of plan version 3 and older have it.

    For example, old_name("recover", "init_patch_shuffle") is "patch_shuffle". A key that always had its name
    keeps it.
    """
    return next((old for old, new in RENAMED.get(section, {}).items() if new == name), name)


def old_names(path: Iterable[str]) -> list[str]:
    """Return the old names that are still read in the section at `path`."""
    return list(RENAMED.get(_section(path), {}))


def other_name(path: Sequence[str]) -> str | None:
    """Return the other name, old or new, of the key at `path`; None if it has one name only."""
    names = RENAMED.get(_section(path[:-1]), {})
    return names.get(path[-1]) or {new: old for old, new in names.items()}.get(path[-1])


def new_key(key: str) -> str:
    """Return a key with its whole path under its new name: evaluate.seeds -> evaluate.num_students."""
    *path, name = key.split(".")
    return ".".join([*path, RENAMED.get(_section(path), {}).get(name, name)])


def with_new_names(
    values: Mapping[str, Any], where: Callable[[str], str], path: tuple[str, ...] = ()
) -> tuple[dict[str, Any], list[RenamedKey]]:
    """Return `values` (plain data: a config, or its section at `path`) with new names, and the renamed keys.

    `where` says by which file or option a key was set. Raises ConfigError if a key is given under both names.
    """
    names = RENAMED.get(_section(path), {})
    result: dict[str, Any] = {}
    renamed: list[RenamedKey] = []
    for key, value in values.items():
        name = names.get(key, key)
        if name != key:
            old, new = (".".join([*path, either]) for either in (key, name))
            if name in values:
                raise ConfigError(
                    f"{where('.'.join(path))}: {old} and {new} are the old and the new name of one key, and "
                    f"both are given; take {old} out"
                )
            renamed.append(RenamedKey(old, new))
        elif isinstance(value, Mapping) and _section((*path, str(key))) in _SECTIONS:
            value, inner = with_new_names(value, where, (*path, key))
            renamed += inner
        result[name] = value
    return result, renamed


def in_old_names(text: str, renamed: Iterable[RenamedKey]) -> str:
    """Return the text of an error with the names that the user wrote."""
    for key in renamed:
        text = _replaced(text, key.new, key.old)
        text = _replaced(text, key.new.rpartition(".")[2], key.old.rpartition(".")[2])
    return text


def _replaced(text: str, word: str, other: str) -> str:
    return re.sub(rf"(?<![\w.]){re.escape(word)}(?!\w)", other.replace("\\", r"\\"), text)


def _section(path: Iterable[str]) -> str:
    """Return the section of the table that holds the keys at `path`: image_sets.x -> recover."""
    parts = list(path)
    return ".".join([_NAMED[parts[0]], *parts[2:]] if len(parts) > 1 and parts[0] in _NAMED else parts)
