"""A file for people that a command writes: where the user says, else in the store, else here."""

from pathlib import Path

from prism_ray.errors import StoreError, UsageError
from prism_ray.store import StoreFiles, layout


def write_for_people(
    files: StoreFiles, name: str, data: bytes, target: str | None, option: str
) -> tuple[str, str]:
    """Write a file to the path or URL `target`, by default under `name` in the store.

    If the store cannot be written to, it goes to the current folder, and replaces none that is there. Returns
    where it is, and a note for the user, "" if there is nothing to say. `option` names the target in errors.
    Raises UsageError if the target is a folder, and StoreError if nothing can be written.
    """
    plain_name = name.rpartition("/")[2]
    if target is not None:
        _write_outside(target, data, option, plain_name)
        return target, ""
    try:
        files.replace(name, data)
    except StoreError as error:
        here = _free_name(plain_name)
        _write_outside(here, data, option, plain_name)
        return here, f"{error.problem}; so {here} is in the current folder ({option} FILE: elsewhere)"
    return f"{files.location}/{name}", ""


def check_target(target: str | None, option: str, example: str) -> None:
    """Raise UsageError if `target` is a folder or a URL that cannot be written to: before the work for it."""
    if target is not None:
        _outside(target, option, example)


def _free_name(name: str) -> str:
    """Return a name that no file of the current folder has.

    >>> _free_name("no-such-sheet.png")
    'no-such-sheet.png'
    """
    path, number = Path(name), 1
    while path.exists():
        number += 1
        path = Path(name).with_stem(f"{Path(name).stem}-{number}")
    return str(path)


def _outside(target: str, option: str, example: str) -> tuple[StoreFiles, str]:
    """Return the folder of a target, and the name in it."""
    folder, _, name = target.rpartition("/")
    to = StoreFiles(folder or ("/" if target.startswith("/") else "."), option)
    if not name or (to.is_local and Path(target).is_dir()):
        inside = f"{target.rstrip('/')}/{example}"
        raise UsageError(f"{option} {target!r} is a folder; give a file, for example {inside}")
    return to, name


def _write_outside(target: str, data: bytes, option: str, example: str) -> None:
    """Write a file to a path or URL; a file that is there is replaced."""
    to, name = _outside(target, option, example)
    try:
        to.replace(name, data)
    except StoreError as error:
        raise StoreError(f"{option} {target}: {error.problem}; give another file") from error
    to.remove_empty(layout.WIP)
