"""Stores on disk, for tests that compare what two runs have made: what is committed, and copies."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path


def committed(store: Path) -> dict[str, list[tuple[str, str]]]:
    """Unit -> (name, SHA-256) of the files that its commit names."""
    found = {}
    for path in (store / "commits").rglob("*.json"):
        commit = json.loads(path.read_text())
        found[commit["unit"]] = [(part["name"], part["sha256"]) for part in commit["files"]]
    return found


def parts(store: Path) -> dict[str, bytes]:
    """Every Parquet and weights file of a store, committed or not, by name."""
    names = [path for suffix in ("*.parquet", "*.safetensors") for path in store.rglob(suffix)]
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in names}


def copy_store(source: Path, target: Path, keep: Callable[[str], bool]) -> None:
    """Copy a finished store as it was when only the units that are to be kept were done."""
    shutil.copytree(source, target)
    for path in (target / "commits").rglob("*.json"):
        commit = json.loads(path.read_text())
        if not keep(commit["unit"]):
            for part in commit["files"]:
                (target / part["name"]).unlink()
            path.unlink()
