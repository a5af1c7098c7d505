"""The records of a sweep's folder (elsewhere.py): its points, and which files of a point the others use."""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from prism_ray.store.commits import list_commits, read_commit
from prism_ray.store.elsewhere import SWEEP_RECORDS, is_elsewhere, is_point, name_elsewhere
from prism_ray.store.files import StoreFiles
from prism_ray.store.records import FORMAT, MAX_RECORD_BYTES, decode_record
from prism_ray.store.remedy import damaged

MAX_POINTS = 10_000  # of a sweep


@dataclass(frozen=True)
class SweepRecord:
    """The points of a sweep file as they were when `prism-ray sweep` was last called with it."""

    name: str
    points: dict[str, dict[str, Any]]  # folder of the store -> keys that differ from the base, with values
    has_seeds: bool = False  # the file has `seeds`, so points that differ only in the seed are one row
    # Points that the file had before. Their stores remain, and others may use their files.
    earlier: dict[str, dict[str, Any]] = field(default_factory=dict)
    format: int = FORMAT


def write_sweep(folder: StoreFiles, record: SweepRecord) -> None:
    """Write the record of a sweep file in place of the one with its name; points that it lacks stay known."""
    held = read_sweeps(folder).get(record.name)
    if held is not None:
        known = held.earlier | held.points
        earlier = {point: known[point] for point in known if point not in record.points}
        record = SweepRecord(record.name, record.points, record.has_seeds, earlier)
    if record != held:
        data = json.dumps(asdict(record), indent=1).encode()
        assert len(data) <= MAX_RECORD_BYTES
        folder.replace(f"{SWEEP_RECORDS}/{record.name}.json", data)


def read_sweeps(folder: StoreFiles) -> dict[str, SweepRecord]:
    """Return the records of a sweep's folder by the name of the sweep file; none if it is no sweep.

    Raises StoreError if a record is damaged.
    """
    found: dict[str, SweepRecord] = {}
    for name, _ in list(folder.list(SWEEP_RECORDS)):
        if not name.endswith(".json"):
            continue
        data = folder.read_up_to(name, MAX_RECORD_BYTES + 1)
        try:
            record = decode_record(SweepRecord, data, f"{folder.location}/{name}")
            if name != f"{SWEEP_RECORDS}/{record.name}.json":
                raise ValueError(f"it is the record of {record.name!r}")
            if wrong := [each for each in (*record.points, *record.earlier) if not is_point(each)]:
                raise ValueError(f"{wrong[0]!r} is not the name of a point")
        except ValueError as error:
            raise damaged(folder, name, error) from None
        found[record.name] = record
    return found


def points_of(records: dict[str, SweepRecord]) -> list[str]:
    """Return the folders of all points, of all sweep files, those of earlier files too."""
    return list(dict.fromkeys(point for each in records.values() for point in (*each.points, *each.earlier)))


def folder_of(files: StoreFiles) -> tuple[StoreFiles, str] | None:
    """Return the folder above a store, and the store's name in it; None if it has none."""
    location = os.path.realpath(files.location) if files.is_local else files.location
    above, _, name = location.rpartition("/")
    if not above or above.endswith(("/", ":")):
        return None
    return StoreFiles(above), name


def lent_parts(files: StoreFiles) -> Iterator[str]:
    """Yield the names of the store's files that commits of other points of its sweep use.

    Raises StoreError if a commit of another point is damaged, because the files that it named are unknown.
    """
    above = folder_of(files)
    if above is None:
        return
    folder, me = above
    for point in points_of(read_sweeps(folder)):
        if point == me:
            continue
        other = StoreFiles(f"{folder.location}/{point}")
        for unit_id in list_commits(other):
            for part in read_commit(other, unit_id).files:
                prefix = name_elsewhere(me, "")
                if is_elsewhere(part.name) and part.name.startswith(prefix):
                    yield part.name[len(prefix) :]
