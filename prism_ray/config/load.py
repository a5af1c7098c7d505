"""Reading of a config: from a YAML file and `--set` options to a checked Config.

Every error names the file or the option, the key, the value and the remedy.
"""

import copy
import json
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from prism_ray.config.complaints import SHARED, complaints, location_of, text_hint
from prism_ray.config.renamed import RenamedWarning, with_new_names
from prism_ray.config.resolve import Where, resolve
from prism_ray.config.run import Config
from prism_ray.config.text import (
    UnclearText,
    WrittenFloat,
    WrittenInt,
    parse_value,
    parse_yaml,
    read_config_text,
    shown,
    to_yaml,
)
from prism_ray.errors import ConfigError
from prism_ray.locations import is_url
from prism_ray.suggest import did_you_mean

_NUM_NAMED = 50  # how many wrong keys an error lists


def load_config(path: str | Path, overrides: Sequence[str] = (), store: str | None = None) -> Config:
    """Read `path` (a file or a URL), apply the `--set` options and `--store`, and check the result.

    Warns (RenamedWarning) for each key under an old name. Raises ConfigError if the file is missing or not
    YAML, or if a key or value is wrong, and UsageError if it has a URL that cannot be used.
    """
    return make_config(*read_yaml(path), overrides, store)


def make_config(
    values: Mapping[str, Any], origin: str, overrides: Sequence[str] = (), store: str | None = None
) -> Config:
    """Return the config of `values`, the keys of a file as plain data, with options as for `load_config`.

    Errors name `origin` as the file.
    """
    place = None if store is None else Change("store", store, f"--store {store}")
    return changed_config(values, origin, overrides, (), place)


class Change(NamedTuple):
    """A key of a config that a file, for example a sweep, sets to another value."""

    key: str  # a.b.c
    value: Any
    source: str  # what says so, for errors; "" if no user does


def changed_config(
    values: Any, origin: str, overrides: Sequence[str], changes: Sequence[Change], store: Change | None
) -> Config:
    """Return the Config of `values` (plain data) with the `--set` options, then `changes`, then `store`.

    Warns and raises as `load_config`; errors name `origin`, the option or the source of the change.
    """
    values, notes = _with_new_names(copy.deepcopy(values), origin)
    sources: dict[str, str] = {}
    for override in overrides:
        notes |= _apply_override(values, override, sources)
    for change in changes:
        notes |= _set(values, change.key, change.value, change.source, sources)
    if store is not None:
        given = values.get("store")
        values["store"] = {**given, "url": store.value} if isinstance(given, dict) else store.value
        if store.source:
            sources["store.url" if isinstance(given, dict) else "store"] = store.source
    for text in notes.values():
        warnings.warn(text, RenamedWarning, stacklevel=3)
    return _check(values, origin, sources)


def read_yaml(path: str | Path) -> tuple[Any, str]:
    """Return the plain data of a YAML file (or URL) that is not checked yet, and its name in errors.

    Raises ConfigError if the file is missing or not YAML, and UsageError if its URL cannot be used.
    """
    origin = str(path) if is_url(str(path)) else str(Path(path).absolute())
    try:
        text = read_config_text(origin)
    except FileNotFoundError:
        similar = "" if is_url(origin) else _similar_files(Path(origin).parent, Path(origin).name)
        raise ConfigError(f"{origin}: no such file{similar}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{origin}: cannot be read as text: {error}") from None
    return parse_yaml(text, origin), origin


def parse_config(values: Any, origin: str) -> Config:
    """Check `values` (plain data, as from JSON) and return the Config. Errors name `origin` as the file.

    Keys under an old name are read without a warning. Raises ConfigError with one line for each wrong key.
    """
    return _check(_with_new_names(values, origin)[0], origin, {})


def parse_stored_config(values: Any, origin: str) -> Config:
    """Return the resolved config of a store. Keys that only later versions know are left out.

    Raises ConfigError if a value is wrong; `origin` names it.
    """
    values, _ = _with_new_names(copy.deepcopy(values), origin)
    values.pop("trackers", None)  # of a call; their package may not be installed here
    try:
        Config.model_validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            if detail["type"] == "extra_forbidden":
                *sections, key = location_of(detail, values)
                node: Any = values
                for section in sections:
                    node = node[section]
                node.pop(key, None)
    return _check(values, origin, {})


def dump_config(config: Config) -> str:
    """Return the resolved config as YAML, which `load_config` reads to an equal Config."""
    return to_yaml(config.model_dump(mode="json"))


def _with_new_names(values: Any, origin: str) -> tuple[dict[str, Any], dict[str, str]]:
    if not isinstance(values, dict):
        raise ConfigError(f"{origin}: a config is a mapping of keys to values, got {shown(values)}")
    return with_new_names(values, origin)


def _check(values: dict[str, Any], origin: str, sources: dict[str, str]) -> Config:
    """Return the Config of the user's `values`; `sources` has the options that set some of the keys."""
    where = partial(_source_of, origin=origin, sources=sources)
    _refuse_unclear_text(values, where)
    resolved = resolve(values, where)
    try:
        try:
            return _validated(resolved, origin)
        except ValidationError as error:
            if not _take_as_written(resolved, error):
                raise
            return _validated(resolved, origin)
    except ValidationError as error:
        lines = complaints(error, values, resolved, where)
        if len(lines) > _NUM_NAMED:
            lines[_NUM_NAMED:] = [f"and {len(lines) - _NUM_NAMED} more"]
        raise ConfigError("\n".join(lines)) from None


