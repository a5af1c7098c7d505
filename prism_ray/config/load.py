"""Reading of a config: from a YAML file and `--set` options to a checked Config.

Every error names the file or the option, the key, the value and the remedy.
"""

import copy
import json
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from prism_ray.config.labels import EvaluateConfig
from prism_ray.config.layers import resolve, user_location
from prism_ray.config.reading import parse_yaml, read_config_text, shown, to_yaml
from prism_ray.config.recover import RecoverConfig, SelectConfig
from prism_ray.config.renamed import (
    RenamedKey,
    in_old_names,
    new_key,
    note,
    old_names,
    other_name,
    with_new_names,
)
from prism_ray.config.run import Config
from prism_ray.errors import ConfigError
from prism_ray.suggest import did_you_mean

_NUM_NAMED = 50  # how many wrong keys an error lists

# Shared sections, which exist only in the user's values.
_SHARED: dict[str, type[BaseModel]] = {"recover": RecoverConfig, "evaluate": EvaluateConfig}


def load_config(path: str | Path, overrides: Sequence[str] = (), store: str | None = None) -> Config:
    """Read `path`, apply the `--set` options and `--store`, and check the result.

    Warns (RenamedWarning) for each key under an old name. Raises ConfigError if the file is missing or not
    YAML, or if a key or value is wrong.
    """
    path = Path(path)
    try:
        text = read_config_text(path)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file{_similar_files(path)}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as text: {error}") from None
    values = parse_yaml(text, str(path))
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: a config is a mapping of keys to values, got {shown(values)}")
    sources: dict[str, str] = {}
    for override in overrides:
        if override.startswith("store.") and isinstance(values.get("store"), str):
            values["store"] = {"url": values["store"]}
        key = _apply_override(values, override, sources)
        sources[key] = f"--set {override}"
    if store is not None:
        held = values.get("store")
        values["store"] = {**held, "url": store} if isinstance(held, dict) else store
        sources["store.url" if isinstance(held, dict) else "store"] = f"--store {store}"
    config, renamed = _parse(values, str(path), sources)
    for names in renamed:
        warnings.warn(note(names.old, names.new, _source_of(names.new, str(path), sources)), stacklevel=2)
    return config


def parse_config(values: Any, origin: str) -> Config:
    """Check `values` (plain data, as from JSON) and return the Config. Errors name `origin` as the file.

    Keys under an old name are read without a warning. Raises ConfigError with one line for each wrong key.
    """
    return _parse(values, origin, {})[0]


def _parse(values: Any, origin: str, sources: dict[str, str]) -> tuple[Config, list[RenamedKey]]:
    """Return the Config, and the keys of `values` that have an old name."""
    if not isinstance(values, dict):
        raise ConfigError(f"{origin}: a config is a mapping of keys to values, got {shown(values)}")

    def where(key: str) -> str:
        return _source_of(key, origin, sources)

    values, renamed = with_new_names(values, where)
    try:
        return _check(values, resolve(values, where), origin, sources), renamed
    except ConfigError as error:
        raise ConfigError(in_old_names(str(error), renamed)) from None


def _check(values: dict[str, Any], resolved: dict[str, Any], origin: str, sources: dict[str, str]) -> Config:
    """Return the Config of `resolved`; an error names the keys of the user's `values`."""
    try:
        text = json.dumps(resolved)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{origin}: a value is not plain data: {error}; use text, numbers, lists and mappings"
        ) from None
    try:
        return Config.model_validate_json(text, strict=True)
    except ValidationError as error:
        # A union gives one error for each of its members, a shared value one for each set that has it.
        complaints: dict[str, dict[str, None]] = {}
        for detail in error.errors(include_url=False):
            subject, problem = _describe(detail, values, resolved, origin, sources)
            complaints.setdefault(subject, {})[problem] = None
        lines = [subject + ", or ".join(problems) for subject, problems in complaints.items()]
        if len(lines) > _NUM_NAMED:
            lines[_NUM_NAMED:] = [f"and {len(lines) - _NUM_NAMED} more"]
        raise ConfigError("\n".join(lines)) from None


