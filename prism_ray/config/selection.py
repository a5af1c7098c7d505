"""`recover.selection`: the teachers that supervise the images, and when they are drawn."""

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

    A draw takes the primary if include_primary is true. Then each slot is filled, with the inclusion
    probability, by one of the remaining teachers. For a fixed set, use inclusion_probability 1 and one slot
    per teacher.
    """

    bn_teachers: tuple[str, ...] | None = None
    """Names of the teachers that can be drawn. Default: the pool without the verifiers."""
    include_primary: bool = True
    """true: the primary is in every draw. false: it is drawn like the others."""
    slots: NonNegativeInt = 3
    """Maximum number of teachers in a draw, without a primary that is in every draw."""
    inclusion_probability: Fraction = 0.5
    """Probability that a slot is filled. No teacher is drawn twice."""
    weights: dict[str, PositiveFloat] = Field(default={})
    """Relative chance of a teacher to fill a slot, by name, for example {resnet: 2.0}. Default: 1 for each
    teacher."""
    redraw: Literal["round", "batch"] | PositiveInt = "round"
    """Time of the draws. round: once per round of IPC indices, before recover. batch: once per batch, before
    recover. A number n: again every n iterations, for example 100."""
    order: Literal["random", "round-robin"] = "random"
    """random: slots are filled at random. round-robin: in turn, in the order of the pool."""
    logits: Literal["primary", "drawn"] = "primary"
    """Teachers that give the logits. primary: the primary only. drawn: all drawn teachers."""
    votes: Literal["equal", "prior"] = "equal"
    """Weight of each drawn teacher's terms. equal: the same for all. prior: the softmax of prior /
    prior_temperature over the drawn teachers."""
    priors: dict[str, NonNegativeFloat] = Field(default={})
    """For votes prior: prior accuracy of a teacher in percent, by name, for example {resnet: 69.8}. Default:
    its accuracy on the real validation images."""
    prior_temperature: PositiveFloat = 5.0
    """For votes prior: softmax temperature, in accuracy points. With 5, a teacher that is 5 points more
    accurate than another has e = 2.7 times its weight."""

    @model_validator(mode="after")
    def _check_draw(self) -> Self:
        if not self.include_primary and self.slots == 0:
            raise ValueError(
                "slots = 0 and include_primary = false leave no teacher to draw; set slots to 1 or more"
            )
        if self.order == "round-robin" and self.weights:
            raise ValueError(
                "weights has no effect with order = 'round-robin', which takes every teacher in turn; leave "
                "it out"
            )
        return self
