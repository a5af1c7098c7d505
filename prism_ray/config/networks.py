"""`teachers`: the pool of networks, where their weights come from, and how they are squeezed.

A student is named the same way, but is always trained from scratch.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from prism_ray.config.base import (
    BatchSize,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Section,
)

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=64)]
Finite = Annotated[float, Field(allow_inf_nan=False)]

_WEIGHT_FILES = (".safetensors", ".pth", ".pt", ".bin")


class NetworkConfig(Section):
    """An architecture of timm or torchvision, with its class count set to the data's."""

    arch: str = Field(
        pattern=r"^(timm|torchvision):[A-Za-z0-9_.]+(@.*)?$",
        description="timm:<arch> or torchvision:<arch>, for example timm:resnet18.",
    )
    kwargs: dict[str, int | float | bool | str | list[int] | None] = Field(
        default={},
        description="Arguments of the architecture's constructor, for example width_mult.",
    )
    stem: Literal["imagenet", "small"] = Field(
        default="imagenet",
        description="small: the first convolution gets stride 1, and the first max-pooling is removed "
        "if it belongs to the stem (at most three convolutions before it, the first with a stride); "
        "for images of about 32 pixels.",
    )

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
    """A member of the teacher pool: squeezed here, or with weights that exist already."""

    name: Name = Field(description="Name of the teacher in this run, also its folder in the store.")
    arch: str = Field(
        pattern=r"^(timm|torchvision):[A-Za-z0-9_.]+(@.*)?$",
        description="timm:<arch> or torchvision:<arch>, for example timm:resnet18: squeezed in this run. "
        "With weights it is used as it is: torchvision:<arch>@<weights> (for example IMAGENET1K_V1 or "
        "DEFAULT), timm:<arch>@pretrained or @<tag>, or <library>:<arch>@<path> of a file of weights "
        "(safetensors, or a state dict in .pth, .pt or .bin; a path has a slash or one of these endings).",
    )
    weights_by: Literal["name", "position"] = Field(
        default="name",
        description="How the tensors of a weights file find their places: by their names, or, for a file "
        "whose names are another library's, by their order; shapes are checked in both cases.",
    )
    mean: tuple[Finite, Finite, Finite] | None = Field(
        default=None,
        description="Mean of each channel, of pixels in [0, 1], that the network expects; default: what "
        "the training images have if it is squeezed, what a file of weights says that was squeezed by "
        "prism-ray, else what its library says.",
    )
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = Field(
        default=None, description="The same for the standard deviation."
    )
    input_size: Literal["run", "own"] | PositiveInt = Field(
        default="run",
        description="Pixels of a side that the network sees. run: data.image_size; own: the resolution "
        "that its library states; or a number.",
    )
    class_indices: tuple[NonNegativeInt, ...] | None = Field(
        default=None,
        description="For weights of other classes than the data's: the network's output for each class of "
        "the data, in the order of the data's classes.",
    )

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
                f"weights_by = 'position' is for a file of weights, and arch = {self.arch!r} names none; "
                "leave weights_by out, or write arch as <library>:<arch>@<path>"
            )
        if self.class_indices is not None:
            if self.weights is None:
                raise ValueError(
                    f"class_indices is for a network that has weights already; {self.arch!r} is squeezed on "
                    "the data's own classes; leave class_indices out"
                )
            seen: set[int] = set()
            for index in self.class_indices:
                if index in seen:
                    raise ValueError(f"class_indices names output {index} twice; each class has its own")
                seen.add(index)
        return self

    @property
    def weights(self) -> str | None:
        """What stands after the @: the weights' name or path; None for a network that is squeezed here."""
        return self.arch.partition("@")[2] or None

    @property
    def weights_path(self) -> str | None:
        """Path or URL of the file of weights; None if the library brings them, or nobody."""
        weights = self.weights
        is_path = weights is not None and ("/" in weights or weights.endswith(_WEIGHT_FILES))
        return weights if is_path else None

    def with_weights_path(self, path: str) -> "TeacherConfig":
        """Return the same teacher with its file of weights elsewhere."""
        return self.model_copy(update={"arch": f"{self.arch.partition('@')[0]}@{path}"})

    def without_weights(self) -> NetworkConfig:
        """Return the bare network, as a student would name it."""
        return NetworkConfig(arch=self.arch.partition("@")[0], kwargs=self.kwargs, stem=self.stem)


class SqueezeConfig(Section):
    """How the teachers are trained on the real images (AdamW, one-cycle learning rate)."""

    epochs: PositiveInt = Field(default=20, description="Passes over the training images.")
    batch_size: BatchSize = Field(default=64, description="Images per step.")
    learning_rate: PositiveFloat = Field(default=0.005, description="Peak of the one-cycle learning rate.")
    weight_decay: NonNegativeFloat = Field(default=0.01, description="AdamW's weight decay.")
    shift: NonNegativeInt = Field(
        default=2, description="Augmentation: each image is moved by up to this many pixels."
    )
    flip: bool = Field(default=True, description="Augmentation: mirror half of the images left to right.")


class TeachersConfig(Section):
    """The teacher pool."""

    pool: tuple[TeacherConfig, ...] = Field(
        min_length=1, description="The networks that supervise; those without weights are squeezed first."
    )
    squeeze: SqueezeConfig = Field(
        default=SqueezeConfig(), description="How the pool is trained on the real images."
    )

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        names = [teacher.name for teacher in self.pool]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two teachers of the pool are named {name!r}; names must differ")
        return self
