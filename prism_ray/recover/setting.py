"""The setting of a batch: everything that its objective may use."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from prism_ray.config import RecoverConfig
from prism_ray.recover.space import ReferenceSpace
from prism_ray.stages.recover import RecoverUnit
from prism_ray.teachers.layers import TeacherReference
from prism_ray.teachers.teacher import Teacher


@dataclass(frozen=True)
class RecoverSetting:
    """One batch with its teachers, on a device."""

    unit: RecoverUnit
    config: RecoverConfig
    teachers: Mapping[str, Teacher]  # at least those of the unit's draws, and the primary
    labels: Tensor  # B; only the first ones are used until all images have joined
    space: ReferenceSpace
    image_size: int
    device: torch.device
    references: Mapping[str, TeacherReference] = field(default_factory=dict)  # from collect, by teacher
    patch_size: int = 16
    priors: Mapping[str, float] = field(default_factory=dict)  # prior accuracy of teachers in percent
    recompute: bool = False  # activation checkpointing: less memory, each network runs again for its gradient
