"""Files that nothing needs: parts that no commit names, and what attempts that were cut off left in wip/."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from prism_ray.errors import StoreError
from prism_ray.store import layout
from prism_ray.store.commits import list_commits, read_commit
from prism_ray.store.files import StoreFiles


@dataclass(frozen=True)
class Orphan:
    """A file that nothing needs."""

    name: str
    num_bytes: int


def find_orphans(files: StoreFiles, older_than_s: float) -> Iterator[Orphan]:
    """Yield the files that nothing needs and that were last written `older_than_s` seconds ago or more.

    The states of units that are not committed are needed. Raises StoreError if a commit is damaged: what it
    named is not known then.
    """
    committed = list_commits(files)
    named = {part.name for unit_id in committed for part in read_commit(files, unit_id).files}
    done = {layout.checkpoint(unit_id) for unit_id in committed}
    latest = time.time() - older_than_s
    for folder in (*layout.part_folders(), layout.WIP):
        for name, num_bytes in files.list(folder):
            is_state = folder == layout.WIP and name.endswith(layout.STATE_SUFFIX)
            needed = name in named or (is_state and name not in done)
            if not needed and _written_at(files, name) <= latest:
                yield Orphan(name, num_bytes)


def _written_at(files: StoreFiles, name: str) -> float:
    """Return when a file was last written; now, if it has gone meanwhile."""
    try:
        return files.written_at(name)
    except StoreError:
        return time.time()
