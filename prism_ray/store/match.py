"""What is asked, held against what the store has: the run it holds, and the data as that run knows it."""

from dataclasses import dataclass
from functools import cached_property

from prism_ray.config import Config
from prism_ray.data import DataFacts, FolderIndex, check_config, index_folder, open_data
from prism_ray.errors import StoreError
from prism_ray.store import layout
from prism_ray.store.files import StoreFiles
from prism_ray.store.run import Run, has_commits, load_run, new_run


@dataclass(frozen=True)
class Asked:
    """A config, its data, and the run with committed work that the store holds, if any."""

    config: Config
    facts: DataFacts
    index: FolderIndex | None  # of an image folder
    held: Run | None

    @property
    def num_threads(self) -> int | None:
        """Threads per actor as the config or the held run settles them; None: still to be settled."""
        threads = self.config.orchestrate.threads_per_actor
        if threads != "auto":
            return threads
        return self.held.num_threads if self.held else None

    @cached_property
    def run(self) -> Run:
        """The run that is asked for, once the threads are settled."""
        assert self.num_threads is not None
        return new_run(self.config, self.facts, self.num_threads)

    @property
    def fits(self) -> bool:
        """True if the held run, if any, is the one that is asked for."""
        return self.held is None or self.run.fingerprint == self.held.fingerprint


def match(config: Config, files: StoreFiles, origin: str) -> Asked:
    """Read the store and the data; `origin` names the config in errors. Writes nothing.

    Raises UsageError if config and data do not fit, StoreError if the store is damaged.
    """
    held = None
    if has_commits(files):
        if not files.exists(layout.PLAN):
            raise StoreError(
                f"{files.location} holds finished work but no {layout.PLAN} that says of which run; restore "
                "that file, or use another store"
            )
        held = load_run(files)
    index = _folder_index(config, files, held)
    facts = open_data(config.data, index).facts()
    check_config(config, facts, origin)
    return Asked(config, facts, index, held)


def _folder_index(config: Config, files: StoreFiles, held: Run | None) -> FolderIndex | None:
    """Return the listing of an image folder: the held run's, unless other folders are asked for."""
    if config.data.source != "image-folder":
        return None
    if held is not None and files.exists(layout.DATA_INDEX):
        asked_for = (config.data.path, config.data.test_path)
        if asked_for == (held.config.data.path, held.config.data.test_path):
            return FolderIndex.from_parquet(files.read(layout.DATA_INDEX))
    return index_folder(config.data)
