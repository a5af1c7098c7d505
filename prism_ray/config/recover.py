"""`recover` and `image_sets`: how the images of one set are made.

An image set is either optimised (RecoverConfig) or selected from real images without a loop (SelectConfig);
its method says which. The defaults are PRISM's published ImageNet-1K settings; the preset of another method
(prism_ray/methods) takes their place, and what the user sets takes the preset's.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, field_validator, model_validator

from prism_ray.config.base import (
    CropScale,
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Section,
    check_crop_scale,
)
from prism_ray.config.selection import SelectionConfig
from prism_ray.methods import find_method, method_names
from prism_ray.suggest import did_you_mean

Beta = Annotated[float, Field(ge=0.0, lt=1.0)]


class StatisticsConfig(Section):
    """Which statistics of a teacher's layers are matched, and how the gaps are weighed."""

    layers: Literal["bn", "bn+conv"] = Field(
        default="bn",
        description="bn: the inputs of BatchNorm layers against their running statistics; bn+conv: also the "
        "inputs of convolutions, channels and patches, against one pass over the real images.",
    )
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        default=0.0,
        description="Share of the past in a moving average of the batch statistics over the iterations; "
        "the gradient flows through the present batch alone. 0: no average.",
    )
    class_share: Fraction = Field(
        default=0.0,
        description="Share of category-aware matching: against the real images of the batch's classes, not "
        "those of all classes.",
    )
    first_weight: NonNegativeFloat = Field(
        default=10.0, description="Weight of the first layer matched of each teacher; the others: 1."
    )
    scale: Literal["sum", "relative"] = Field(
        default="sum",
        description="sum: the gaps are added up, as published, so that a network with more layers weighs "
        "more; relative: each teacher's sum is divided by the norm of its own statistics.",
    )
    teacher_weights: dict[str, NonNegativeFloat] = Field(
        default={}, description="Weight of a teacher's term beside r_bn, by name; 1 where none is given."
    )


class ImageSetConfig(Section):
    """What every image set has, however its images are made."""

    method: str = Field(default="prism", description="Name of the method; `prism-ray methods` lists them.")
    ipc: PositiveInt = Field(description="Images per class.")
    primary: str = Field(description="Name of the logit teacher, which also scores real images.")
    formation: Literal["cross-class", "joint"] = Field(
        default="cross-class",
        description="cross-class: a batch is a chunk of classes in one IPC index (or a few); joint: it is "
        "images of as few classes as it takes, in class order.",
    )
    images_per_batch: PositiveInt = Field(default=100, description="Images in a batch, at most.")
    ipc_indices_per_batch: PositiveInt | None = Field(
        default=None,
        description="cross-class: IPC indices in one batch, that is, in one round (default 1). More steady "
        "the batch statistics when there are few classes, and leave fewer teacher draws.",
    )
    replicate: NonNegativeInt = Field(
        default=0, description="Another number makes another image set from the same settings."
    )

    @field_validator("method")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if find_method(name) is None:
            hint = did_you_mean(name, method_names()) or f"; there are {', '.join(method_names())}"
            raise ValueError(f"there is no method {name!r}{hint}")
        return name

    @model_validator(mode="after")
    def _check_formation(self) -> Self:
        if self.formation == "joint" and self.ipc_indices_per_batch is not None:
            raise ValueError(
                f"ipc_indices_per_batch = {self.ipc_indices_per_batch} is for formation cross-class; a joint "
                "batch holds as many IPC indices as images_per_batch allows"
            )
        if self.indices_per_round > self.images_per_batch:
            raise ValueError(
                f"ipc_indices_per_batch = {self.indices_per_round} images of one class do not fit into "
                f"images_per_batch = {self.images_per_batch}"
            )
        return self

    @property
    def indices_per_round(self) -> int:
        """IPC indices of a round, which share their teacher draw."""
        return min(self.ipc, self.ipc_indices_per_batch or 1)


class SelectConfig(ImageSetConfig):
    """An image set of real images, chosen and not optimised: RDED, and the controls."""

    init: Literal["real", "random", "median", "rded"] = Field(
        default="random", description="Which real images are taken; see `recover.init`."
    )

    @model_validator(mode="after")
    def _check_method(self) -> Self:
        method = find_method(self.method)
        if method is not None and method.optimises:
            raise ValueError(f"method {self.method} optimises its images; this set gives no iterations")
        return self


