"""The plot of a sweep: a PNG for numbers, for words and for labels of several sizes."""

import io

import pytest
from PIL import Image

from prism_ray.sweep.plot import plot
from prism_ray.sweep.table import Row, SweepTable

pytest.importorskip("matplotlib")


def row(
    label_bytes: float, image_set: str = "a", accuracies: tuple[float, ...] = (0.5, 0.6), **changes: object
) -> Row:
    return Row(dict(changes), 1, "complete", image_set, "student", accuracies, 1.0, 1.0, label_bytes)


@pytest.mark.parametrize(
    ("rows", "width"),
    [
        ([row(5, ipc=1), row(5, ipc=10, accuracies=(0.5,)), row(5, "b", ipc=1)], 900),
        ([row(5, init="real"), row(5, init=None), row(5)], 900),
        ([row(5, encoding="fp16"), row(50, encoding="int4"), row(0, encoding="none")], 1800),
    ],
)
def test_a_picture_is_made_of_every_kind_of_key(rows: list[Row], width: int) -> None:
    """Catches a plot that fails for words or missing values, and sizes without their panel."""
    data = plot(SweepTable("s", (), tuple(rows)))
    assert data is not None
    assert Image.open(io.BytesIO(data)).size[0] == width


def test_nothing_is_plotted_before_there_is_a_student() -> None:
    """Catches an empty picture."""
    assert plot(SweepTable("s", (), (row(5, accuracies=()),))) is None
