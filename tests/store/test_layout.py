"""The names in a store: apart for different units, and inside the store."""

import re
from collections.abc import Callable

from prism_ray.config import DISTILLED
from prism_ray.config.resolve import CONTROL
from prism_ray.run import Run
from prism_ray.stages import Unit, stage_names
from prism_ray.stages.collect import CollectUnit, collected_part
from prism_ray.stages.evaluate import EvaluateUnit, student_card
from prism_ray.stages.measure import MeasureUnit, measure_card
from prism_ray.stages.recover import RecoverUnit, image_part
from prism_ray.stages.relabel import RelabelUnit, label_part
from prism_ray.stages.squeeze import SqueezeUnit, card_part, weights_part
from prism_ray.store import StoreFiles, layout


def file_of(unit: Unit, attempt: int) -> str:
    """Return the name of the file that a unit's attempt writes first."""
    if isinstance(unit, RecoverUnit):
        return image_part(unit, attempt)
    if isinstance(unit, RelabelUnit):
        return label_part(unit, attempt)
    if isinstance(unit, EvaluateUnit):
        return student_card(unit, attempt)
    if isinstance(unit, MeasureUnit):
        return measure_card(unit, attempt)
    if isinstance(unit, CollectUnit):
        return collected_part(unit, "totals", attempt)
    assert isinstance(unit, SqueezeUnit)
    return weights_part(unit.teacher, attempt)


def test_no_two_units_or_attempts_share_a_file(make_run: Callable[..., Run], local: StoreFiles) -> None:
    """A batch written over another's part, or over that of the control set."""
    plan = make_run(
        recover__ipc=5,
        recover__images_per_batch=2,
        image_sets={"distilled": {}, "other": {"method": "edc"}, "rded": {"method": "rded"}},
        collect__classes_per_unit=2,
        evaluations={"student": {}, "hard": {"labels": "hard"}},
        evaluate__num_students=3,
    ).plan
    names: list[str] = []
    for stage in stage_names():
        for unit in plan.units(stage):
            names += [file_of(unit, attempt) for attempt in range(3)]
            names += [layout.commit(unit.id)]
            names += [layout.failure(unit.id, number) for number in range(3)]
    names += [card_part(teacher.name, k) for teacher in plan.config.teachers.pool for k in range(3)]
    names += [layout.PLAN, layout.CONFIG, layout.DATA_INDEX]
    assert len(set(names)) == len(names)
    for name in names:
        assert local.path(name).startswith(local.location)
        assert re.fullmatch(r"[A-Za-z0-9_./-]+", name)


def test_commits_and_failures_are_apart(make_run: Callable[..., Run]) -> None:
    """A failure record counted as a commit: a failed unit is done."""
    unit = next(make_run().plan.units("recover"))
    assert layout.commit(unit.id) == f"{layout.COMMITS}/{unit.id}.json"
    assert layout.failure(unit.id, 0).startswith(f"{layout.FAILURES}/{unit.id}")


def test_the_distilled_images_stand_where_users_are_told(make_run: Callable[..., Run]) -> None:
    """`load_dataset("parquet", data_files="RUN/images/*")` that finds the controls too, or nothing."""
    plan = make_run().plan
    for unit in plan.units("recover", DISTILLED):
        assert image_part(unit, 0).startswith("images/part-")
    for unit in plan.units("recover", CONTROL):
        assert image_part(unit, 0).startswith("sets/random-real/images/part-")
    for label_unit in plan.units("relabel", DISTILLED):
        assert label_part(label_unit, 0).startswith("labels/part-")
