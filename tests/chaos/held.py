"""What a store holds at the end of a run: read with the package's own eyes, to be compared with another's."""

import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prism_ray.errors import StoreError
from prism_ray.parts.images import ImageForm, read_images
from prism_ray.run import load_run, read_progress
from prism_ray.stages import stage_names
from prism_ray.stages.formation import Slot
from prism_ray.store import Commit, StoreFiles, layout, read_commit, read_part
from prism_ray.store.commits import list_commits

_ATTEMPT = re.compile(r"-\d+(?=\.\w+$)")


@dataclass(frozen=True)
class Held:
    """What each unit left: the same for every run of one config, however it went."""

    parts: dict[str, list[tuple[str, bytes]]]  # unit -> names without the attempt, and bytes
    figures: dict[str, dict[str, Any]]  # unit -> accuracies, losses, weights: all that its commit says
    slots: dict[str, Counter[Slot]]  # image set -> its images


def num_committed(store: Path) -> int:
    """Count the units that have a commit."""
    return sum(1 for _ in list_commits(StoreFiles(str(store))))


def read_commits(store: Path) -> dict[str, Commit]:
    """Return the commits of a store by unit, whole ones only; their files may be damaged."""
    files = StoreFiles(str(store))
    commits = {}
    for unit in list_commits(files):
        with suppress(StoreError):
            commits[unit] = read_commit(files, unit)
    return commits


def read_held(store: Path) -> Held:
    """Read a finished run that was tidied up.

    Fails if a planned unit has no whole commit, a commit no planned unit, or a file no commit.
    """
    files = StoreFiles(str(store))
    run = load_run(files)
    progress = read_progress(files, run, deep=True)
    assert not progress.damaged
    assert progress.done == {unit for stage in stage_names() for unit in run.plan.unit_ids(stage)}
    commits = read_commits(store)
    assert commits.keys() == progress.done
    names = Counter(part.name for commit in commits.values() for part in commit.files)
    assert set(names.values()) == {1}  # no file is of two units
    assert {name for folder in layout.part_folders() for name, _ in files.list(folder)} == names.keys()
    assert list(files.list(layout.WIP)) == []
    parts, figures = {}, {}
    for unit, commit in commits.items():
        parts[unit] = [(_ATTEMPT.sub("", part.name), read_part(files, part)) for part in commit.files]
        figures[unit] = {key: value for key, value in commit.stats.items() if key != "resumed_at"}
    slots = {}
    for name in run.plan.image_sets:
        made = [commits[unit] for unit in run.plan.unit_ids("recover", name)]
        slots[name] = Counter(read_images(files, made, ImageForm.of(run.plan, name)).slots)
    assert all(set(found.values()) == {1} for found in slots.values())
    assert all(found.total() == run.plan.num_images(name) for name, found in slots.items())
    return Held(parts, figures, slots)


def check_same(held: Held, calm: Held) -> None:
    """Fail if two runs differ, naming the units instead of printing their bytes."""
    assert held.parts.keys() == calm.parts.keys()
    assert [unit for unit in calm.parts if held.parts[unit] != calm.parts[unit]] == []
    assert held.figures == calm.figures
    assert held.slots == calm.slots