def parse_stored_config(values: Any, origin: str) -> Config:
    """Return the resolved config of a store. Keys that only later versions know are left out.

    Raises ConfigError if a value is wrong; `origin` names it.
    """
    held, _ = with_new_names(copy.deepcopy(values), lambda key: origin)
    try:
        Config.model_validate_json(json.dumps(held), strict=True)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            if detail["type"] == "extra_forbidden":
                *sections, key = _location(detail, held)
                node: Any = held
                for section in sections:
                    node = node[section]
                node.pop(key, None)
    return parse_config(held, origin)


def dump_config(config: Config) -> str:
    """Return the resolved config as YAML, which `load_config` reads to an equal Config."""
    return to_yaml(config.model_dump(mode="json"))


def _apply_override(values: dict[str, Any], override: str, sources: Mapping[str, str]) -> str:
    """Set the key of one `a.b=c` in `values` and return it. A number in the key is an index in a list.

    A value under the key's other name (old or new) is removed, unless an option in `sources` set it.
    """
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError(f"--set {override}: expected key=value, for example recover.ipc=1")
    value = parse_yaml(text, f"--set {override}")
    node: Any = values
    for depth, part in enumerate(parts):
        last = depth == len(parts) - 1
        if isinstance(node, list):
            if not (part.isascii() and part.isdigit()) or int(part) >= len(node):
                prefix = ".".join(parts[:depth])
                raise ConfigError(
                    f"--set {override}: {part!r} is not an index in {prefix}, a list of {len(node)}; use 0 "
                    f"to {len(node) - 1}"
                )
            index: Any = int(part)
        elif isinstance(node, dict):
            index = part
        else:
            prefix = ".".join(parts[:depth])
            raise ConfigError(f"--set {override}: {prefix} is {shown(node)} and has no keys")
        if last:
            node[index] = value
            other = other_name(parts)
            if other is not None and ".".join([*parts[:-1], other]) not in sources:
                node.pop(other, None)
        else:
            if isinstance(node, dict) and node.get(index) is None:
                node[index] = {}
            node[index] = copy.copy(node[index])  # a YAML alias shares the object with its anchor
            node = node[index]
    return ".".join(parts)


def config_schema() -> dict[str, Any]:
    """Return the JSON schema of a config as users write it, with the shared sections."""
    schema = Config.model_json_schema()
    shared = {
        "recover": (
            "RecoverConfig",
            "The values that all image sets share. Without image_sets: those of the one set and its control.",
        ),
        "evaluate": (
            "EvaluateConfig",
            "The values that all evaluations share. Without evaluations: those of the one evaluation.",
        ),
    }
    for key, (model, description) in shared.items():
        schema["properties"][key] = {"$ref": f"#/$defs/{model}", "description": description}
    for model in ("RecoverConfig", "SelectConfig", "EvaluateConfig"):
        del schema["$defs"][model]["required"]  # in the named or in the shared section: neither must have it
    for own in schema["properties"]["image_sets"]["patternProperties"].values():
        own["anyOf"] = own.pop("oneOf")  # the method decides, and may be in the shared section
    schema["required"] = [key for key in schema["required"] if key not in ("image_sets", "evaluations")]
    return schema


def _describe(
    detail: Any, values: Any, resolved: Any, origin: str, sources: dict[str, str]
) -> tuple[str, str]:
    """Return the error of one key as the user wrote it: (file or option and key, problem)."""
    location = user_location(_location(detail, resolved), values)
    key = ".".join(str(part) for part in location)
    where = _source_of(key, origin, sources)
    if detail["type"] == "extra_forbidden":
        # The member of the union that this set is; a key of `recover` applies to all sets.
        selected = location[0] == "image_sets" and detail["loc"][2:3] == ("select",)
        problem = f"unknown key{_nearest_key(location, selected)}"
        return f"{where}: {key} = {shown(detail['input'])}: ", problem
    if detail["type"] == "json_invalid":  # for example text with half a surrogate
        return f"{origin}: ", f"a value is not plain data: {detail['msg']}; correct the text"
    if detail["type"] == "missing":
        field = _field_description(location)
        return f"{where}: {key} ", f"is missing{f' ({field})' if field else ''}"
    if detail["type"] == "value_error":
        text = str(detail["ctx"]["error"])
        if "image_sets" not in values:  # the checks of the whole config know only named sets
            text = re.sub(r"\bimage_sets\.[a-z-]+\.", "recover.", text)
        if "evaluations" not in values:
            text = re.sub(r"\bevaluations\.[a-z-]+\.", "evaluate.", text)
        return f"{where}: {key + ': ' if key else ''}", text
    message = detail["msg"].removeprefix("Input ")
    hint = ""
    if detail["type"] == "literal_error" and isinstance(detail["input"], str):
        choices = re.findall(r"'([^']*)'", str(detail["ctx"]["expected"]))
        hint = did_you_mean(detail["input"], choices)
    return f"{where}: {key} = {shown(detail['input'])}: ", f"{message}{hint}"


