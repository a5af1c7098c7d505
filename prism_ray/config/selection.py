"""`recover.selection`: which teachers supervise the images, and when they are drawn."""

from typing import Literal, Self

from pydantic import Field, model_validator

from prism_ray.config.base import (
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Section,
)


class SelectionConfig(Section):
    """The draw of S, the teachers whose statistics are matched.

    A draw takes the primary (if it is always in), and fills each slot with the inclusion probability by
    one of the other teachers that are left. A fixed set is a draw in which every slot is sure to be filled
    and there is one for each teacher.
    """

    bn_teachers: tuple[str, ...] | None = Field(
        default=None,
        description="Names of the teachers that may be drawn; default: the pool without the verifiers.",
    )
    include_primary: bool = Field(
        default=True, description="The primary is in every draw; false: it is drawn like the others."
    )
    slots: NonNegativeInt = Field(
        default=3, description="How many teachers may be drawn, not counting a primary that is always in."
    )
    inclusion_probability: Fraction = Field(
        default=0.5, description="Each slot is filled with this probability, without replacement."
    )
    weights: dict[str, PositiveFloat] = Field(
        default={},
        description="Chance of a teacher, by name, relative to the others' when a slot is filled; 1 where "
        "none is given.",
    )
    redraw: Literal["round", "batch"] | PositiveInt = Field(
        default="round",
        description="When S is drawn. round: before the distillation, once per round of IPC indices; batch: "
        "once per batch; a number n: anew every n iterations of the distillation.",
    )
    order: Literal["random", "round-robin"] = Field(
        default="random", description="round-robin: slots are filled in the order of the pool, in turn."
    )
    logits: Literal["primary", "drawn"] = Field(
        default="primary", description="Who classifies: the primary alone, or the teachers drawn."
    )
    votes: Literal["equal", "prior"] = Field(
        default="equal",
        description="How much each drawn teacher's terms weigh: alike, or by the softmax over the drawn of "
        "prior / prior_temperature.",
    )
    priors: dict[str, NonNegativeFloat] = Field(
        default={},
        description="votes prior: prior accuracy of each teacher in percent, by name; where none is given, "
        "its accuracy on the real validation images.",
    )
    prior_temperature: PositiveFloat = Field(
        default=5.0, description="votes prior: percent of prior accuracy by which a vote grows e times."
    )

    @model_validator(mode="after")
    def _check_draw(self) -> Self:
        if not self.include_primary and self.slots == 0:
            raise ValueError("slots = 0 without the primary leaves nobody to draw; set slots to 1 or more")
        if self.order == "round-robin" and self.weights:
            raise ValueError("weights are for order random; round-robin takes every teacher in turn")
        return self
