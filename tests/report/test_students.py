"""The students on the page."""

from pathlib import Path

from prism_ray.report.opened import Opened
from prism_ray.report.students import read_students
from tests.report.conftest import open_store


def test_every_student_with_its_curve(opened: Opened) -> None:
    """Catches students of another set, and a curve that does not end at the student's accuracy."""
    students = read_students(opened)
    keys = {(row.image_set, row.evaluation, row.student) for row in students.rows}
    assert keys == {(name, "student", number) for name in ("prism", "random-real") for number in (0, 1)}
    for row in students.rows:
        line = [p for p in students.curves if (p.image_set, p.evaluation, p.student) == key_of(row)]
        assert line[-1].accuracy == row.accuracy
        assert line[-1].num_epochs == 6
    assert students.by_class.keys() == {"prism", "random-real"}
    assert len(students.by_class["prism"]) == 10


def key_of(row: object) -> tuple[str, str, int]:
    return row.image_set, row.evaluation, row.student  # type: ignore[attr-defined]


def test_a_damaged_card_is_noted(copied: Path) -> None:
    """Catches a report that fails because one small file is damaged."""
    (card,) = copied.glob("students/prism/student/s000-0.json")
    card.write_bytes(card.read_bytes().replace(b"0", b"1"))
    opened = open_store(copied)
    students = read_students(opened)
    assert len(students.rows) == 3
    assert "s000-0.json" in opened.notes[0]
