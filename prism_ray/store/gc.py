"""Files that are no longer needed: parts that no commit names, and what interrupted attempts left in wip/."""

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from prism_ray.errors import StoreError
from prism_ray.store import layout
from prism_ray.store.commits import list_commits, read_commit
from prism_ray.store.files import StoreFiles
from prism_ray.store.sweeps import lent_parts


class Orphan(NamedTuple):
    """A file that is no longer needed."""

    name: str
    num_bytes: int


def find_orphans(files: StoreFiles, older_than_s: float) -> Iterator[Orphan]:
    """Yield the files that are not needed and were last written at least `older_than_s` seconds ago.

    Checkpoints of units without a commit are needed, and so are parts that other points of a sweep use.
    Raises StoreError if a commit is damaged, there or here, because the files that it named are then unknown.
    """
    committed = list_commits(files)
    named = {part.name for unit_id in committed for part in read_commit(files, unit_id).files}
    named.update(lent_parts(files))
    done = {layout.checkpoint(unit_id) for unit_id in committed}
    latest = time.time() - older_than_s
    for folder in (*layout.part_folders(), layout.WIP):
        for name, num_bytes in files.list(folder):
            is_checkpoint = folder == layout.WIP and name.endswith(layout.CHECKPOINT_SUFFIX)
            if name not in named and (not is_checkpoint or name in done):
                with suppress(StoreError):  # it was deleted meanwhile
                    if files.written_at(name) <= latest:
                        yield Orphan(name, num_bytes)
