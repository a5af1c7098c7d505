"""`relabel`, `evaluate`, `analyze`: how labels are made, students trained, and images measured."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

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
from prism_ray.methods.protocols import PROTOCOLS


class RelabelConfig(Section):
    """Soft labels, FKD style: logits of a teacher ensemble on one stored view per image and epoch.

    The evaluation protocol's values are the defaults.
    """

    teachers: Literal["pool", "primary"] | tuple[str, ...] = Field(
        default="pool",
        description="The ensemble: names, or pool (all but the verifiers), or primary (it alone).",
    )
    ensemble: Literal["norm-balanced", "mean"] = Field(
        default="norm-balanced",
        description="norm-balanced: each teacher's logits are scaled to the teachers' mean norm first.",
    )
    teacher_batch_norm: Literal["running", "batch"] = Field(
        default="running",
        description="batch: the teachers normalise with the statistics of the views that they label.",
    )
    teacher_batch_size: BatchSize = Field(
        default=256, description="Views that the teachers label at a time; matters with batch statistics."
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
    patch_shuffle: bool = Field(
        default=False, description="The halves of an image, left and right, top and bottom, change places."
    )
    rand_augment: bool = Field(
        default=False, description="timm's RandAugment (m6, n2, mstd1.0) on the image, before the crop."
    )
    images_per_group: PositiveInt = Field(
        default=1000,
        description="Images are labelled in groups of about this many (whole recover batches). "
        "CutMix partners and the ensemble's norms are taken within a group.",
    )
    epochs_per_unit: PositiveInt = Field(
        default=100, description="Epochs that one unit of work labels for its group."
    )

    @model_validator(mode="after")
    def _check_teachers(self) -> Self:
        if self.teachers == ():
            raise ValueError("teachers is empty; name at least one, or pool, or primary")
        return self


class EvaluateConfig(Section):
    """Post-evaluation: a fresh student trained on the images and labels, tested on real images.

    The protocol's values are the defaults.
    """

    protocol: str = Field(
        default="prism",
        description="Name of the protocol whose values are the defaults of `evaluate` and `relabel`; "
        "one for all evaluations.",
    )
    student: NetworkConfig = Field(description="The student's architecture.")
    num_students: PositiveInt = Field(default=3, description="Students trained per image set.")
    image_sets: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="Names of the image sets it is for; default: all."
    )
    split: Literal["test", "validation"] = Field(
        default="test", description="Real images that students are tested on; validation is for tuning."
    )
    labels: Literal["soft", "hard"] = Field(
        default="soft",
        description="hard: cross-entropy with the classes of the images in a view, by their areas.",
    )
    loss: Literal["mse", "kl"] = Field(
        default="mse",
        description="What draws the student's logits to the soft labels; kl: divergence at a temperature.",
    )
    temperature: PositiveFloat = Field(default=20.0, description="Temperature of loss kl.")
    ce_weight: NonNegativeFloat = Field(
        default=0.1, description="Weight of the cross-entropy with the image's class."
    )
    batch_size: BatchSize = Field(default=50, description="Images per step.")
    learning_rate: PositiveFloat = Field(default=1e-3, description="AdamW's first learning rate.")
    weight_decay: NonNegativeFloat = Field(
        default=0.01, description="AdamW's weight decay, on parameters of 2 or more dimensions."
    )
    cosine_stretch: PositiveFloat = Field(
        default=2.5,
        description="Learning-rate factor 0.5 (1 + cos(pi e / (stretch E))) in epoch e of E; 1 ends at 0.",
    )
    linear_tail: bool = Field(
        default=True,
        description="After epoch 5E/6 the factor is its value there times (1 - e/E) instead, which jumps.",
    )
    ema_decay: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        default=0.0, description="The student tested is a moving average of the weights; 0: the last."
    )

    @field_validator("protocol")
    @classmethod
    def _check_protocol(cls, name: str) -> str:
        if name not in PROTOCOLS:
            raise ValueError(f"there is no protocol {name!r}; there are {', '.join(PROTOCOLS)}")
        return name


class AnalyzeConfig(Section):
    """Measures of the images themselves."""

    verifiers: tuple[str, ...] = Field(
        default=(),
        description="Names of teachers of the pool that only judge: they neither supervise nor label, and "
        "say which share of the images they classify right.",
    )
    feature_teacher: str | None = Field(
        default=None,
        description="Name of the teacher whose penultimate features the intra-class cosine similarity is "
        "taken of; default: the first verifier, else the primary.",
    )
