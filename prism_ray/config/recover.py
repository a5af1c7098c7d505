"""`recover` and `image_sets`: the settings of one image set.

An image set is either optimised (RecoverConfig) or selected from real images (SelectConfig), depending on its
method. The defaults are PRISM's published ImageNet-1K settings. The preset of another method
(prism_ray/methods) overrides them, and the user's values override the preset.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from prism_ray.config.base import (
    CropScale,
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Precision,
    Section,
)
from prism_ray.config.selection import SelectionConfig
from prism_ray.methods import find_method, method_names
from prism_ray.suggest import did_you_mean

Beta = Annotated[float, Field(ge=0.0, lt=1.0)]


class StatisticsConfig(Section):
    """The statistics of a teacher's layers that are matched, and the weights of the differences."""

    layers: Literal["bn", "bn+conv"] = "bn"
    """bn: match the inputs of BatchNorm layers with their running statistics. bn+conv: also match the
    channels and patches of the inputs of convolutions with statistics that collect computes."""
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Weight of the past in a moving average of the batch statistics over the iterations, for example 0.8.
    The gradient flows only through the current iteration. 0: no average."""
    class_share: Fraction = 0.0
    """Share of category-aware matching, which uses the statistics of the batch's classes and not those of all
    classes. For example 0.5: half of each; 1: those of the classes alone, as LPLD does."""
    first_weight: NonNegativeFloat = 10.0
    """Weight of the first matched layer of each teacher. All other layers have weight 1."""
    scale: Literal["sum", "relative"] = "sum"
    """sum: the differences are added up, as published, so a network with more layers has more weight.
    relative: each teacher's sum is divided by the norm of its own statistics."""
    teacher_weights: dict[str, NonNegativeFloat] = Field(default={})
    """Weight of a teacher's term in addition to bn_weight, by name, for example {resnet: 0.5}. Default: 1."""


class ImageSetConfig(Section):
    """The settings of every image set, optimised or selected."""

    method: str = "prism"
    """Name of the method. `prism-ray methods` lists them."""
    ipc: PositiveInt
    """Images per class."""
    primary: str
    """Name of the primary, the teacher that gives the logits. It also scores real images."""
    formation: Literal["cross-class", "joint", "class-wise"] = "cross-class"
    """cross-class: a batch contains one IPC index (or a few) of a chunk of classes. joint: a batch holds
    consecutive images in class order, so it has as few classes as possible. class-wise: a batch holds images
    of one class: all of them, or equal pieces if they are more than images_per_batch."""
    images_per_batch: PositiveInt = 100
    """Maximum number of images in a batch."""
    ipc_indices_per_batch: PositiveInt | None = None
    """For cross-class: number of IPC indices in one batch, which is one round. Default: 1. With few classes,
    a larger value makes the batch statistics more stable, but there are fewer teacher draws."""
    replicate: NonNegativeInt = 0
    """Number of the replicate: 0, 1, 2, ... give different image sets from the same settings."""

    @field_validator("method")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if find_method(name) is None:
            hint = did_you_mean(name, method_names()) or f"; the methods are {', '.join(method_names())}"
            raise ValueError(f"{name!r} is not a method{hint}")
        return name

    @model_validator(mode="after")
    def _check_formation(self) -> Self:
        if self.formation != "cross-class" and self.ipc_indices_per_batch is not None:
            raise ValueError(
                f"ipc_indices_per_batch = {self.ipc_indices_per_batch} needs formation = 'cross-class'; "
                f"leave it out, because a {self.formation} batch holds as many IPC indices as "
                "images_per_batch allows"
            )
        if self.indices_per_round > self.images_per_batch:
            raise ValueError(
                f"ipc_indices_per_batch = {self.indices_per_round} images of one class do not fit into "
                f"images_per_batch = {self.images_per_batch}; lower the first or raise the second"
            )
        return self

    @property
    def indices_per_round(self) -> int:
        """Number of IPC indices in a round, which have the same teacher draw."""
        return min(self.ipc, self.ipc_indices_per_batch or 1)


class SelectConfig(ImageSetConfig):
    """An image set of selected real images that are not optimised: RDED and the controls."""

    init: Literal["real", "random", "median", "rded"] = "random"
    """The real images that are selected; see `recover.init`."""

    @model_validator(mode="after")
    def _check_method(self) -> Self:
        method = find_method(self.method)
        if method is not None and method.optimises:
            raise ValueError(
                f"method {self.method} optimises its images, but this set has no settings for it"
            )
        return self