def _validated(resolved: dict[str, Any], origin: str) -> Config:
    try:
        text = json.dumps(resolved)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{origin}: a value is not plain data: {error}; use text, numbers, lists and mappings"
        ) from None
    return Config.model_validate_json(text, strict=True)


def _take_as_written(resolved: dict[str, Any], error: ValidationError) -> bool:
    """Where a number stands for text, put the text in as it was written; return whether there was any."""
    is_changed = False
    for detail in error.errors(include_url=False):
        if detail["type"] == "string_type":
            node: Any = resolved
            *sections, name = location_of(detail, resolved)
            for section in sections:
                node = node[section]
            if isinstance(node[name], WrittenInt | WrittenFloat):
                node[name] = node[name].written
                is_changed = True
    return is_changed


def _refuse_unclear_text(values: Any, where: Where) -> None:
    """Raise ConfigError for text in `kwargs` that YAML 1.1 reads as a number or a boolean.

    Only there text, numbers and booleans can all be meant, and `no` would count as true.
    """
    seen: set[int] = set()  # a YAML alias can lead back to its anchor
    waiting: list[tuple[str, Any]] = [("", values)]
    for key, value in waiting:
        if isinstance(value, UnclearText) and ".kwargs." in key:
            raise ConfigError(
                f"{where(key)}: {key} = {value}: is text in YAML 1.2{text_hint(value)}, or put it in quotes "
                "if it is meant as text"
            )
        if isinstance(value, dict | list) and id(value) not in seen:
            seen.add(id(value))
            parts = value.items() if isinstance(value, dict) else enumerate(value)
            waiting += [(f"{key}.{name}" if key else str(name), part) for name, part in parts]


def _apply_override(values: dict[str, Any], override: str, sources: dict[str, str]) -> dict[str, str]:
    """Set the key of one `a.b=c` in `values`; see `_set`."""
    key, equals, text = override.partition("=")
    key = key.strip()
    option = f"--set {key}{equals}{text}"
    if not equals or not all(key.split(".")):
        raise ConfigError(f"{option}: expected key=value, for example recover.ipc=1")
    return _set(values, key, parse_value(text, option), option, sources, f"--set {key}")


def _set(
    values: dict[str, Any], key: str, value: Any, option: str, sources: dict[str, str], begin: str = ""
) -> dict[str, str]:
    """Set a key in `values`, note the `option` that says so in `sources`, and return the notes on old names.

    A number in the key is an index in a list. Two options may set a key only if both begin with `begin`.
    """
    *sections, name = key.split(".")
    if not all([*sections, name]):
        raise ConfigError(
            f"{option}: {shown(key)} is not a key; write it as section.key, for example recover.ipc"
        )
    renamed, notes = with_new_names({name: value}, option, sections)
    ((name, value),) = renamed.items()
    if sections == ["store"] and isinstance(values.get("store"), str):
        values["store"] = {"url": values["store"]}
    node: Any = values
    for depth, part in enumerate([*sections, name]):
        prefix = ".".join(sections[:depth])
        index: Any = part
        if isinstance(node, list):
            if part not in map(str, range(len(node))):
                raise ConfigError(
                    f"{option}: {part!r} is not an index in {prefix}, a list of {len(node)}; use 0 to "
                    f"{len(node) - 1}"
                )
            index = int(part)
        elif not isinstance(node, dict):
            raise ConfigError(f"{option}: {prefix} is {shown(node)} and has no keys")
        elif node.get(part) is None:
            node[part] = {}
        if depth == len(sections):
            node[index] = value
        else:
            node[index] = copy.copy(node[index])  # a YAML alias shares the object with its anchor
            node = node[index]
    key, written = ".".join([*sections, name]), key
    earlier = sources.setdefault(key, option)
    if earlier != option and not (begin and earlier.startswith(begin)):
        how = "" if key == written and earlier.startswith(f"--set {key}=") else " by its old and its new name"
        remedy = "remove the old one" if how else "remove one"
        raise ConfigError(f"{earlier} and {option} set one key{how}; {remedy}")
    sources[key] = option
    return notes


def config_schema() -> dict[str, Any]:
    """Return the JSON schema of a config as users write it, with the shared sections."""
    schema = Config.model_json_schema()
    shared = {
        "recover": "The values that all image sets share. Without image_sets: those of the one set and its "
        "control.",
        "evaluate": "The values that all evaluations share. Without evaluations: those of the only one.",
    }
    for key, description in shared.items():
        reference = f"#/$defs/{SHARED[key].__name__}"
        schema["properties"][key] = {"$ref": reference, "description": description}
    for model in ("RecoverConfig", "SelectConfig", "EvaluateConfig"):
        del schema["$defs"][model]["required"]  # in the named or in the shared section: neither must have it
    for own in schema["properties"]["image_sets"]["patternProperties"].values():
        own["anyOf"] = own.pop("oneOf")  # the method decides, and may be in the shared section
    schema["required"] = [key for key in schema["required"] if key not in ("image_sets", "evaluations")]
    return schema


def _source_of(key: str, origin: str, sources: dict[str, str]) -> str:
    """Return the option that set `key`; for a section, the file and every option that changed it."""
    for name, text in sources.items():
        if f"{key}.".startswith(f"{name}."):
            return text
    touched = [text for name, text in sources.items() if not key or name.startswith(f"{key}.")]
    return f"{origin} with {' '.join(touched)}" if touched else origin


def _similar_files(folder: Path, name: str) -> str:
    return did_you_mean(name, {entry.name: entry for entry in folder.iterdir()}) if folder.is_dir() else ""
