"""The record of a calibration, and which settings its figures depend on."""

from pathlib import Path
from typing import Any

import pytest

from prism_ray.calibrate.figures import Calibration, Group, settings_of_groups
from prism_ray.machine import Machine
from prism_ray.store import StoreFiles
from prism_ray.store.records import read_record
from tests.plans import config_of, facts_of

FIGURES = Calibration(
    Machine("a CPU", 2, "cpu"), {}, 1, 2, "then", 60.0, 3.0, {"data": Group("x", {"a": 1.0})}
)


def groups(**changes: Any) -> dict[str, str]:
    return settings_of_groups(config_of(**changes), facts_of())


@pytest.mark.parametrize(
    ("changes", "changed"),
    [
        ({"recover__iterations": 500}, set()),
        ({"recover__learning_rate": 0.5}, set()),
        ({"seed": 7}, set()),
        ({"relabel__epochs": 9}, set()),
        ({"evaluate__num_students": 1}, set()),
        ({"recover__statistics": {"layers": "bn+conv"}}, {"recover/distilled"}),
        ({"recover__images_per_batch": 5}, {"recover/distilled"}),
        ({"evaluate__batch_size": 7}, {"evaluate/student", "evaluate/student-hard-labels"}),
        ({"relabel__teacher_batch_size": 7}, {"relabel", "evaluate/student", "evaluate/student-hard-labels"}),
        ({"teachers__squeeze": {"batch_size": 7}}, {f"squeeze/t{k}" for k in range(4)}),
    ],
)
def test_a_figure_belongs_to_the_settings_that_cost_time(changes: dict[str, Any], changed: set[str]) -> None:
    """Catches seconds of other batches that are used silently, and figures that are dropped for nothing."""
    before, after = groups(), groups(**changes)
    different = {name for name in before if name in after and before[name] != after[name]}
    assert different == {name for name in changed if name in before}


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Catches a calibration that is lost with its process."""
    files = StoreFiles(str(tmp_path))
    files.replace("calibration.json", FIGURES.to_json())
    assert read_record(files, "calibration.json", Calibration) == FIGURES
