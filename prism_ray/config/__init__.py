"""All settings of a user, as frozen pydantic models. Each section has one file."""

from prism_ray.config.collect import CollectConfig, CropFrom
from prism_ray.config.controls import with_controls
from prism_ray.config.data import DataConfig
from prism_ray.config.labels import AnalyzeConfig, EvaluateConfig, RelabelConfig
from prism_ray.config.load import (
    config_schema,
    dump_config,
    load_config,
    make_config,
    parse_config,
    parse_stored_config,
)
from prism_ray.config.networks import NetworkConfig, SqueezeConfig, TeacherConfig, TeachersConfig
from prism_ray.config.orchestrate import ElasticActors, OrchestrateConfig
from prism_ray.config.recover import AnyImageSet, RecoverConfig, SelectConfig, StatisticsConfig
from prism_ray.config.resolve import DISTILLED
from prism_ray.config.run import Config
from prism_ray.config.selection import SelectionConfig
from prism_ray.config.store import ImageFiles, StoreConfig

__all__ = [
    "DISTILLED",
    "AnalyzeConfig",
    "AnyImageSet",
    "CollectConfig",
    "Config",
    "CropFrom",
    "DataConfig",
    "ElasticActors",
    "EvaluateConfig",
    "ImageFiles",
    "NetworkConfig",
    "OrchestrateConfig",
    "RecoverConfig",
    "RelabelConfig",
    "SelectConfig",
    "SelectionConfig",
    "SqueezeConfig",
    "StatisticsConfig",
    "StoreConfig",
    "TeacherConfig",
    "TeachersConfig",
    "config_schema",
    "dump_config",
    "load_config",
    "make_config",
    "parse_config",
    "parse_stored_config",
    "with_controls",
]
