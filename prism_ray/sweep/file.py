"""A sweep file: a base config and the keys that its points change. No torch, no Ray.

    base: ../digits.yaml                      # a config file beside this one, or a config itself
    grid: {recover.ipc: [1, 10]}              # every combination of these values ...
    list:                                     # ... with each of these
      - {evaluate.loss: mse}
      - {evaluate.loss: kl, evaluate.temperature: 4}
    seeds: [0, 1]                             # each point with these seeds: one row of the table
    name: losses                              # by default the name of the file

Each point is the config of a run, which is checked as a config file is.
"""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prism_ray.config import Config
from prism_ray.config.load import Change, changed_config, read_yaml
from prism_ray.config.text import shown, to_flow
from prism_ray.errors import ConfigError, UsageError
from prism_ray.locations import is_url
from prism_ray.store.sweeps import MAX_POINTS
from prism_ray.suggest import did_you_mean
from prism_ray.sweep.naming import point_folder, short_keys

_KEYS = ("name", "base", "grid", "list", "seeds")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_MAX_LINES = 20  # of wrong keys that an error lists
_SEED = "seed"


@dataclass(frozen=True)
class Point:
    """One run of a sweep."""

    folder: str  # of its store, in the sweep's folder
    changes: dict[str, Any]  # the keys that differ from the base, with their values
    config: Config  # with this store
    origin: str  # the config file, for errors


@dataclass(frozen=True)
class Sweep:
    """A sweep file that was read and checked."""

    name: str
    origin: str
    points: tuple[Point, ...]
    has_seeds: bool  # points that differ only in the seed are one row of the table


def read_sweeps(paths: Sequence[str], overrides: Sequence[str], folder: str) -> list[Sweep]:
    """Read sweep files; the `--set` options change their bases, and the stores are in `folder`.

    Raises ConfigError if a file, a key or a value is wrong, and UsageError if files do not fit each other.
    """
    sweeps: list[Sweep] = []
    for path in paths:
        sweep = read_sweep(path, overrides, folder)
        for other in sweeps:
            if other.name == sweep.name:
                raise UsageError(
                    f"{other.origin} and {sweep.origin} have one name, {sweep.name!r}; give one of them "
                    "another with the key name"
                )
        sweeps.append(sweep)
    _check_one_pool(sweeps)
    return sweeps


def read_sweep(path: str, overrides: Sequence[str], folder: str) -> Sweep:
    """Read one sweep file; see `read_sweeps`."""
    values, origin = read_yaml(path)
    _check_keys(values, origin)
    for override in overrides:
        if override.partition("=")[0].strip() in ("store", "store.url"):
            raise ConfigError(
                f"--set {override}: the sweep gives each point a store of its own; give their folder with "
                "--store"
            )
    name = _name_of(values, origin)
    base, base_origin = _base_of(values, origin)
    entries = list(_entries(values, origin))
    keys = short_keys([change.key for entry in entries for change in entry])
    points: list[Point] = []
    lines: dict[str, list[dict[str, Any]]] = {}  # what is wrong, and where
    folders: dict[str, dict[str, Any]] = {}
    for entry in entries:
        changes = {change.key: _without_marks(change.value) for change in entry}
        store = f"{folder.rstrip('/')}/{name}.{point_folder(changes, keys)}"
        try:
            config = changed_config(base, base_origin, overrides, entry, Change("store", store, ""))
        except ConfigError as error:  # most are the same at every point
            for line in str(error).splitlines():
                lines.setdefault(line, []).append(changes)
            continue
        same = config.with_store("").model_dump_json()
        if same in folders:
            raise ConfigError(
                f"{origin}: the points {shown_changes(folders[same])} and {shown_changes(changes)} are the "
                "same run, because all their settings are equal; remove one, or a key that has no effect"
            )
        folders[same] = changes
        points.append(Point(store.rpartition("/")[2], changes, config, base_origin))
    if lines:
        raise ConfigError("\n".join(_told(lines, len(entries))))
    return Sweep(name, origin, tuple(points), "seeds" in values)


