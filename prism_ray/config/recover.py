"""`recover`: how the pixels are optimised. The defaults are PRISM's published ImageNet-1K settings."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

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

Beta = Annotated[float, Field(ge=0.0, lt=1.0)]


class RecoverConfig(Section):
    """PRISM: a primary teacher gives the logits, a random subset of the pool the BN alignment."""

    method: Literal["prism"] = Field(default="prism", description="The method.")
    ipc: PositiveInt = Field(description="Images per class.")
    primary: str = Field(description="Name of the logit teacher; it is always a BN teacher too.")
    bn_teachers: tuple[str, ...] | None = Field(
        default=None,
        description="Names of the teachers that may be drawn beside the primary for the BN "
        "alignment; default: the rest of the pool.",
    )
    extra_slots: NonNegativeInt = Field(
        default=3, description="How many BN teachers may be drawn beside the primary."
    )
    inclusion_probability: Fraction = Field(
        default=0.5,
        description="Each extra slot is filled with this probability, without replacement.",
    )
    iterations: PositiveInt = Field(default=4000, description="Iterations of the first round of IPC indices.")
    iterations_step: NonNegativeInt = Field(
        default=500, description="Iterations fewer in each further round (early-late schedule)."
    )
    iterations_cycle: PositiveInt = Field(
        default=8, description="After this many rounds the schedule starts again."
    )
    classes_per_batch: PositiveInt = Field(
        default=100, description="Classes in a cross-class batch (all, if there are fewer)."
    )
    ipc_indices_per_batch: PositiveInt = Field(
        default=1,
        description="IPC indices in one batch, that is, in one round. More than 1 steadies the "
        "batch statistics when there are few classes, and leaves fewer teacher draws.",
    )
    init: Literal["real", "noise"] = Field(
        default="real",
        description="real: IPC index k starts from the k-th training image of its class; "
        "noise: from Gaussian noise.",
    )
    learning_rate: PositiveFloat = Field(default=0.05, description="Adam's first learning rate; cosine to 0.")
    betas: tuple[Beta, Beta] = Field(default=(0.5, 0.9), description="Adam's betas.")
    bn_weight: NonNegativeFloat = Field(
        default=0.01, description="Weight r_bn of the BN alignment in the loss."
    )
    first_bn_weight: NonNegativeFloat = Field(
        default=10.0, description="Weight of the first BN layer of each teacher; the others: 1."
    )
    crop_scale: Annotated[CropScale, AfterValidator(check_crop_scale)] = Field(
        default=(0.08, 1.0), description="Range of the crop's share of the area."
    )
    flip: bool = Field(default=True, description="Mirror every second iteration on average.")
    jitter: NonNegativeInt = Field(
        default=32, description="The batch is rolled by 0..jitter pixels in both directions."
    )

    @model_validator(mode="after")
    def _check_schedule(self) -> Self:
        num_rounds = -(-self.ipc // self.ipc_indices_per_batch)
        last_round = min(num_rounds, self.iterations_cycle) - 1
        fewest = self.iterations - self.iterations_step * last_round
        if fewest < 1:
            raise ValueError(
                f"iterations - iterations_step * {last_round} is {fewest}: round {last_round} "
                "would store the real images unchanged; raise iterations, or lower "
                "iterations_step or iterations_cycle"
            )
        return self

    def num_iterations(self, round_index: int) -> int:
        """Iterations of the batches of a round: iterations - step * (round mod cycle)."""
        return self.iterations - self.iterations_step * (round_index % self.iterations_cycle)
