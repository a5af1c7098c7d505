"""The commands `distill` and `plan` as functions: they raise exceptions, and return what Python can use."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prism_ray import pipeline
from prism_ray.config import Config, load_config, make_config
from prism_ray.errors import ConfigError
from prism_ray.library.runs import OpenRun
from prism_ray.locations import is_url

if TYPE_CHECKING:
    from prism_ray.analyze.preview import Preview

Source = str | os.PathLike[str] | Mapping[str, Any]

_ORIGIN = "CONFIG"  # of a config that is no file, in messages


def distill(
    config: Source, store: str | os.PathLike[str] | None, settings: Mapping[str, Any] | None
) -> OpenRun:
    """Do the missing work of a run; see `prism_ray.distill`."""
    resolved, origin = read(config, store, settings)
    outcome = pipeline.distill(resolved, origin)
    return OpenRun(outcome.run.config.store_url)


def plan(
    config: Source, store: str | os.PathLike[str] | None, settings: Mapping[str, Any] | None
) -> "Preview":
    """Return the figures of a run before it is done; see `prism_ray.plan`."""
    from prism_ray.forecast.preview import preview_with_forecast  # late: its tables are for the terminal

    resolved, origin = read(config, store, settings)
    return preview_with_forecast(resolved, origin, None)


def read(
    config: Source, store: str | os.PathLike[str] | None, settings: Mapping[str, Any] | None
) -> tuple[Config, str]:
    """Return a config with single keys replaced by `settings`, and what errors call it."""
    overrides = [_option(key, value) for key, value in (settings or {}).items()]
    location = None if store is None else os.fspath(store)
    if isinstance(config, Mapping):
        return make_config(config, _ORIGIN, overrides, location), _ORIGIN
    path = os.fspath(config)
    return load_config(path, overrides, location), path if is_url(path) else str(Path(path))


def _option(key: str, value: Any) -> str:
    """Return the `--set` option of a value: JSON, which is read as YAML."""
    try:
        return f"{key}={json.dumps(value, ensure_ascii=False)}"
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"set: {key} = {value!r} is not plain data: {error}; use text, numbers, lists and mappings"
        ) from None
