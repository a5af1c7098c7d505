"""What goes wrong in a store: files that change or vanish, garbage, a folder that is away for a while."""

import ctypes
import os
import random
import secrets
import time
from pathlib import Path

from prism_ray.run import load_run
from prism_ray.stages.recover import image_part
from prism_ray.store import StoreFiles, layout
from tests.chaos.held import read_commits

_RENAME_EXCHANGE = 2
_AT_FDCWD = -100


def damage_file(path: Path, rng: random.Random) -> str:
    """Damage a file in place, or delete it; return what was done."""
    size = path.stat().st_size
    how = rng.choice(["truncated", "emptied", "overwritten", "lengthened", "deleted"])
    if how == "truncated":
        os.truncate(path, rng.randrange(size) if size else 0)
    elif how == "emptied":
        os.truncate(path, 0)
    elif how == "overwritten":  # of the size that it had
        with path.open("r+b") as file:
            file.seek(rng.randrange(size) if size else 0)
            file.write(rng.randbytes(min(64, size - file.tell())))
    elif how == "lengthened":
        with path.open("ab") as file:
            file.write(rng.randbytes(64))
    else:
        path.unlink()
    return f"{path.parent.name}/{path.name} {how}"


def damage_part(store: Path, rng: random.Random) -> str | None:
    """Damage a file that a commit names; return what was done, None if there is none."""
    parts = [store / part.name for commit in read_commits(store).values() for part in commit.files]
    found = [path for path in parts if path.exists()]
    return damage_file(rng.choice(found), rng) if found else None


def damage_commit(store: Path, rng: random.Random) -> str | None:
    """Damage a file that commits are read from; return what was done, None if there is none."""
    found = sorted(path for path in (store / layout.COMMITS).rglob("*") if path.is_file())
    return damage_file(rng.choice(found), rng) if found else None


def plant_garbage(store: Path, rng: random.Random) -> str:
    """Leave what attempts that were cut off may leave: files half written, a state that is none."""
    planted = [store / layout.WIP / f"aside-{secrets.token_hex(8)}"]
    files = StoreFiles(str(store))
    if files.exists(layout.PLAN):
        run, commits = load_run(files), read_commits(store)
        pending = [unit for unit in run.plan.units("recover", "distilled") if unit.id not in commits]
        for unit in rng.sample(pending, min(3, len(pending))):
            planted.append(store / layout.checkpoint(unit.id))
            planted.append(store / image_part(unit, 0))
    for path in planted:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.randbytes(rng.randrange(2000)))
    return f"{len(planted)} files"


def take_away(folder: Path, seconds: float) -> None:
    """Let there be a file in the place of a folder for a while: all that reads or writes there fails."""
    stand_in = folder.with_name(f"{folder.name}.away")
    stand_in.write_bytes(b"")
    _exchange(folder, stand_in)
    try:
        time.sleep(seconds)
    finally:
        _exchange(folder, stand_in)
        stand_in.unlink()


def _exchange(one: Path, two: Path) -> None:
    """Exchange two names at once, so that nobody can put a third thing in the place of either."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(two), _RENAME_EXCHANGE) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(one))
