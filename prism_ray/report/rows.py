"""The rows of the tables behind the page, as `--data` writes them. A column's type is that of its field."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_type_hints

import pyarrow as pa

_TYPES: dict[Any, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
}


@dataclass(frozen=True)
class StudentRow:
    """A student after its last epoch; accuracies are shares in [0, 1]."""

    store: str
    image_set: str
    evaluation: str
    student: int
    labels: str  # soft, hard
    split: str  # test, validation
    accuracy: float
    top5_accuracy: float | None
    seconds: float


@dataclass(frozen=True)
class StudentPoint:
    """A student after some epochs."""

    store: str
    image_set: str
    evaluation: str
    student: int
    num_epochs: int
    train_loss: float
    accuracy: float


@dataclass(frozen=True)
class ClassRow:
    """A class of an image set. Similarities are those of the features of all pairs of its images."""

    store: str
    image_set: str
    label: int
    class_name: str
    cosine_mean: float | None  # None: fewer than two images, or not measured
    cosine_variance: float | None  # None in stores of earlier versions too
    verified: float | None  # share of its images that the verifiers classify correctly, mean over these
    student_accuracy: float | None  # share of its real images, mean over the students of the first evaluation


@dataclass(frozen=True)
class LossPoint:
    """A loss of a batch at an iteration, or of a teacher after an epoch of squeeze."""

    store: str
    image_set: str  # "" for a teacher in squeeze
    batch: str  # key of the batch, or the name of the teacher
    step: int  # iteration, or epoch
    kind: str  # cross-entropy, alignment (R_m), term, squeeze
    name: str  # of the teacher of an alignment, or of the term
    value: float


@dataclass(frozen=True)
class DrawRow:
    """The share of a batch's draws in which a teacher is."""

    store: str
    image_set: str
    batch: str
    teacher: str
    share: float


@dataclass(frozen=True)
class UnitRow:
    """A unit that is done. Its actor was busy with it for `seconds`, up to `finished_at`."""

    store: str
    unit: str
    stage: str
    host: str
    lane: int  # units of one host that overlap have different lanes
    started_at: float  # seconds since 1970
    finished_at: float
    seconds: float
    num_images: int | None  # rows of its Parquet file
    num_bytes: int


@dataclass(frozen=True)
class ProjectedImage:
    """An image in the projection of the features."""

    store: str
    image_set: str
    label: int
    ipc_index: int
    x: float
    y: float


def schema_of(kind: type) -> pa.Schema:
    """Return the schema of a kind of rows."""
    columns = []
    for name, hint in get_type_hints(kind).items():
        inner = [each for each in getattr(hint, "__args__", (hint,)) if each is not type(None)]
        columns.append(
            pa.field(name, _TYPES[inner[0]], nullable=len(inner) != len((hint,)) or hint != inner[0])
        )
    return pa.schema(columns)


def table_of(kind: type, rows: Sequence[Any]) -> pa.Table:
    """Return rows of one kind as a table."""
    return pa.Table.from_pylist([asdict(row) for row in rows], schema_of(kind))
