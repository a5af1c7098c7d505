"""Every setting a user has, as frozen pydantic models; one file per section."""

from prism_ray.config.data import DataConfig
from prism_ray.config.labels import EvaluateConfig, RelabelConfig
from prism_ray.config.load import dump_config, load_config, parse_config
from prism_ray.config.networks import NetworkConfig, SqueezeConfig, TeacherConfig, TeachersConfig
from prism_ray.config.orchestrate import OrchestrateConfig
from prism_ray.config.recover import RecoverConfig
from prism_ray.config.run import Config

__all__ = [
    "Config",
    "DataConfig",
    "EvaluateConfig",
    "NetworkConfig",
    "OrchestrateConfig",
    "RecoverConfig",
    "RelabelConfig",
    "SqueezeConfig",
    "TeacherConfig",
    "TeachersConfig",
    "dump_config",
    "load_config",
    "parse_config",
]
