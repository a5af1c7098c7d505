"""Reading of a config: from a YAML file and `--set` options to a checked Config.

Every error names the file or the option, the key, the value and the remedy.
"""

import copy
import json
import re
import warnings
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from prism_ray.config.labels import EvaluateConfig
from prism_ray.config.recover import RecoverConfig, SelectConfig
from prism_ray.config.renamed import RenamedWarning, old_names, with_new_names
from prism_ray.config.resolve import Where, resolve, user_location
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

# Shared sections, which exist only in the user's values.
_SHARED: dict[str, type[BaseModel]] = {"recover": RecoverConfig, "evaluate": EvaluateConfig}


def load_config(path: str | Path, overrides: Sequence[str] = (), store: str | None = None) -> Config:
    """Read `path` (a file or a URL), apply the `--set` options and `--store`, and check the result.

    Warns (RenamedWarning) for each key under an old name. Raises ConfigError if the file is missing or not
    YAML, or if a key or value is wrong, and UsageError if it has a URL that cannot be used.
    """
    origin = str(path)
    try:
        text = read_config_text(origin)
    except FileNotFoundError:
        similar = "" if is_url(origin) else _similar_files(Path(origin).parent, Path(origin).name)
        raise ConfigError(f"{origin}: no such file{similar}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{origin}: cannot be read as text: {error}") from None
    values, notes = _with_new_names(parse_yaml(text, origin), origin)
    sources: dict[str, str] = {}
    for override in overrides:
        notes |= _apply_override(values, override, sources)
    if store is not None:
        given = values.get("store")
        values["store"] = {**given, "url": store} if isinstance(given, dict) else store
        sources["store.url" if isinstance(given, dict) else "store"] = f"--store {store}"
    for text in notes.values():
        warnings.warn(text, RenamedWarning, stacklevel=2)
    return _check(values, origin, sources)


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
    try:
        Config.model_validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            if detail["type"] == "extra_forbidden":
                *sections, key = _location(detail, values)
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
        # A union gives one error for each of its members, a shared value one for each set that has it.
        complaints: dict[str, dict[str, None]] = {}
        for detail in error.errors(include_url=False):
            subject, problem = _describe(detail, values, resolved, where)
            complaints.setdefault(subject, {})[problem] = None
        lines = [subject + ", or ".join(problems) for subject, problems in complaints.items()]
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
            *sections, name = _location(detail, resolved)
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
                f"{where(key)}: {key} = {value}: is text in YAML 1.2{_text_hint(value)}, or put it in quotes "
                "if it is meant as text"
            )
        if isinstance(value, dict | list) and id(value) not in seen:
            seen.add(id(value))
            parts = value.items() if isinstance(value, dict) else enumerate(value)
            waiting += [(f"{key}.{name}" if key else str(name), part) for name, part in parts]


def _text_hint(value: str) -> str:
    """Return the end of an error for text that was probably meant as a number or a boolean."""
    if value.lower() in ("yes", "no", "on", "off", "y", "n"):
        return "; use true or false"
    if value[:1] in tuple("+-.0123456789"):
        return "; write a number such as 1000, 0.5, 1e-3 or 0x1F"
    return ""


def _apply_override(values: dict[str, Any], override: str, sources: dict[str, str]) -> dict[str, str]:
    """Set the key of one `a.b=c` in `values`, note it in `sources`, and return the notes on old names.

    A number in the key is an index in a list.
    """
    key, equals, text = override.partition("=")
    key = key.strip()
    option = f"--set {key}{equals}{text}"
    *sections, name = key.split(".")
    if not equals or not all([*sections, name]):
        raise ConfigError(f"{option}: expected key=value, for example recover.ipc=1")
    renamed, notes = with_new_names({name: parse_value(text, option)}, option, sections)
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
    if not earlier.startswith(f"--set {written}"):
        raise ConfigError(
            f"{earlier} and {option} set one key by its old and its new name; remove the old one"
        )
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
        reference = f"#/$defs/{_SHARED[key].__name__}"
        schema["properties"][key] = {"$ref": reference, "description": description}
    for model in ("RecoverConfig", "SelectConfig", "EvaluateConfig"):
        del schema["$defs"][model]["required"]  # in the named or in the shared section: neither must have it
    for own in schema["properties"]["image_sets"]["patternProperties"].values():
        own["anyOf"] = own.pop("oneOf")  # the method decides, and may be in the shared section
    schema["required"] = [key for key in schema["required"] if key not in ("image_sets", "evaluations")]
    return schema


