"""One calibration in this process: the small run is made in a temporary folder and measured."""

import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from prism_ray.calibrate.figures import settings_of_groups
from prism_ray.calibrate.rig import Rig
from prism_ray.calibrate.small import small_run
from prism_ray.config import parse_stored_config
from prism_ray.data import DataFacts, FolderIndex, open_data
from prism_ray.data.assumed import AssumedImages
from prism_ray.device import describe_device
from prism_ray.plan import Plan
from prism_ray.run.plan_file import new_run
from prism_ray.store import StoreFiles
from prism_ray.teachers.build import input_size


def measure(request: dict[str, Any], start_seconds: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Return the figures of a request that process.py made, as plain data.

    `start_seconds` is what the process took to load its packages. Raises ConfigError for networks that cannot
    be built, EngineError for steps that fail.
    """
    config = parse_stored_config(request["config"], "the config")
    facts = DataFacts(**{**request["facts"], "class_names": tuple(request["facts"]["class_names"])})
    if request["is_assumed"]:
        data: Any = AssumedImages(config.data, facts)
    else:
        path = request["index"]
        data = open_data(config.data, FolderIndex.from_parquet(Path(path).read_bytes()) if path else None)
    device = torch.device("cuda" if request["use_gpu"] and torch.cuda.is_available() else "cpu")
    size = config.data.image_size
    sizes = {
        teacher.name: input_size(teacher, size, f"teachers.pool.{number}")
        for number, teacher in enumerate(config.teachers.pool)
    }
    with tempfile.TemporaryDirectory(prefix="prism-ray-calibrate-") as folder:
        small = small_run(Plan(config, facts), data, folder, sizes)
        run = new_run(small.config, small.data.facts(), request["num_threads"])
        rig = Rig(small, run, data, StoreFiles(folder), device)
        rig.measure(frozenset(request["trained"]), say)
    groups = rig.record(settings_of_groups(config, facts))
    return {
        "device": describe_device(device),
        "start_seconds": start_seconds,
        "groups": {name: asdict(group) for name, group in groups.items()},
    }
