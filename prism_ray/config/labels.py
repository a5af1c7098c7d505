"""`relabel` and `evaluate`: how the soft labels are made, and how students are trained on them."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from prism_ray.config.base import (
    BatchSize,
    CropScale,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Section,
    check_crop_scale,
)
from prism_ray.config.networks import NetworkConfig


class RelabelConfig(Section):
    """Soft labels, FKD style: logits of a teacher ensemble on one stored view per image and epoch."""

    teachers: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="Names of the ensemble's teachers; default: the whole pool."
    )
    epochs: PositiveInt = Field(
        default=300, description="Views per image; a student trains for as many epochs."
    )
    crop_scale: Annotated[CropScale, AfterValidator(check_crop_scale)] = Field(
        default=(0.25, 1.0), description="Range of the crop's share of the area."
    )
    flip: bool = Field(default=True, description="Mirror half of the views.")
    cutmix_alpha: NonNegativeFloat = Field(
        default=1.0, description="Beta(alpha, alpha) of CutMix's mixing share; 0: no CutMix."
    )
    images_per_group: PositiveInt = Field(
        default=1000,
        description="Images are labelled in groups of about this many (whole recover batches). "
        "CutMix partners and the ensemble's norms are taken within a group.",
    )
    epochs_per_unit: PositiveInt = Field(
        default=100, description="Epochs that one unit of work labels for its group."
    )


class EvaluateConfig(Section):
    """Post-evaluation: a fresh student trained on the images and soft labels, tested on real images."""

    protocol: Literal["prism"] = Field(
        default="prism",
        description="prism: AdamW, MSE to the soft labels + 0.1 cross-entropy, slow cosine.",
    )
    student: NetworkConfig = Field(description="The student's architecture.")
    seeds: PositiveInt = Field(default=3, description="Students trained per image set.")
    batch_size: BatchSize = Field(default=50, description="Images per step.")
    learning_rate: PositiveFloat = Field(default=1e-3, description="AdamW's first learning rate.")
    weight_decay: NonNegativeFloat = Field(
        default=0.01, description="AdamW's weight decay, on parameters of 2 or more dimensions."
    )
    ce_weight: NonNegativeFloat = Field(
        default=0.1, description="Weight of the cross-entropy with the hard label."
    )
