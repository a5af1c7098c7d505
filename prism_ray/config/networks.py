"""`teachers`: the pool of networks and how they are squeezed. A student is named the same way."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from prism_ray.config.base import (
    BatchSize,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Section,
)

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=64)]


class NetworkConfig(Section):
    """An architecture of timm or torchvision, with its class count set to the data's."""

    arch: str = Field(
        pattern=r"^(timm|torchvision):[A-Za-z0-9_.]+$",
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


class TeacherConfig(NetworkConfig):
    """A member of the teacher pool."""

    name: Name = Field(description="Name of the teacher in this run, also its folder in the store.")


class SqueezeConfig(Section):
    """How the teachers are trained on the real images (AdamW, one-cycle learning rate)."""

    epochs: PositiveInt = Field(default=20, description="Passes over the training images.")
    batch_size: BatchSize = Field(default=64, description="Images per step.")
    learning_rate: PositiveFloat = Field(default=0.005, description="Peak of the one-cycle learning rate.")
    weight_decay: NonNegativeFloat = Field(default=0.01, description="AdamW's weight decay.")
    shift: NonNegativeInt = Field(
        default=2, description="Augmentation: images are moved by up to this many pixels."
    )
    flip: bool = Field(default=True, description="Augmentation: mirror half of the batches left to right.")


class TeachersConfig(Section):
    """The teacher pool."""

    pool: tuple[TeacherConfig, ...] = Field(
        min_length=1, description="The networks that are squeezed and then supervise."
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
