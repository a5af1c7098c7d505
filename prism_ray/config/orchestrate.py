"""`orchestrate`: actors, threads and retries. Apart from the threads nothing here can change a pixel."""

from typing import Literal, Self

from pydantic import Field, model_validator

from prism_ray.config.base import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Section

# Whoever wants a store waits for the other driver's sign of life as long as that one's record says.
MAX_LEASE_TTL_S = 600.0


class ElasticActors(Section):
    """As many actors as there is work for."""

    min: PositiveInt = Field(default=1, description="Actors that stay when there is little to do.")
    max: PositiveInt = Field(description="Actors that are asked for at most.")

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min = {self.min} is more than max = {self.max}; exchange them")
        return self


class OrchestrateConfig(Section):
    """How the work is spread over the cluster."""

    actors: PositiveInt | ElasticActors | Literal["auto"] = Field(
        default="auto",
        description="Number of actors, or {min, max}; auto: one per GPU of the cluster, else 1. Between min "
        "and max there are as many as there is work for; an autoscaling cluster grows for the others.",
    )
    gpus_per_actor: NonNegativeFloat | Literal["auto"] = Field(
        default="auto", description="GPUs per actor; auto: 1 if the cluster has any, else 0."
    )
    accelerator_type: str | None = Field(
        default=None,
        description="Kind of accelerator that an actor needs, as Ray names it (H100, A100, ...).",
    )
    label_selector: dict[str, str] = Field(
        default={}, description="Labels that an actor's node must have, as Ray's label selectors."
    )
    threads_per_actor: PositiveInt | Literal["auto"] = Field(
        default="auto",
        description="CPU threads per actor; auto: cores / actors. The value is kept for the life "
        "of the run, because sums on the CPU depend on it in their last bits.",
    )
    max_attempts: PositiveInt = Field(
        default=3, description="How often a failing unit is tried before it is set aside."
    )
    error_budget: NonNegativeInt = Field(
        default=20, description="Units that may be set aside in one stage before the run ends."
    )
    preemption_budget: NonNegativeInt | None = Field(
        default=None,
        description="Actors that may be lost because their machine was taken away; null: any number.",
    )
    straggler_factor: NonNegativeFloat = Field(
        default=4.0,
        description="A unit that runs for so many times the median of its kind is run a second time by an "
        "idle actor; the first to commit wins. 0: never.",
    )
    stall_timeout_s: PositiveFloat = Field(
        default=3600.0,
        description="Seconds without a unit done and without a step in any batch after which the run ends.",
    )
    label_actors: NonNegativeInt = Field(
        default=0,
        description="Actors that relabel and evaluate before they recover, while others recover first; 0: "
        "all take whatever is ready.",
    )
    lease_ttl_s: PositiveFloat = Field(
        default=30.0,
        le=MAX_LEASE_TTL_S,
        description="Seconds without a sign of life after which another driver may take the store over.",
    )
    idle_actor_s: PositiveFloat = Field(
        default=20.0, description="Seconds without work after which an actor above actors.min is ended."
    )
    actor_start_timeout_s: PositiveFloat = Field(
        default=600.0, description="Seconds to wait for the first actor before giving up."
    )
    teacher_cache_gib: PositiveFloat = Field(
        default=8.0,
        description="GiB of teachers that an actor keeps loaded; those used last stay. A unit that needs "
        "more at once has them all the same.",
    )
    checkpoint_interval_s: NonNegativeFloat = Field(
        default=60.0,
        description="Seconds between two states of a batch in the making that are kept in wip/; a batch "
        "that is cut off goes on from the last one. 0: after every iteration.",
    )
    log_interval_s: PositiveFloat = Field(
        default=30.0, description="Seconds between progress lines when there is no terminal."
    )
