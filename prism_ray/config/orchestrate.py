"""`orchestrate`: actors, threads and retries. Apart from the threads nothing here can change a pixel."""

from typing import Literal

from pydantic import Field

from prism_ray.config.base import NonNegativeFloat, PositiveFloat, PositiveInt, Section


class OrchestrateConfig(Section):
    """How the work is spread over the cluster."""

    actors: PositiveInt | Literal["auto"] = Field(
        default="auto", description="Number of actors; auto: one per GPU of the cluster, else 1."
    )
    gpus_per_actor: NonNegativeFloat | Literal["auto"] = Field(
        default="auto", description="GPUs per actor; auto: 1 if the cluster has any, else 0."
    )
    threads_per_actor: PositiveInt | Literal["auto"] = Field(
        default="auto",
        description="CPU threads per actor; auto: cores / actors. The value is kept for the life "
        "of the run, because sums on the CPU depend on it in their last bits.",
    )
    max_attempts: PositiveInt = Field(
        default=3, description="How often a failing unit is tried before it is set aside."
    )
    actor_start_timeout_s: PositiveFloat = Field(
        default=600.0, description="Seconds to wait for the first actor before giving up."
    )
    checkpoint_interval_s: NonNegativeFloat = Field(
        default=60.0,
        description="Seconds between two states of a batch in the making that are kept in wip/; a batch "
        "that is cut off goes on from the last one. 0: after every iteration.",
    )
    log_interval_s: PositiveFloat = Field(
        default=30.0, description="Seconds between progress lines when there is no terminal."
    )
