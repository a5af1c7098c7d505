"""One set of labels, whatever makes and uses it: any number of actors, any batch size of a student."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.stores import committed, copy_store, parts

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

Run = Callable[..., "subprocess.CompletedProcess[str]"]

# Every way to mix views at once; tests/work/test_evaluate.py has each of them, and every batch size.
MIX = ("relabel.mixup_alpha=0.8", "relabel.rand_augment=true", "relabel.patch_shuffle=true")
# Groups of a batch, and a unit for every epoch: there is enough for three actors to do in any order.
FINE = ("relabel.epochs=3", "relabel.epochs_per_unit=1", "relabel.images_per_group=20")
STUDENTS = "evaluations={student: {}, seven: {batch_size: 7}}"


def test_labels_and_students_are_the_same_from_any_number_of_actors(
    calm: Path, cli: Run, digits_config: Path, small_options: list[str], tmp_path: Path
) -> None:
    """Catches labels that depend on who made them, in which order, or for which batch size."""
    found = []
    for num_actors in (1, 2, 3):
        store = tmp_path / f"actors-{num_actors}"
        copy_store(calm, store, lambda unit: unit.startswith(("squeeze/", "recover/")))
        settings = (*FINE, *MIX, STUDENTS, f"orchestrate.actors={num_actors}")
        options = [*small_options, *(word for setting in settings for word in ("--set", setting))]
        done = cli("distill", digits_config, *options, "--store", store)
        assert done.returncode == 0, done.stderr
        found.append((committed(store), parts(store)))
    (units, files), *others = found
    assert sum(unit.startswith("relabel/") for unit in units) == 2 * 2 * 3
    assert sum(unit.startswith("evaluate/") for unit in units) == 2 * 2
    assert all(other == (units, files) for other in others)
