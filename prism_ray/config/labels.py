"""`relabel`, `evaluate` and `analyze`: soft labels, training of students, measures of the images."""

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
from prism_ray.encodings import ENCODINGS
from prism_ray.methods.protocols import PROTOCOLS


class RelabelConfig(Section):
    """Soft labels, FKD style: logits of a teacher ensemble on one stored view per image and epoch.

    The evaluation protocol gives the defaults.
    """

    teachers: Literal["pool", "primary"] | tuple[str, ...] = Field(
        default="pool",
        description="The ensemble. pool: all teachers except the verifiers. primary: the primary only. Or a "
        "list of names, for example [resnet, densenet].",
    )
    ensemble: Literal["norm-balanced", "mean"] = Field(
        default="norm-balanced",
        description="mean: the mean of the teachers' logits. norm-balanced: the same, after each teacher's "
        "logits are scaled to the mean norm of all teachers.",
    )
    teacher_batch_norm: Literal["running", "batch"] = Field(
        default="running",
        description="running: BatchNorm uses the running statistics of the teachers. batch: it uses the "
        "statistics of the views in the batch.",
    )
    teacher_batch_size: BatchSize = Field(
        default=256,
        description="Views per forward pass of a teacher. It changes the labels if teacher_batch_norm is "
        "batch.",
    )
    epochs: PositiveInt = Field(
        default=300,
        description="Number of views per image, one per epoch. A student trains for the same number of "
        "epochs.",
    )
    crop_scale: Annotated[CropScale, AfterValidator(check_crop_scale)] = Field(
        default=(0.25, 1.0), description="Range of a crop's share of the image area, for example [0.25, 1.0]."
    )
    flip: bool = Field(default=True, description="Mirror a random half of the views.")
    cutmix_alpha: NonNegativeFloat = Field(
        default=1.0, description="CutMix draws its mixing share from Beta(alpha, alpha). 0: no CutMix."
    )
    patch_shuffle: bool = Field(
        default=False,
        description="Swap the left and right halves of a view, and the top and bottom ones, each at random.",
    )
    rand_augment: bool = Field(
        default=False, description="Apply timm's RandAugment (m6, n2, mstd1.0) to the image before the crop."
    )
    images_per_group: PositiveInt = Field(
        default=1000,
        description="Approximate number of images in a label group, which consists of whole recover batches. "
        "CutMix partners and the ensemble's norms come from within a group.",
    )
    epochs_per_unit: PositiveInt = Field(
        default=100, description="Number of epochs that one relabel unit labels for its group."
    )

    encoding: str = Field(
        default="fp16", description="How the logits are stored; fp16: every logit as a float16 number."
    )

    @field_validator("encoding")
    @classmethod
    def _check_encoding(cls, name: str) -> str:
        if name not in ENCODINGS:
            raise ValueError(f"there is no encoding {name!r}; there are {', '.join(ENCODINGS)}")
        return name

    @model_validator(mode="after")
    def _check_teachers(self) -> Self:
        if self.teachers == ():
            raise ValueError("teachers = [] names no teacher; name at least one, or set pool or primary")
        return self


class EvaluateConfig(Section):
    """Post-evaluation: a new student is trained on the images and labels and tested on real images.

    The protocol gives the defaults.
    """

    protocol: str = Field(
        default="prism",
        description="Evaluation protocol, which gives the defaults of `evaluate` and `relabel`. All "
        "evaluations of a run share one. `prism-ray methods` lists them.",
    )
    student: NetworkConfig = Field(description="Architecture of the student.")
    num_students: PositiveInt = Field(default=3, description="Number of students trained per image set.")
    image_sets: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="Names of the image sets to evaluate. Default: all."
    )
    split: Literal["test", "validation"] = Field(
        default="test", description="Real images that students are tested on. Use validation for tuning."
    )
    labels: Literal["soft", "hard"] = Field(
        default="soft",
        description="soft: the stored logits. hard: cross-entropy with the classes of the images in a view, "
        "weighted by their areas.",
    )
    loss: Literal["mse", "kl"] = Field(
        default="mse",
        description="Loss between the student's logits and the soft labels. mse: mean squared error. kl: "
        "Kullback-Leibler divergence at `temperature`.",
    )
    temperature: PositiveFloat = Field(default=20.0, description="Softmax temperature of loss kl.")
    ce_weight: NonNegativeFloat = Field(
        default=0.1,
        description="Weight of the cross-entropy with the image's class, which is added to the loss.",
    )
    batch_size: BatchSize = Field(default=50, description="Images per training step.")
    learning_rate: PositiveFloat = Field(default=1e-3, description="Initial learning rate of AdamW.")
    weight_decay: NonNegativeFloat = Field(
        default=0.01, description="Weight decay of AdamW, for parameters with 2 or more dimensions."
    )
    cosine_stretch: PositiveFloat = Field(
        default=2.5,
        description="The learning rate in epoch e of E has the factor 0.5 (1 + cos(pi e / (stretch E))). It "
        "ends at 0 for 1 and at half for 2.",
    )
    linear_tail: bool = Field(
        default=True,
        description="After epoch 5E/6 the factor is (1 - e/E) times its value at 5E/6. It drops in one step "
        "there.",
    )
    ema_decay: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        default=0.0,
        description="Decay of a moving average of the student's weights, for example 0.99. The average is "
        "tested. 0: the last weights are tested.",
    )

    @field_validator("protocol")
    @classmethod
    def _check_protocol(cls, name: str) -> str:
        if name not in PROTOCOLS:
            raise ValueError(f"{name!r} is not a protocol; set one of {', '.join(PROTOCOLS)}")
        return name


class AnalyzeConfig(Section):
    """Measures of the images themselves."""

    verifiers: tuple[str, ...] = Field(
        default=(),
        description="Names of teachers of the pool that only judge the images. They neither supervise nor "
        "label; their accuracy on the images is reported.",
    )
    feature_teacher: str | None = Field(
        default=None,
        description="Name of the teacher whose penultimate features give the intra-class cosine similarity. "
        "Default: the first verifier, or the primary if there is none.",
    )
