"""The table of renamed config keys, and the functions that read the old names. Plain data.

Old names are read until version 1.0. The command line prints a note with the new name.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prism_ray.errors import ConfigError

# Shared section -> old name -> new name. The named sections below have the same keys.
RENAMED: dict[str, dict[str, str]] = {
    "recover": {"patch_shuffle": "init_patch_shuffle"},
    "evaluate": {"seeds": "num_students"},
    "store": {"images": "image_format"},
}
_NAMED = {"image_sets": "recover", "evaluations": "evaluate"}
_SECTIONS = RENAMED.keys() | _NAMED.keys()


class RenamedWarning(FutureWarning):
    """An old name of a key or an option was used. The message has both names, and the file or the option."""


@dataclass(frozen=True)
class RenamedKey:
    """A key that the user wrote with its old name. Both names have the whole path, as evaluate.seeds has."""

    old: str
    new: str  # both with the whole path


def note(old: str, new: str, where: str) -> RenamedWarning:
    """Return the warning for an old name; `where` is the file or the option that has it."""
    return RenamedWarning(f"{old} is now called {new}; the old name is read until 1.0 ({where})")


def old_name(section: str, name: str) -> str:
    """Return the name that a key of `section` had in plan version 3, which its fingerprints contain.

    For example, old_name("recover", "init_patch_shuffle") is "patch_shuffle". A key without an old name is
    returned as it is.
    """
    return next((old for old, new in RENAMED.get(section, {}).items() if new == name), name)


def old_names(path: Iterable[str]) -> list[str]:
    """Return the old names that are still read in the section at `path`."""
    return list(RENAMED.get(_section(path), {}))


def other_name(path: Sequence[str]) -> str | None:
    """Return the other name (old or new) of the key at `path`; None if it has only one name."""
    names = RENAMED.get(_section(path[:-1]), {})
    return names.get(path[-1]) or {new: old for old, new in names.items()}.get(path[-1])


def new_key(key: str) -> str:
    """Return a key (with its whole path) with its new name: evaluate.seeds -> evaluate.num_students."""
    *path, name = key.split(".")
    return ".".join([*path, RENAMED.get(_section(path), {}).get(name, name)])


def with_new_names(
    values: Mapping[str, Any], where: Callable[[str], str], path: tuple[str, ...] = ()
) -> tuple[dict[str, Any], list[RenamedKey]]:
    """Return `values` (plain data: a config, or its section at `path`) with new names, and the renamed keys.

    `where` returns the file or the option that set a key. Raises ConfigError if a key is given under both
    names.
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
                    f"both are given; remove {old}"
                )
            renamed.append(RenamedKey(old, new))
        elif isinstance(value, Mapping) and _section((*path, str(key))) in _SECTIONS:
            value, inner = with_new_names(value, where, (*path, key))
            renamed += inner
        result[name] = value
    return result, renamed


def in_old_names(text: str, renamed: Iterable[RenamedKey]) -> str:
    """Return the text of an error with the names as the user wrote them."""
    for key in renamed:
        text = _replaced(text, key.new, key.old)
        text = _replaced(text, key.new.rpartition(".")[2], key.old.rpartition(".")[2])
    return text


def _replaced(text: str, word: str, other: str) -> str:
    return re.sub(rf"(?<![\w.]){re.escape(word)}(?!\w)", other.replace("\\", r"\\"), text)


def _section(path: Iterable[str]) -> str:
    """Return the section of the table for the keys at `path`: image_sets.x -> recover."""
    parts = list(path)
    return ".".join([_NAMED[parts[0]], *parts[2:]] if len(parts) > 1 and parts[0] in _NAMED else parts)