class RecoverConfig(ImageSetConfig):
    """An image set whose pixels are optimised."""

    selection: SelectionConfig = SelectionConfig()
    """The teachers that supervise, and when they are drawn."""
    statistics: StatisticsConfig = StatisticsConfig()
    """The statistics that the images must match."""
    init: Literal["real", "random", "median", "rded", "noise"] = "real"
    """Images from which the optimisation starts. real: IPC index k starts from the k-th training image of its
    class. random: random training images. median: training images of median teacher probability. rded:
    collages of the best-scored patches. noise: Gaussian noise."""
    iterations: PositiveInt = 4000
    """Number of iterations of the first round of IPC indices; joint: of the first sub-batch."""
    iterations_step: NonNegativeInt = 500
    """Early-late schedule. cross-class: each round has this many iterations fewer than the one before, for
    example 4000, 3500, 3000 with 500. joint: each sub-batch of a class joins this many iterations later.
    class-wise: each image of a class joins this many iterations later than the one before it."""
    iterations_cycle: PositiveInt = 8
    """cross-class, class-wise: the schedule starts again after this many rounds or images of a class. joint:
    number of sub-batches of each class."""
    learning_rate: PositiveFloat = 0.05
    """Initial learning rate of Adam. It falls to 0 on a cosine."""
    betas: tuple[Beta, Beta] = (0.5, 0.9)
    """Betas of Adam."""
    bn_weight: NonNegativeFloat = 0.01
    """Weight r_bn of the alignment of statistics in the loss."""
    densification_weight: NonNegativeFloat = 0.0
    """Weight of data densification (G-VBSM) in the loss. 0: none."""
    crop_scale: CropScale = (0.08, 1.0)
    """Range of a crop's share of the image area, for example [0.08, 1.0]."""
    crop_curriculum: Literal["none", "cosine"] = "none"
    """cosine: the lower limit of crop_scale starts at the upper limit and falls to its own value on a cosine
    over the iterations."""
    flip: bool = True
    """Mirror the batch in a random half of the iterations."""
    jitter: NonNegativeInt = 32
    """Roll the batch by 0 to jitter pixels along each axis."""
    precision: Precision = "fp32"
    """Precision of the teachers' passes. fp32: exact up to rounding. tf32: faster on GPUs since Ampere, with
    products of 10 bits. bf16: activations in bfloat16, the fastest on GPUs since Ampere and on CPUs that have
    it. Statistics and losses are in float32 always."""
    init_patch_shuffle: bool = False
    """Put the four quarters of each initial image into a random order."""
    options: dict[str, Any] = Field(default={})
    """Settings of a method that is not built in. The method defines their names."""

    @model_validator(mode="after")
    def _check_schedule(self) -> Self:
        method = find_method(self.method)
        if method is not None and not method.optimises:
            raise ValueError(f"method {self.method} selects real images and does not optimise them")
        if self.formation == "joint":
            last_round = min(self.ipc, self.iterations_cycle) - 1
        else:
            num_rounds = -(-self.ipc // self.indices_per_round)
            last_round = min(num_rounds, self.iterations_cycle) - 1
        fewest = self.iterations - self.iterations_step * last_round
        if fewest < 1:
            raise ValueError(
                f"iterations - iterations_step * {last_round} is {fewest}: round {last_round} would store "
                "its initial images unchanged; raise iterations, or lower iterations_step or "
                "iterations_cycle"
            )
        return self

    @model_validator(mode="after")
    def _check_patch_shuffle(self) -> Self:
        if self.init_patch_shuffle and self.init == "noise":
            raise ValueError(
                "init_patch_shuffle = True shuffles the quarters of real images, but init = 'noise' has no "
                "real images; set init_patch_shuffle to false"
            )
        return self

    @model_validator(mode="after")
    def _check_options(self) -> Self:
        method = find_method(self.method)
        if method is not None:
            method.check_options(self.options)
        return self

    def num_iterations(self, ipc_index: int) -> int:
        """Number of iterations for the images of an IPC index."""
        if self.formation == "joint":
            return self.iterations - self.iterations_step * self._sub_batch(ipc_index)
        round_index = ipc_index // self.indices_per_round
        return self.iterations - self.iterations_step * (round_index % self.iterations_cycle)

    def _sub_batch(self, ipc_index: int) -> int:
        """Index of an image's sub-batch among the `iterations_cycle` of its class; the first are larger."""
        size, larger = divmod(self.ipc, min(self.ipc, self.iterations_cycle))
        if ipc_index < larger * (size + 1):
            return ipc_index // (size + 1)
        return (ipc_index - larger) // size


def _kind_of(values: Any) -> str:
    """Return recover for an optimised set, select for a selected one; `values` is plain data or a model."""
    name = values.get("method") if isinstance(values, Mapping) else getattr(values, "method", None)
    method = find_method(name) if isinstance(name, str) else None
    return "select" if method is not None and not method.optimises else "recover"


AnyImageSet = Annotated[
    Annotated[RecoverConfig, Tag("recover")] | Annotated[SelectConfig, Tag("select")], Discriminator(_kind_of)
]
