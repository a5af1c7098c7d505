"""Local paths of a config made absolute, so that they mean the same in any folder and on every node."""

import os
from pathlib import Path

from prism_ray.config import Config
from prism_ray.errors import ConfigError
from prism_ray.locations import absolute, is_url


def with_absolute_paths(config: Config, origin: str) -> Config:
    """Return the config with absolute local paths; `origin` names the config in errors.

    Raises ConfigError for a relative path in a Ray job, because its working directory is lost with the job.
    """
    in_job = bool(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR"))

    def resolve(key: str, path: str) -> str:
        if is_url(path):
            return path
        if in_job and not Path(path).is_absolute():
            remedy = " or a URL, with --store" if key == "store" else f", with --set {key}="
            raise ConfigError(
                f"{origin}: {key} = {path!r} is relative, and a Ray job's working directory is a temporary "
                f"copy that is lost with the job; give an absolute path that every node sees{remedy}"
            )
        return absolute(path)

    store = resolve("store", config.store_url)
    paths = {"path": config.data.path, "test_path": config.data.test_path}
    resolved = {key: resolve(f"data.{key}", path) for key, path in paths.items() if path is not None}
    pool = list(config.teachers.pool)
    for number, teacher in enumerate(pool):
        if (path := teacher.weights_path) is not None:
            pool[number] = teacher.with_weights_path(resolve(f"teachers.pool.{number}.arch", path))
    teachers = config.teachers.model_copy(update={"pool": tuple(pool)})
    data = config.data.model_copy(update=resolved)
    return config.with_store(store).model_copy(update={"data": data, "teachers": teachers})