def _source_of(key: str, origin: str, sources: dict[str, str]) -> str:
    """Return the option that set `key`; for a section, the file and every option that changed it."""
    for name, text in sources.items():
        if f"{key}.".startswith(f"{new_key(name)}."):
            return text
    touched = [text for name, text in sources.items() if not key or name.startswith(f"{key}.")]
    return f"{origin} with {' '.join(touched)}" if touched else origin


def _location(detail: Any, values: Any) -> list[str | int]:
    """Return the location of an error in `values`, without the union member that pydantic tried."""
    location: list[str | int] = []
    for place, part in enumerate(detail["loc"]):
        held = isinstance(values, dict) and str(part) in {str(key) for key in values}
        if held:
            values = next(value for key, value in values.items() if str(key) == str(part))
        elif isinstance(values, list) and isinstance(part, int):
            values = values[part] if part < len(values) else None
        elif detail["type"] != "missing" or place < len(detail["loc"]) - 1:
            continue
        location.append(part)
    return location


def _models_along(location: Sequence[str | int]) -> list[type[BaseModel]]:
    """Return the models of the sections along `location`, the root first."""
    models: list[type[BaseModel]] = [Config]
    for part in location:
        if len(models) == 1 and str(part) in _SHARED:
            models.append(_SHARED[str(part)])
            continue
        field = models[-1].model_fields.get(str(part))
        if field is None:
            continue
        found = _find_model(field.annotation)
        if found is not None:
            models.append(found)
    return models


def _find_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _find_model(argument)
        if found is not None:
            return found
    return None


def _nearest_key(location: Sequence[str | int], selected: bool) -> str:
    """Suggest the nearest valid key, first in the same section, then in the whole config.

    `selected` is true if the key belongs to an image set that is selected and not optimised.
    """
    prefix, wrong = [str(part) for part in location[:-1]], str(location[-1])
    model: type[BaseModel] = SelectConfig if selected else _models_along(location[:-1])[-1]
    if selected and wrong in RecoverConfig.model_fields:
        return f"; the set's method selects real images and does not optimise them; leave {wrong} out"
    names = [*model.model_fields, *(_SHARED if model is Config else ())]
    here = {name: new_key(".".join([*prefix, name])) for name in (*names, *old_names(prefix))}
    hint = did_you_mean(wrong, here)
    if hint:
        return hint
    elsewhere = {full.rsplit(".", 1)[-1]: full for full in _all_keys(Config)}
    for section, shared in _SHARED.items():
        elsewhere |= {full.rsplit(".", 1)[-1]: full for full in _all_keys(shared, f"{section}.")}
    return did_you_mean(wrong, elsewhere) or f"; the keys here are {', '.join(names)}"


def _all_keys(model: type[BaseModel], prefix: str = "") -> Iterable[str]:
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        inner = _find_model(field.annotation)
        if inner is not None:
            yield from _all_keys(inner, f"{prefix}{name}.")


def _field_description(location: Sequence[str | int]) -> str | None:
    field = _models_along(location[:-1])[-1].model_fields.get(str(location[-1]))
    return field.description if field else None


def _similar_files(path: Path) -> str:
    if not path.parent.is_dir():
        return ""
    return did_you_mean(path.name, {entry.name: entry for entry in path.parent.iterdir()})
