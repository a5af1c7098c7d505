"""`recover`: the schedule never reaches zero, and bounds."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from prism_ray.config import RecoverConfig, load_config
from prism_ray.errors import ConfigError


@settings(deadline=None, max_examples=200)
@given(
    ipc=st.integers(1, 60),
    indices=st.integers(1, 12),
    iterations=st.integers(1, 60),
    step=st.integers(0, 15),
    cycle=st.integers(1, 12),
)
def test_a_schedule_is_accepted_if_and_only_if_every_round_iterates(
    ipc: int, indices: int, iterations: int, step: int, cycle: int
) -> None:
    """A round of zero iterations stores the real images unchanged; a check too strict refuses good ones."""
    indices = min(indices, ipc)
    num_rounds = -(-ipc // indices)
    rounds = [iterations - step * (index % cycle) for index in range(num_rounds)]

    def build() -> RecoverConfig:
        return RecoverConfig(
            ipc=ipc,
            primary="a",
            ipc_indices_per_batch=indices,
            iterations=iterations,
            iterations_step=step,
            iterations_cycle=cycle,
        )

    if min(rounds) >= 1:
        config = build()
        assert [config.num_iterations(index * indices) for index in range(num_rounds)] == rounds
    else:
        with pytest.raises(ValidationError, match="raise iterations"):
            build()


def test_the_published_schedule_repeats_after_its_cycle() -> None:
    """An off-by-one in the cycle: 4000, 3500, ..., 500 and then 4000 again."""
    config = RecoverConfig(ipc=50, primary="a")
    assert [config.num_iterations(k) for k in range(10)] == [
        *(4000, 3500, 3000, 2500, 2000, 1500, 1000, 500),
        *(4000, 3500),
    ]


def test_a_schedule_that_reaches_zero_is_explained(config_path: Path) -> None:
    """A refusal that does not say which round, what came out and what to change."""
    with pytest.raises(ConfigError) as caught:
        load_config(config_path, ["recover.iterations=70"])
    message = str(caught.value)
    assert "iterations - iterations_step * 7 is 0: round 7" in message
    assert "raise iterations, or lower iterations_step or iterations_cycle" in message
    assert "--set recover.iterations=70" in message


@pytest.mark.parametrize(
    "override",
    [
        "ipc=0",
        "selection.slots=-1",
        "selection.inclusion_probability=1.1",
        "selection.inclusion_probability=.nan",
        "iterations=0",
        "iterations=1e3",
        "images_per_batch=0",
        "ipc_indices_per_batch=0",
        "learning_rate=0",
        "learning_rate=.inf",
        "betas=[0.5]",
        "betas=[0.5, 1.1]",
        "bn_weight=-1",
        "crop_scale=[1.0, 0.5]",
        "jitter=-1",
        "init=gauss",
        "method=srel2l",
    ],
)
def test_values_out_of_bounds_are_refused_by_name(config_path: Path, override: str) -> None:
    """A value that only fails, or silently does something else, on an actor."""
    with pytest.raises(ConfigError) as caught:
        load_config(config_path, [f"recover.{override}"])
    assert f"--set recover.{override}: recover.{override.partition('=')[0]}" in str(caught.value)


@pytest.mark.parametrize("formation", ["joint", "class-wise"])
def test_rounds_of_ipc_indices_are_of_cross_class_batches_alone(config_path: Path, formation: str) -> None:
    """A number of IPC indices per batch that is taken and then does nothing, or cuts a class in pieces."""
    own = f"image_sets={{a: {{formation: {formation}, iterations_step: 0, ipc_indices_per_batch: 2}}}}"
    with pytest.raises(
        ConfigError, match=f"leave it out, because a {formation} batch holds as many IPC indices"
    ):
        load_config(config_path, [own])
    with pytest.raises(ConfigError, match=r"recover\.ipc_indices_per_batch = 2 has no effect"):
        load_config(
            config_path, [own.replace(", ipc_indices_per_batch: 2", ""), "recover.ipc_indices_per_batch=2"]
        )


@pytest.mark.parametrize("betas", ["[1.0, 0.9]", "[0.5, 1.0]"])
def test_betas_of_one_are_refused(config_path: Path, betas: str) -> None:
    """Adam takes betas below 1 only: its bias correction would divide by zero on every actor."""
    with pytest.raises(ConfigError, match=r"recover\.betas"):
        load_config(config_path, [f"recover.betas={betas}"])
