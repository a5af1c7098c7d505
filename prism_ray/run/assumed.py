"""A requested run whose real images are not there yet: their numbers are assumed, for a forecast."""

from pathlib import Path

from prism_ray.config import Config, with_controls
from prism_ray.data import Changes, check_config
from prism_ray.data.assumed import AssumedImages, Assumption
from prism_ray.errors import UsageError
from prism_ray.plan import Plan
from prism_ray.run.match import Asked
from prism_ray.store.commits import list_commits
from prism_ray.store.files import StoreFiles


def match_assumed(config: Config, files: StoreFiles, origin: str, assumption: Assumption) -> Asked:
    """Return a requested config with assumed real images; `origin` names it in errors.

    Raises UsageError if the images are there, or if the store has finished units: both know better. Raises
    ConfigError if config and assumption do not fit.
    """
    data = config.data
    paths = [path for path in (data.path, data.test_path) if path is not None]
    if data.source == "digits":
        raise UsageError(
            "--assume-classes: the images of source digits are always there; leave the option out"
        )
    if paths and all(Path(path).exists() for path in paths):
        raise UsageError(
            f"--assume-classes: the real images are there ({', '.join(paths)}), and what they are is better "
            "than what is assumed; leave the option out"
        )
    if list_commits(files):
        raise UsageError(
            f"--assume-classes: {files.location} has a run with finished units, which knows its images; "
            "leave the option out, or use another --store"
        )
    config = with_controls(config, None, origin)
    facts = assumption.facts(data)
    check_config(config, facts, origin)
    Plan(config, facts).check_size(origin)
    weights = {teacher.name: "assumed" for teacher in config.teachers.pool if teacher.weights_path}
    images = AssumedImages(data, facts)
    return Asked(config, facts, images, None, Changes(), None, {}, set(), weights, False)