def _describe(detail: Any, values: Any, resolved: Any, where: Where) -> tuple[str, str]:
    """Return the error of one key as the user wrote it: (file or option and key, problem)."""
    location = user_location(_location(detail, resolved), values)
    key = ".".join(str(part) for part in location)
    subject = f"{where(key)}: {key} = {shown(detail['input'])}: "
    match detail["type"]:
        case "extra_forbidden":
            # The member of the union that this set is; a key of `recover` applies to all sets.
            selected = location[0] == "image_sets" and detail["loc"][2:3] == ("select",)
            return subject, f"unknown key{_nearest_key(location, selected)}"
        case "json_invalid":  # for example text with half a surrogate
            return f"{where('')}: ", f"a value is not plain data: {detail['msg']}; correct the text"
        case "missing":
            field = _model_at(location[:-1]).model_fields.get(str(location[-1]))
            description = f" ({' '.join(field.description.split())})" if field and field.description else ""
            return f"{where(key)}: {key} ", f"is missing{description}"
        case "value_error":
            text = str(detail["ctx"]["error"])
            if "image_sets" not in values:  # the checks of the whole config know only named sets
                text = re.sub(r"\bimage_sets\.[a-z-]+\.", "recover.", text)
            if "evaluations" not in values:
                text = re.sub(r"\bevaluations\.[a-z-]+\.", "evaluate.", text)
            return f"{where(key)}: {key + ': ' if key else ''}", text
    hint = ""
    if detail["type"] == "literal_error" and isinstance(detail["input"], str):
        hint = did_you_mean(detail["input"], re.findall(r"'([^']*)'", str(detail["ctx"]["expected"])))
    elif detail["type"] in ("bool_type", "int_type", "float_type") and isinstance(detail["input"], str):
        hint = _text_hint(detail["input"])
    elif detail["type"] == "string_type":
        hint = "; put text in quotes"
    return subject, detail["msg"].removeprefix("Input ") + hint


def _source_of(key: str, origin: str, sources: dict[str, str]) -> str:
    """Return the option that set `key`; for a section, the file and every option that changed it."""
    for name, text in sources.items():
        if f"{key}.".startswith(f"{name}."):
            return text
    touched = [text for name, text in sources.items() if not key or name.startswith(f"{key}.")]
    return f"{origin} with {' '.join(touched)}" if touched else origin


def _location(detail: Any, values: Any) -> list[str | int]:
    """Return the location of an error in `values`, without the union member that pydantic tried."""
    location: list[str | int] = []
    for index, part in enumerate(detail["loc"]):
        if isinstance(values, dict) and part in values:
            values = values[part]
        elif isinstance(values, list) and isinstance(part, int):
            values = values[part] if part < len(values) else None
        elif detail["type"] != "missing" or index < len(detail["loc"]) - 1:
            continue
        location.append(part)
    return location


def _model_at(location: Sequence[str | int]) -> type[BaseModel]:
    """Return the model of the innermost section along `location`."""
    model: type[BaseModel] = Config
    for part in map(str, location):
        if model is Config and part in _SHARED:
            model = _SHARED[part]
        elif part in model.model_fields:
            model = _find_model(model.model_fields[part].annotation) or model
    return model


def _find_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_find_model, getattr(annotation, "__args__", ()))), None)


def _nearest_key(location: Sequence[str | int], selected: bool) -> str:
    """Suggest the nearest valid key, first in the same section, then in the whole config.

    `selected` is true if the key belongs to an image set that is selected and not optimised.
    """
    *sections, wrong = map(str, location)
    model = SelectConfig if selected else _model_at(location[:-1])
    if selected and wrong in RecoverConfig.model_fields:
        return f"; the set's method selects real images and does not optimise them; leave {wrong} out"
    names = [*model.model_fields, *(_SHARED if model is Config else ())]
    here = {name: name for name in names} | old_names(sections)
    elsewhere = {full.rpartition(".")[2]: full for full in _all_keys(Config)}
    for section, shared in _SHARED.items():
        elsewhere |= {full.rpartition(".")[2]: full for full in _all_keys(shared, f"{section}.")}
    return (
        did_you_mean(wrong, {name: ".".join([*sections, new]) for name, new in here.items()})
        or did_you_mean(wrong, elsewhere)
        or f"; the keys here are {', '.join(names)}"
    )


def _all_keys(model: type[BaseModel], prefix: str = "") -> Iterable[str]:
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        inner = _find_model(field.annotation)
        if inner is not None:
            yield from _all_keys(inner, f"{prefix}{name}.")


def _similar_files(folder: Path, name: str) -> str:
    return did_you_mean(name, {entry.name: entry for entry in folder.iterdir()}) if folder.is_dir() else ""
