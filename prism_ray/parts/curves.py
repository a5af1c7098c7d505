"""The loss curves of batches, read from the footers of their files; no image is read."""

import json
from typing import Annotated

import pyarrow.parquet as pq
from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from prism_ray.parquet.pages import PageHeaders
from prism_ray.parts.images import CURVE
from prism_ray.store.commits import Commit
from prism_ray.store.files import StoreFiles
from prism_ray.store.remedy import damaged

Number = Annotated[float, Field(allow_inf_nan=False)]


@dataclass(frozen=True)
class StoredCurve:
    """The losses of a batch at some of its iterations; all lists are as long as `iterations`.

    A teacher's R_m is None at iterations in which it was not drawn.
    """

    iterations: tuple[int, ...]
    ce: tuple[Number, ...]
    bn: tuple[Number, ...]  # mean of R_m, weighted by the votes
    alignments: dict[str, tuple[Number | None, ...]]  # teacher -> R_m
    terms: dict[str, tuple[Number, ...]]

    def __post_init__(self) -> None:
        columns = (self.ce, self.bn, *self.alignments.values(), *self.terms.values())
        if any(len(column) != len(self.iterations) for column in columns):
            raise ValueError("a curve has columns of different lengths")


_CURVE = TypeAdapter(StoredCurve)


def read_curve(files: StoreFiles, commit: Commit) -> StoredCurve | None:
    """Return the loss curve of a committed batch; None for a selection, and in stores of earlier versions.

    Raises StoreError if the file cannot be read or its curve is not one.
    """
    if not commit.files:
        raise damaged(files, commit.unit, "it names no file")
    part = commit.files[0]
    try:
        with files.open(part.name) as source:
            PageHeaders(source)  # refuses a footer that is too large
            metadata = pq.read_metadata(source).metadata or {}
        packed = json.loads(metadata.get(CURVE.encode(), "null"))
        if packed is not None and part.piece is not None:  # a merged file has the curves of many batches
            packed = packed.get(commit.unit.rpartition("/")[2])
        return None if packed is None else _CURVE.validate_python(packed)
    except (ValidationError, ValueError, AttributeError, RecursionError) as error:
        raise damaged(files, part.name, f"its loss curve: {error}") from None