class RecoverConfig(ImageSetConfig):
    """An image set whose pixels are optimised."""

    selection: SelectionConfig = Field(
        default=SelectionConfig(), description="Which teachers supervise, and when they are drawn."
    )
    statistics: StatisticsConfig = Field(
        default=StatisticsConfig(), description="Which statistics the images are matched with."
    )
    init: Literal["real", "random", "median", "rded", "noise"] = Field(
        default="real",
        description="Where the optimisation starts. real: IPC index k from the k-th training image of its "
        "class; random: from random ones; median: from those of median teacher probability; rded: from "
        "collages of the best-scored patches; noise: from Gaussian noise.",
    )
    iterations: PositiveInt = Field(default=4000, description="Iterations of the first round of IPC indices.")
    iterations_step: NonNegativeInt = Field(
        default=500,
        description="Early-late schedule. cross-class: iterations fewer in each further round; joint: "
        "iterations by which each further sub-batch of a class joins later.",
    )
    iterations_cycle: PositiveInt = Field(
        default=8,
        description="cross-class: after this many rounds the schedule starts again; joint: into how many "
        "sub-batches the images of a class are cut.",
    )
    learning_rate: PositiveFloat = Field(default=0.05, description="Adam's first learning rate; cosine to 0.")
    betas: tuple[Beta, Beta] = Field(default=(0.5, 0.9), description="Adam's betas.")
    bn_weight: NonNegativeFloat = Field(
        default=0.01, description="Weight r_bn of the statistics' alignment in the loss."
    )
    densification_weight: NonNegativeFloat = Field(
        default=0.0, description="Weight of data densification (G-VBSM)."
    )
    crop_scale: Annotated[CropScale, AfterValidator(check_crop_scale)] = Field(
        default=(0.08, 1.0), description="Range of the crop's share of the area."
    )
    crop_curriculum: Literal["none", "cosine"] = Field(
        default="none",
        description="cosine: the smallest crop falls from the largest one to crop_scale's over the "
        "iterations.",
    )
    flip: bool = Field(default=True, description="Mirror every second iteration on average.")
    jitter: NonNegativeInt = Field(
        default=32, description="The batch is rolled by 0..jitter pixels in both directions."
    )
    patch_shuffle: bool = Field(
        default=False, description="The four quarters of each initial image change places."
    )
    options: dict[str, Any] = Field(
        default={}, description="Settings of a method that is not built in, as that method names them."
    )

    @model_validator(mode="after")
    def _check_schedule(self) -> Self:
        method = find_method(self.method)
        if method is not None and not method.optimises:
            raise ValueError(f"method {self.method} selects real images and has no optimisation to set")
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
        if self.patch_shuffle and self.init == "noise":
            raise ValueError(
                "patch_shuffle = True moves the quarters of real images, and init = 'noise' has none; set "
                "patch_shuffle to false"
            )
        return self

    @model_validator(mode="after")
    def _check_options(self) -> Self:
        method = find_method(self.method)
        if method is not None:
            method.check_options(self.options)
        return self

    def num_iterations(self, ipc_index: int) -> int:
        """Iterations that the image of an IPC index gets."""
        if self.formation == "joint":
            return self.iterations - self.iterations_step * self._sub_batch(ipc_index)
        round_index = ipc_index // self.indices_per_round
        return self.iterations - self.iterations_step * (round_index % self.iterations_cycle)

    def _sub_batch(self, ipc_index: int) -> int:
        """Which of the `iterations_cycle` sub-batches of its class an image is in; the first are larger."""
        size, larger = divmod(self.ipc, min(self.ipc, self.iterations_cycle))
        if ipc_index < larger * (size + 1):
            return ipc_index // (size + 1)
        return (ipc_index - larger) // size


def _kind_of(values: Any) -> str:
    """Tell an optimised set from a selected one, in plain data and in models alike."""
    name = values.get("method") if isinstance(values, Mapping) else getattr(values, "method", None)
    method = find_method(name) if isinstance(name, str) else None
    return "select" if method is not None and not method.optimises else "recover"


AnyImageSet = Annotated[
    Annotated[RecoverConfig, Tag("recover")] | Annotated[SelectConfig, Tag("select")], Discriminator(_kind_of)
]
