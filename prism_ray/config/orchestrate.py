"""`orchestrate`: actors, threads and retries. Only threads_per_actor can change a pixel."""

from typing import Literal, Self

from pydantic import Field, model_validator

from prism_ray.config.base import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Section

# A driver that wants the store waits for the other driver's heartbeat as long as the lease's record says.
MAX_LEASE_TTL_S = 600.0


class ElasticActors(Section):
    """A number of actors that follows the amount of work."""

    min: PositiveInt = 1
    """Minimum number of actors, which stay when there is little work."""
    max: PositiveInt
    """Maximum number of actors."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min = {self.min} is larger than max = {self.max}; exchange them")
        return self


class OrchestrateConfig(Section):
    """The distribution of the work over the cluster."""

    actors: PositiveInt | ElasticActors | Literal["auto"] = "auto"
    """Number of actors, or a range, for example {min: 1, max: 8}. auto: one per GPU of the cluster, or 1
    without GPUs. In a range, the number follows the amount of work, and an autoscaling cluster grows with
    it."""
    gpus_per_actor: NonNegativeFloat | Literal["auto"] = "auto"
    """GPUs per actor, for example 0.5. auto: 1 if the cluster has GPUs, otherwise 0."""
    students_per_actor: PositiveInt = 1
    """Number of students that are trained side by side in the place of an actor, for example 4. Each is an
    actor of its own with that share of the actor's GPUs. It changes no student. They begin when no other work
    waits for the place. It needs actors with GPUs, because students share a CPU without a gain."""
    accelerator_type: str | None = None
    """Type of accelerator that an actor needs, by Ray's name, for example H100."""
    label_selector: dict[str, str] = Field(default={})
    """Ray's label selector for the nodes of the actors, for example {zone: a}."""
    threads_per_actor: PositiveInt | Literal["auto"] = "auto"
    """CPU threads per actor. auto: cores / actors. A run keeps its value, because the last bits of sums on
    the CPU depend on it."""
    max_attempts: PositiveInt = 3
    """Number of attempts at a unit before it is set aside."""
    error_budget: NonNegativeInt = 20
    """Maximum number of units set aside in one stage. With one more the run ends."""
    preemption_budget: NonNegativeInt | None = None
    """Maximum number of actors lost to preemption (the machine was taken away). null: no limit."""
    straggler_factor: NonNegativeFloat = 4.0
    """An idle actor runs a unit a second time if it takes longer than this many times the median of its kind,
    for example 4. The first commit counts. 0: never."""
    stall_timeout_s: PositiveFloat = 3600.0
    """The run ends after this many seconds in which no unit was done and no batch made a step."""
    label_actors: NonNegativeInt = 0
    """Number of actors that prefer relabel and evaluate units; the others prefer recover units. 0: no actor
    has a preference."""
    lease_ttl_s: PositiveFloat = Field(default=30.0, le=MAX_LEASE_TTL_S)
    """Another driver may take over the store after this many seconds without a heartbeat."""
    idle_actor_s: PositiveFloat = 20.0
    """An actor above actors.min is ended after this many seconds without work."""
    ray_start_timeout_s: PositiveFloat = 120.0
    """The run ends if Ray has not started, or the cluster has not been joined, after this many seconds."""
    actor_start_timeout_s: PositiveFloat = 600.0
    """The run ends if no actor has started after this many seconds."""
    teacher_cache_gib: PositiveFloat = 8.0
    """Memory for the teachers that an actor keeps loaded, in GiB. The least recently used ones are removed
    first. A unit that needs more at once still gets all of its teachers."""
    checkpoint_interval_s: NonNegativeFloat = 60.0
    """Seconds between two checkpoints of a batch, or of a teacher or student in training, kept in wip/. If it
    is interrupted, it resumes from its last one. 0: one after every iteration of a batch and every epoch."""
    metrics_port: int | None = Field(default=None, ge=1, le=65535)
    """Port on which a local Ray serves the metrics for Prometheus, for example 8080. null: a free one. A
    cluster has the port that it was started with."""
    log_interval_s: PositiveFloat = 30.0
    """Seconds between two progress lines if there is no terminal."""

    @model_validator(mode="after")
    def _check_students(self) -> Self:
        number, num_gpus = self.students_per_actor, self.gpus_per_actor
        if number == 1 or num_gpus == "auto":
            return self
        if num_gpus == 0.0:
            raise ValueError(
                f"students_per_actor = {number} lets students share a GPU, and gpus_per_actor = 0 gives "
                "actors none; set it to 1, or gpus_per_actor to auto or above 0"
            )
        share = num_gpus / number
        if share > 1.0 and share != int(share):
            raise ValueError(
                f"students_per_actor = {number} gives each student {share:g} of the {num_gpus:g} GPUs of an "
                "actor, and above 1 Ray gives whole GPUs only; a student uses one GPU, so set "
                f"students_per_actor to {int(num_gpus)} or a multiple of it"
            )
        return self
