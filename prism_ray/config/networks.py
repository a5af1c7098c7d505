"""`teachers`: the teacher pool, the source of the weights, and the training in squeeze.

A student's architecture has the same keys, but a student is always trained from scratch.
"""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from prism_ray.config.base import (
    BatchSize,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Precision,
    Section,
)

# config/complaints.py has a sentence for each pattern.
NAME_PATTERN = r"^[a-z0-9][a-z0-9_.-]*$"
ARCH_PATTERN = r"^(timm|torchvision):[A-Za-z0-9_.]+(@.*)?$"

Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=64)]
Finite = Annotated[float, Field(allow_inf_nan=False)]

# What follows the @ is a path if it has a slash, or one of these endings (before the key of a network).
_WEIGHT_FILE = re.compile(r"/|\.(safetensors|pth|pt|bin|ckpt|tar)(#|$)")


class NetworkConfig(Section):
    """An architecture of timm or torchvision, built with the number of classes of the data."""

    arch: str = Field(pattern=ARCH_PATTERN)
    """timm:<arch> or torchvision:<arch>, for example timm:resnet18."""
    kwargs: dict[str, int | float | bool | str | list[int] | None] = Field(default={})
    """Arguments of the architecture's constructor, for example {width_mult: 0.5}."""
    stem: Literal["imagenet", "small"] = "imagenet"
    """imagenet: the architecture is not changed. small, for images of about 32 pixels: the first convolution
    gets stride 1, and the first max-pooling is removed if it belongs to the stem (at most three convolutions
    before it, the first with a stride)."""

    @field_validator("arch")
    @classmethod
    def _check_arch(cls, arch: str) -> str:
        network, at, _ = arch.partition("@")
        if at:
            raise ValueError(
                f"{arch!r} names weights, but this network is always trained from scratch; write {network!r}"
            )
        return arch

    @property
    def library(self) -> str:
        """timm or torchvision."""
        return self.arch.partition(":")[0]

    @property
    def architecture(self) -> str:
        """Name of the architecture in its library."""
        return self.arch.partition("@")[0].partition(":")[2]


class TeacherConfig(NetworkConfig):
    """A teacher of the pool: trained in squeeze, or with weights that exist already."""

    name: Name
    """Name of the teacher in this run, and of its folder in the store."""
    arch: str = Field(pattern=ARCH_PATTERN)
    """timm:<arch> or torchvision:<arch>, for example timm:resnet18: the teacher is trained in squeeze. With
    weights it is not trained: torchvision:<arch>@<weights> (for example IMAGENET1K_V1 or DEFAULT),
    timm:<arch>@pretrained or @<tag>, or <library>:<arch>@<path> with the path of a file of weights
    (safetensors, or a state dict in .pth, .pt, .bin, .ckpt or .tar; a path has a slash or one of these
    endings). Of several networks in a file the one that timm takes is taken (state_dict_ema, model_ema,
    state_dict, model); @<path>#<key> chooses another, for example @x.pth#state_dict."""
    weights_by: Literal["name", "position"] = "name"
    """Assignment of the tensors in a file of weights. name: by their names. position: by their order, for
    a file with the names of another library. The shapes are checked in both cases."""
    mean: tuple[Finite, Finite, Finite] | None = None
    """Mean per channel, for pixels in [0, 1], that normalises the teacher's input. Default: the mean of the
    training images if the teacher is trained in squeeze, the mean in the file of weights if prism-ray wrote
    it, otherwise the mean that the library states."""
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None
    """Standard deviation per channel, as `mean`."""
    input_size: Literal["run", "own"] | PositiveInt = "run"
    """Height and width of the teacher's input in pixels. run: data.image_size. own: the resolution that the
    library states. Or a number, for example 224."""
    class_indices: tuple[NonNegativeInt, ...] | None = None
    """For weights of other classes than the data's: index of the output for each class of the data, in the
    order of the data's classes. For example [285, 967] for two classes of ImageNet-1K."""

    @field_validator("arch")
    @classmethod
    def _check_arch(cls, arch: str) -> str:
        network, at, weights = arch.partition("@")
        if at and not weights.strip():
            raise ValueError(
                f"{arch!r} names no weights after the @; write {network!r} to squeeze it, or "
                f"{network + '@'!r} with the name of weights or the path of a file"
            )
        return arch

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        if self.weights_by == "position" and self.weights_path is None:
            raise ValueError(
                f"weights_by = 'position' needs a file of weights, but arch = {self.arch!r} names none; "
                "leave weights_by out, or write arch as <library>:<arch>@<path>"
            )
        if self.class_indices is not None:
            if self.weights is None:
                raise ValueError(
                    f"class_indices needs a teacher with weights, but {self.arch!r} is trained on the data's "
                    "own classes; leave class_indices out"
                )
            seen: set[int] = set()
            for index in self.class_indices:
                if index in seen:
                    raise ValueError(
                        f"class_indices names output {index} twice; give each class its own output"
                    )
                seen.add(index)
        return self

    @property
    def weights(self) -> str | None:
        """Name or path of the weights, after the @; None for a teacher that is trained in squeeze."""
        return self.arch.partition("@")[2] or None

    @property
    def weights_path(self) -> str | None:
        """Path or URL of the file of weights, with #<key> if that was given; None if there is no file."""
        weights = self.weights
        return weights if weights is not None and _WEIGHT_FILE.search(weights) else None

    def with_weights_path(self, path: str) -> "TeacherConfig":
        """Return the same teacher with another path of its file of weights."""
        return self.model_copy(update={"arch": f"{self.arch.partition('@')[0]}@{path}"})

    def without_weights(self) -> NetworkConfig:
        """Return the architecture alone, as for a student."""
        return NetworkConfig(arch=self.arch.partition("@")[0], kwargs=self.kwargs, stem=self.stem)


class SqueezeConfig(Section):
    """The training of the teachers on the real images (AdamW, one-cycle learning rate)."""

    epochs: PositiveInt = 20
    """Number of passes over the training images."""
    batch_size: BatchSize = 64
    """Images per training step."""
    learning_rate: PositiveFloat = 0.005
    """Peak of the one-cycle learning rate."""
    weight_decay: NonNegativeFloat = 0.01
    """AdamW's weight decay."""
    shift: NonNegativeInt = 2
    """Augmentation: move each image by up to this many pixels."""
    flip: bool = True
    """Augmentation: mirror a random half of the images left to right."""
    precision: Precision = "fp32"
    """Precision of the passes, as `recover.precision`; the weights stay in float32. bf16 is the fastest."""


class TeachersConfig(Section):
    """The teacher pool."""

    pool: tuple[TeacherConfig, ...] = Field(min_length=1)
    """The teachers. Those without weights are trained in squeeze."""
    squeeze: SqueezeConfig = SqueezeConfig()
    """The training of the teachers on the real images."""
    check_accuracy: bool = True
    """Test teachers that have weights already on a sample of the training images, and end the run if their
    accuracy is near chance, or if their answers fit the classes in another order. false: use them as they
    are. The setting changes no result."""

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        names = [teacher.name for teacher in self.pool]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two teachers of the pool have the name {name!r}; give each its own name")
        return self
