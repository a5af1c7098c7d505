"""Small configs and facts of imaginary data, for the tests of what follows from them."""

from typing import Any

from prism_ray.config import Config, parse_config
from prism_ray.data import DataFacts


def facts_of(num_classes: int = 10, *, per_class: int = 1000, identity: str = "some data") -> DataFacts:
    """Facts of imaginary data."""
    return DataFacts(
        class_names=tuple(f"class {label}" for label in range(num_classes)),
        train_counts=(per_class,) * num_classes,
        num_test_images=num_classes,
        channels=3,
        identity=identity,
    )


def config_of(pool_size: int = 4, **changes: Any) -> Config:
    """Return a config with the teachers t0 (the primary), t1, ...; `changes` are a__b=value for a.b."""
    values: dict[str, Any] = {
        "store": "somewhere",
        "data": {"source": "digits", "image_size": 32},
        "teachers": {"pool": [{"name": f"t{k}", "arch": "timm:x"} for k in range(pool_size)]},
        "recover": {"ipc": 4, "primary": "t0", "iterations": 100, "iterations_step": 0},
        "evaluate": {"student": {"arch": "timm:x"}},
    }
    for key, value in changes.items():
        node = values
        *sections, name = key.split("__")
        for section in sections:
            node = node.setdefault(section, {})
        node[name] = value
    return parse_config(values, "test")
