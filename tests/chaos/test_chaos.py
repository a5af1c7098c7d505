"""Nothing is lost and nothing comes out differently, whatever happens to actors, nodes, driver and store."""

import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.command import COMPLETE, Command
from tests.chaos.held import Held, check_same, read_held
from tests.chaos.injector import Injector
from tests.chaos.nodes import NUM_NODES, Nodes

pytestmark = pytest.mark.ray

SEED = (
    "PRISM_RAY_CHAOS_SEED"  # the environment's choice of faults and moments; without it the slow test rolls
)

# Batches of a second or two, labels in between, students: some 50 units.
MANY = (
    "teachers.squeeze.epochs=2",
    "recover.ipc=8",
    "recover.ipc_indices_per_batch=1",
    "recover.iterations=80",
    "recover.iterations_step=4",
    "evaluate.num_students=2",
    f"orchestrate.actors={NUM_NODES}",
    "orchestrate.checkpoint_interval_s=0.5",
    "orchestrate.lease_ttl_s=10",
    "orchestrate.log_interval_s=5",
)


@pytest.fixture
def nodes(environment: dict[str, str]) -> Iterator[Nodes]:
    with Nodes(environment) as cluster:
        yield cluster


@pytest.fixture
def arguments(digits_config: Path, small_options: list[str]) -> list[str]:
    """The command, without its store."""
    options = [*small_options, *(word for override in MANY for word in ("--set", override))]
    return ["distill", str(digits_config), *options]


@pytest.fixture
def undisturbed(nodes: Nodes, arguments: list[str], tmp_path: Path) -> Held:
    """What a run makes that nothing happens to, on the same cluster."""
    store = tmp_path / "undisturbed"
    started = time.monotonic()
    command = Command([*arguments, "--store", str(store)], nodes.environment, tmp_path / "undisturbed.log")
    assert command.end(240.0) == COMPLETE, command.output
    print(f"undisturbed: {time.monotonic() - started:.1f} s")
    return read_held(store)


def chosen_seed(default: int) -> int:
    seed = int(os.environ.get(SEED, default))
    print(f"{SEED}={seed} chooses these faults again")
    return seed


@pytest.mark.timeout(600)
def test_a_run_under_fire_ends_with_the_bytes_of_an_undisturbed_one(
    nodes: Nodes, arguments: list[str], undisturbed: Held, tmp_path: Path
) -> None:
    """Catches whatever is lost, doubled or different after any one of the faults, in any order."""
    with Injector(nodes, arguments, tmp_path / "rough", tmp_path, chosen_seed(4)) as injector:
        injector.disturb(injector.kinds)
        injector.finish()
        assert set(injector.counts) == set(injector.kinds)
    check_same(read_held(tmp_path / "rough"), undisturbed)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_fifty_kills(nodes: Nodes, arguments: list[str], undisturbed: Held, tmp_path: Path) -> None:
    """Catches the same where it is rare: faults that meet each other, in several runs."""
    seed = chosen_seed(random.SystemRandom().randrange(10**6))
    counts: Counter[str] = Counter()
    num_kills = number = 0
    while num_kills < 50:
        number += 1
        folder = tmp_path / f"round-{number}"
        folder.mkdir()
        with Injector(nodes, arguments, folder / "rough", folder, seed + number) as injector:
            injector.disturb(
                injector.kinds + 3 * ["actor killed", "driver killed"] + ["node killed", "driver stopped"]
            )
            injector.finish()
        check_same(read_held(folder / "rough"), undisturbed)
        counts += injector.counts
        num_kills += injector.num_kills
    print(f"{number} runs, {num_kills} kills: {dict(counts)}")
