"""The table of renamed config keys, and the functions that read the old names. Plain data.

Old names are read until version 1.0. The command line prints a note with the new name.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from prism_ray.errors import ConfigError

# Shared section -> old name -> new name. The named sections below have the same keys.
RENAMED: dict[str, dict[str, str]] = {
    "recover": {"patch_shuffle": "init_patch_shuffle"},
    "evaluate": {"seeds": "num_students"},
    "store": {"images": "image_format"},
}
_NAMED = {"image_sets": "recover", "evaluations": "evaluate"}


class RenamedWarning(FutureWarning):
    """An old name of a key was used. The message has both names, and the file or the option."""


def note(old: str, new: str, where: str) -> str:
    """Return the note for an old name; `where` is the file or the option that has it."""
    return f"{old} is now called {new}; the old name is read until 1.0 ({where})"


def old_name(section: str, name: str) -> str:
    """Return the name that a key of `section` had in plan version 3, which its fingerprints contain.

    For example, old_name("recover", "init_patch_shuffle") is "patch_shuffle". A key without an old name is
    returned as it is.
    """
    return next((old for old, new in RENAMED.get(section, {}).items() if new == name), name)


def old_names(path: Sequence[str]) -> dict[str, str]:
    """Return the old names that are read in the section at `path`, with their new names."""
    section = _NAMED.get(path[0], "") if len(path) == 2 else ".".join(path)
    return RENAMED.get(section, {})


def with_new_names(values: Any, where: str, path: Sequence[str] = ()) -> tuple[Any, dict[str, str]]:
    """Return `values` (a config, or its section at `path`) with new names, and a note for each old name.

    `where` is the file or the option of the values. Raises ConfigError if a key is given under both names.
    """
    if not isinstance(values, Mapping) or len(path) > 2:
        return values, {}
    names = old_names(path)
    result: dict[str, Any] = {}
    notes: dict[str, str] = {}
    for key, value in values.items():
        name = key
        if key in names:
            name = names[key]
            old, new = ".".join([*path, key]), ".".join([*path, name])
            if name in values:
                raise ConfigError(
                    f"{where}: {old} and {new} are the old and the new name of one key, and both are given; "
                    f"remove {old}"
                )
            notes[old] = note(old, new, where)
        result[name], inner = with_new_names(value, where, [*path, str(name)])
        notes |= inner
    return result, notes
