"""Compares the requested config with the store: with the run in it, and with the data that the run used."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from prism_ray.config import Config, DataConfig, with_controls
from prism_ray.config.controls import with_finished_controls
from prism_ray.data import (
    Changes,
    DataFacts,
    FolderIndex,
    RealImages,
    check_config,
    find_changes,
    index_folder,
    open_data,
)
from prism_ray.errors import ConfigError, StoreError
from prism_ray.plan import Plan
from prism_ray.plan.fingerprint import clashes
from prism_ray.plan.versions import PLAN_VERSION
from prism_ray.run.plan_file import Run, bound_scopes, check_resumable, continued, load_run, new_run
from prism_ray.run.restore import restored_run
from prism_ray.store import layout
from prism_ray.store.commits import list_commits
from prism_ray.store.failures import damaged_failures
from prism_ray.store.files import StoreFiles
from prism_ray.store.remedy import damaged
from prism_ray.teachers.weight_files import weights_sha256
from prism_ray.wording import first_of

_MAX_INDEX_BYTES = 2**30  # of the listing of an image folder: 50 million files


class OpenData(NamedTuple):
    """Real images that are open; several runs can share them."""

    listing: FolderIndex | None  # of an image folder
    images: RealImages
    facts: DataFacts

    @classmethod
    def of(cls, config: DataConfig, index: FolderIndex | None) -> "OpenData":
        """Open the images and hash them."""
        images = open_data(config, index)
        return cls(index, images, images.facts())


@dataclass(frozen=True)
class Asked:
    """A requested config, its data, and the run in the store if that has committed units."""

    config: Config  # with its controls
    facts: DataFacts
    data: RealImages
    index: FolderIndex | None  # of an image folder
    changes: Changes  # of the image folder since the index was made
    held: Run | None  # the run in the store
    committed: dict[str, int]  # unit id -> bytes of its commit
    bound: set[str]  # scopes with commits
    weights: dict[str, str]  # teacher -> SHA-256 of its file of weights
    plan_is_lost: bool  # plan.json must be written again; `held` was restored from the commits

    def with_commits(self, committed: dict[str, int]) -> "Asked":
        """Return the same with the commits as they are now."""
        return replace(self, committed=committed, bound=bound_scopes(committed))

    @property
    def num_threads(self) -> int | None:
        """Threads per actor as the config or the stored run says, None if they are not decided yet."""
        threads = self.config.orchestrate.threads_per_actor
        if threads == "auto":
            return self.held.num_threads if self.held else None
        return threads

    @property
    def about_images(self) -> tuple[str, ...]:
        """Lines about an image folder: what was taken, what was left out and why, what has changed."""
        lines = self.index.describe() if self.index else []
        return (*lines, *filter(None, (self.changes.problem, self.changes.note)))

    @cached_property
    def run(self) -> Run:
        """The requested run, if the threads are decided."""
        assert self.num_threads is not None
        return self.run_with(self.num_threads)

    def run_with(self, num_threads: int) -> Run:
        """Return the requested run, in the plan version of the stored one and with all that it has kept."""
        if self.held is None:
            return new_run(self.config, self.facts, num_threads, self.weights, PLAN_VERSION)
        run = new_run(self.config, self.facts, num_threads, self.weights, self.held.plan_version)
        return continued(self.held, run, self.bound)

    @property
    def fits(self) -> bool:
        """True if the requested run changes no result that the stored run has committed."""
        return self.held is None or not clashes(self.held.scopes, self.run.scopes, self.bound)


def match(config: Config, files: StoreFiles, origin: str, known: OpenData | None = None) -> Asked:
    """Compare a requested config with the run in the store and with the data; write nothing.

    `known` is the data of the same settings, if another run has just opened it. `origin` names the config in
    errors. Raises UsageError if config and data do not fit or a newer version made the store, and
    StoreError if the store is damaged.

    >>> match(config, files, "config.yaml").fits
    True
    """
    held = lost = None
    committed = list_commits(files)
    bound = bound_scopes(committed)
    if bound:
        try:
            held = load_run(files)
        except StoreError as error:
            lost = error
    if held is not None:
        check_resumable(files, held)
    begun = held.config if held is not None else None
    if lost is not None:
        finished = {scope.rpartition("/")[2] for scope in bound if scope.startswith("evaluate/")}
        begun = with_finished_controls(config, finished, origin)
    config = with_controls(config, begun, origin)
    is_new = held is None and lost is None
    if known is not None and (is_new or known.listing is None):  # the folder of a held run may have changed
        changes = Changes()
    else:
        index, changes = _folder_index(config, files, held, lost is not None)
        known = OpenData.of(config.data, index)
    index, data, facts = known
    check_config(config, facts, origin)
    Plan(config, facts).check_size(origin)
    weights = _hash_weights(config, held, bound)
    if lost is not None:
        held = restored_run(files, committed, config, facts, weights, lost)
    return Asked(config, facts, data, index, changes, held, committed, bound, weights, lost is not None)


def _hash_weights(config: Config, held: Run | None, bound: set[str]) -> dict[str, str]:
    """Hash the files of weights that the pool names; raises ConfigError if one cannot be read.

    A file may be missing if the store has its teacher: then the hash is the one in the stored run.
    """
    digests: dict[str, str] = {}
    runs = (*held.others, held) if held else ()
    known = {teacher.name: teacher.arch for run in runs for teacher in run.config.teachers.pool}
    for number, teacher in enumerate(config.teachers.pool):
        try:
            digest = weights_sha256(teacher, f"teachers.pool.{number}")
        except ConfigError:
            in_store = f"squeeze/{teacher.name}" in bound and known.get(teacher.name) == teacher.arch
            if held is None or not in_store:
                raise
            digest = held.weights[teacher.name]
        if digest is not None:
            digests[teacher.name] = digest
    return digests


def _folder_index(
    config: Config, files: StoreFiles, held: Run | None, lost: bool
) -> tuple[FolderIndex | None, Changes]:
    """Return the index of an image folder, and how the folder differs from it.

    The index in the store is that of the run. A folder that is not the one of the run is indexed anew.
    """
    data = config.data
    if data.source != "image-folder":
        return None, Changes()
    of_held = held and (held.config.data.path, held.config.data.test_path)
    if (held or lost) and files.exists(layout.DATA_INDEX):
        index = read_index(files)
        changes = find_changes(data, index)
        is_moved = not lost and of_held != (data.path, data.test_path)
        if not is_moved or not (changes.is_absent or changes.problem or changes.added):
            _check_order(config, index)
            return index, changes
    else:
        changes = Changes()
    index = index_folder(data, held.facts.class_names if held else ())
    if held is not None and index.without_hashes().identity() == held.facts.identity:
        index = index.without_hashes()  # the run was begun by a version without hashes
    return index, changes


def _check_order(config: Config, index: FolderIndex) -> None:
    if config.data.classes is not None and config.data.classes != index.class_names:
        raise ConfigError(
            "data.classes is not the order of the classes that the run began with: "
            f"{first_of(index.class_names, 10)}; restore it, or use another --store"
        )


def read_index(files: StoreFiles) -> FolderIndex:
    """Return the listing of the run's image folder; raises StoreError if it is missing or damaged."""
    data = files.read(layout.DATA_INDEX, _MAX_INDEX_BYTES)
    try:
        return FolderIndex.from_parquet(data)
    except ValueError as error:
        raise damaged(files, layout.DATA_INDEX, error) from None


def find_damaged_records(files: StoreFiles, run: Run) -> dict[str, str]:
    """Return the damaged records besides the commits: name -> what is wrong. All of them can be deleted."""
    found = damaged_failures(files)
    if run.config.data.source == "image-folder" and files.exists(layout.DATA_INDEX):
        try:
            read_index(files)
        except StoreError as error:
            found[layout.DATA_INDEX] = error.problem
    return found
