"""YAML file and `--set` options in, a checked `Config` out; every complaint names file, key and value."""

import copy
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from prism_ray.config.labels import EvaluateConfig
from prism_ray.config.layers import resolve, user_location
from prism_ray.config.reading import parse_yaml, read_config_text, shown, to_yaml
from prism_ray.config.recover import RecoverConfig, SelectConfig
from prism_ray.config.run import Config
from prism_ray.errors import ConfigError
from prism_ray.suggest import did_you_mean

_NUM_NAMED = 50  # how many wrong keys an error lists

# Sections that exist only in what users write.
_SHARED: dict[str, type[BaseModel]] = {"recover": RecoverConfig, "evaluate": EvaluateConfig}


def load_config(path: str | Path, overrides: Sequence[str] = (), store: str | None = None) -> Config:
    """Read `path`, lay the `--set` options and `--store` over it, and check the result.

    Raises ConfigError if the file is missing or not YAML, or if a key or value is wrong.
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
        raise ConfigError(f"{path}: a config is a mapping of keys, got {shown(values)}")
    sources: dict[str, str] = {}
    for override in overrides:
        if override.startswith("store.") and isinstance(values.get("store"), str):
            values["store"] = {"url": values["store"]}
        key = _apply_override(values, override)
        sources[key] = f"--set {override}"
    if store is not None:
        held = values.get("store")
        values["store"] = {**held, "url": store} if isinstance(held, dict) else store
        sources["store.url" if isinstance(held, dict) else "store"] = f"--store {store}"
    return parse_config(values, str(path), sources)


def parse_config(values: Any, origin: str, sources: dict[str, str] | None = None) -> Config:
    """Check `values` (plain data, as from JSON) and return the Config; `origin` names them in errors.

    Raises ConfigError with one line for each wrong key.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{origin}: a config is a mapping of keys, got {shown(values)}")
    resolved = resolve(values, lambda key: _source_of(key, origin, sources or {}))
    try:
        text = json.dumps(resolved)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{origin}: holds a value that is not plain data: {error}") from None
    try:
        return Config.model_validate_json(text, strict=True)
    except ValidationError as error:
        # A union complains once for each of its members, a shared value once for each set that has it.
        complaints: dict[str, dict[str, None]] = {}
        for detail in error.errors(include_url=False):
            subject, problem = _describe(detail, values, resolved, origin, sources or {})
            complaints.setdefault(subject, {})[problem] = None
        lines = [subject + ", or ".join(problems) for subject, problems in complaints.items()]
        if len(lines) > _NUM_NAMED:
            lines[_NUM_NAMED:] = [f"and {len(lines) - _NUM_NAMED} more"]
        raise ConfigError("\n".join(lines)) from None


def dump_config(config: Config) -> str:
    """Return the resolved config as YAML that `load_config` reads back to an equal Config."""
    return to_yaml(config.model_dump(mode="json"))


def _apply_override(values: dict[str, Any], override: str) -> str:
    """Lay one `a.b=c` over `values`; return its key. A number in the key is a place in a list."""
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
                    f"--set {override}: {prefix} is a list of {len(node)}; {part!r} is no place "
                    f"in it (0 to {len(node) - 1})"
                )
            index: Any = int(part)
        elif isinstance(node, dict):
            index = part
        else:
            prefix = ".".join(parts[:depth])
            raise ConfigError(f"--set {override}: {prefix} is {shown(node)} and has no keys")
        if last:
            node[index] = value
        else:
            if isinstance(node, dict) and node.get(index) is None:
                node[index] = {}
            node[index] = copy.copy(node[index])  # an alias of YAML shares it with its anchor
            node = node[index]
    return ".".join(parts)


def config_schema() -> dict[str, Any]:
    """Return the JSON schema of a config as users write it: with the sections that named ones share."""
    schema = Config.model_json_schema()
    shared = {
        "recover": ("RecoverConfig", "What all image sets share; alone, the one set and its control."),
        "evaluate": ("EvaluateConfig", "What all evaluations share; alone, the one evaluation."),
    }
    for key, (model, description) in shared.items():
        schema["properties"][key] = {"$ref": f"#/$defs/{model}", "description": description}
    for model in ("RecoverConfig", "SelectConfig", "EvaluateConfig"):
        del schema["$defs"][model]["required"]  # here or in what it shares: neither alone need have it
    for own in schema["properties"]["image_sets"]["patternProperties"].values():
        own["anyOf"] = own.pop("oneOf")  # its method, which may stand in what it shares, says which
    schema["required"] = [key for key in schema["required"] if key not in ("image_sets", "evaluations")]
    return schema


def _describe(
    detail: Any, values: Any, resolved: Any, origin: str, sources: dict[str, str]
) -> tuple[str, str]:
    """Say what is wrong with one key as the user wrote it, as (where and which, what)."""
    location = user_location(_location(detail, resolved), values)
    key = ".".join(str(part) for part in location)
    where = _source_of(key, origin, sources)
    if detail["type"] == "extra_forbidden":
        # The member of the union that a set is; a key of `recover` is for all of them.
        selected = location[0] == "image_sets" and detail["loc"][2:3] == ("select",)
        problem = f"unknown key{_nearest_key(location, selected)}"
        return f"{where}: {key} = {shown(detail['input'])}: ", problem
    if detail["type"] == "json_invalid":  # as text with half a surrogate is
        return f"{origin}: ", f"holds what is not plain data: {detail['msg']}"
    if detail["type"] == "missing":
        field = _field_description(location)
        return f"{where}: {key} ", f"is missing{f' ({field})' if field else ''}"
    if detail["type"] == "value_error":
        text = str(detail["ctx"]["error"])
        if "image_sets" not in values:  # the checks of the whole config know named sets only
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
    """Name the option that set `key`; for a section, the file and every option that touched it."""
    for name, text in sources.items():
        if f"{key}.".startswith(f"{name}."):
            return text
    touched = [text for name, text in sources.items() if not key or name.startswith(f"{key}.")]
    return f"{origin} with {' '.join(touched)}" if touched else origin


def _location(detail: Any, values: Any) -> list[str | int]:
    """Return where in `values` an error is, without the member of a union that pydantic tried."""
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
    """Return the models met on the way along `location`, the root first."""
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
    """Suggest the nearest valid key: in the same section first, then anywhere in the config.

    `selected` says that the image set it is in, if any, is chosen and not optimised.
    """
    prefix, wrong = [str(part) for part in location[:-1]], str(location[-1])
    model: type[BaseModel] = SelectConfig if selected else _models_along(location[:-1])[-1]
    if selected and wrong in RecoverConfig.model_fields:
        return f"; its method chooses real images and does not optimise them, {wrong} is for those that do"
    names = [*model.model_fields, *(_SHARED if model is Config else ())]
    hint = did_you_mean(wrong, {name: ".".join([*prefix, name]) for name in names})
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