def _told(lines: Mapping[str, list[dict[str, Any]]], num_points: int) -> Iterator[str]:
    """Yield what is wrong; if it is so at some points only, with the first of them."""
    for number, (line, points) in enumerate(lines.items()):
        if number == _MAX_LINES:
            yield f"and {len(lines) - number} more"
            return
        is_everywhere = len(points) == num_points
        yield line if is_everywhere else f"{line} (at the point {shown_changes(points[0])})"


def shown_changes(changes: Mapping[str, Any]) -> str:
    """Return the changes of a point for people."""
    return ", ".join(f"{key} = {_plain(value)}" for key, value in changes.items()) or "the base"


def _plain(value: Any) -> str:
    """Return a value as it is written in YAML, in one line."""
    return to_flow(_without_marks(value))


def _without_marks(value: Any) -> Any:
    """Return plain data without the classes in which YAML numbers remember how they were written."""
    if isinstance(value, Mapping):
        return {str(key): _without_marks(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_marks(part) for part in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


def _check_keys(values: Any, origin: str) -> None:
    if not isinstance(values, dict):
        raise ConfigError(
            f"{origin}: a sweep is a mapping with the keys {', '.join(_KEYS)}, got {shown(values)}"
        )
    for key in values:
        if key not in _KEYS:
            hint = did_you_mean(key, _KEYS) or f"; the keys of a sweep are {', '.join(_KEYS)}"
            if hint.startswith("; the") and any(section in values for section in ("teachers", "data")):
                hint = "; this looks like a config, which `distill` takes; a sweep has base and grid"
            raise ConfigError(f"{origin}: {key}: unknown key{hint}")


def _name_of(values: Mapping[str, Any], origin: str) -> str:
    name = values.get("name", Path(origin.rpartition("/")[2]).stem.lower().replace("_", "-"))
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(
            f"{origin}: name = {shown(name)}: must be lower-case letters, digits and hyphens, because it "
            "begins the folder of each point; for example name: batch-size"
        )
    return name


def _base_of(values: Mapping[str, Any], origin: str) -> tuple[Any, str]:
    """Return the values of the base config, not checked yet, and its name in errors."""
    base = values.get("base")
    if isinstance(base, dict):
        return base, origin
    if not isinstance(base, str) or not base:
        what = "is missing" if "base" not in values else f"= {shown(base)}: must be a config file or a config"
        raise ConfigError(f"{origin}: base {what}; for example base: ../digits.yaml, as seen from this file")
    if not is_url(base) and not Path(base).expanduser().is_absolute():
        base = f"{origin.rpartition('/')[0]}/{base}"
    try:
        return read_yaml(base if is_url(base) else str(Path(base).expanduser().resolve()))
    except ConfigError as error:
        raise ConfigError(f"{origin}: base: {error}") from None


def _entries(values: Mapping[str, Any], origin: str) -> Iterator[tuple[Change, ...]]:
    """Yield the changes of each point: each entry of `list` with each point of `grid` and each seed."""
    grid = _grid_of(values, origin)
    listed = _list_of(values, origin)
    seeds = _seeds_of(values, origin)
    if not any((grid, listed, seeds)):
        raise ConfigError(
            f"{origin}: the sweep has no points; give grid or list, for example "
            "grid: {recover.ipc: [1, 10]}"
        )
    axes: list[list[tuple[Change, ...]]] = [listed] if listed else []
    axes += [[(change,) for change in axis] for axis in (*grid, seeds) if axis]
    num_points = 1
    for axis in axes:
        num_points *= len(axis)
    if num_points > MAX_POINTS:
        raise ConfigError(f"{origin}: the sweep has {num_points:,} points, and it can have {MAX_POINTS:,}")
    for combination in itertools.product(*axes):
        entry = tuple(itertools.chain.from_iterable(combination))
        seen: dict[str, Change] = {}
        for change in entry:
            other = seen.setdefault(change.key, change)
            if other is not change:
                raise ConfigError(f"{other.source} and {change.source} set one key; remove one")
        yield entry


def _grid_of(values: Mapping[str, Any], origin: str) -> list[list[Change]]:
    grid = values.get("grid", {})
    example = "; for example grid: {recover.ipc: [1, 10]}"
    if not isinstance(grid, dict) or ("grid" in values and not grid):
        raise ConfigError(f"{origin}: grid = {shown(grid)}: must be a mapping of keys to lists{example}")
    axes = []
    for key, choices in grid.items():
        source = f"{origin}: grid: {key}"
        if not isinstance(choices, list) or not choices:
            raise ConfigError(f"{source} = {shown(choices)}: must be a list with at least one value{example}")
        for number, choice in enumerate(choices):
            if any(_is_same(choice, other) for other in choices[:number]):
                raise ConfigError(f"{source}: {shown(choice)} is given twice; remove one")
        axes.append([_change(key, choice, source, values) for choice in choices])
    return axes


def _list_of(values: Mapping[str, Any], origin: str) -> list[tuple[Change, ...]]:
    listed = values.get("list", [])
    example = "; for example list: [{recover.ipc: 1}, {recover.ipc: 10}]"
    if not isinstance(listed, list) or ("list" in values and not listed):
        raise ConfigError(f"{origin}: list = {shown(listed)}: must be a list of mappings{example}")
    entries = []
    for number, entry in enumerate(listed):
        if not isinstance(entry, dict):
            raise ConfigError(f"{origin}: list.{number} = {shown(entry)}: must be a mapping of keys{example}")
        source = f"{origin}: list.{number}"
        entries.append(tuple(_change(key, value, f"{source}: {key}", values) for key, value in entry.items()))
    return entries


def _seeds_of(values: Mapping[str, Any], origin: str) -> list[Change]:
    seeds = values.get("seeds", [])
    is_list = isinstance(seeds, list) and all(isinstance(s, int) and not isinstance(s, bool) for s in seeds)
    if not is_list or ("seeds" in values and not seeds):
        raise ConfigError(
            f"{origin}: seeds = {shown(seeds)}: must be a list of whole numbers, for example [0, 1]"
        )
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"{origin}: seeds = {shown(seeds)}: one is given twice; remove it")
    return [Change(_SEED, int(seed), f"{origin}: seeds") for seed in seeds]


def _change(key: str, value: Any, source: str, values: Mapping[str, Any]) -> Change:
    if key.partition(".")[0] == "store":
        raise ConfigError(f"{source}: the sweep gives each point a store of its own; remove the key")
    if key.partition(".")[0] == "orchestrate":
        raise ConfigError(
            f"{source}: all points share one pool of actors; set the key in the base, or with --set {key}=..."
        )
    if key == _SEED and "seeds" in values:
        raise ConfigError(f"{source}: the file has seeds too; remove one")
    return Change(key, value, source)


def _is_same(one: Any, other: Any) -> bool:
    """Return whether two values of YAML are the same; true is not 1."""
    return repr(_without_marks(one)) == repr(_without_marks(other))


def _check_one_pool(sweeps: Sequence[Sweep]) -> None:
    """Raise UsageError if the points need different actors."""
    points = [point for sweep in sweeps for point in sweep.points]
    for point in points[1:]:
        first = points[0].config.orchestrate.model_dump()
        for key, value in point.config.orchestrate.model_dump().items():
            if value != first[key]:
                raise UsageError(
                    f"all points share one pool of actors, but orchestrate.{key} is {shown(first[key])} in "
                    f"{points[0].origin} and {shown(value)} in {point.origin}; call sweep for each of "
                    f"them, or set it with --set orchestrate.{key}=..."
                )
