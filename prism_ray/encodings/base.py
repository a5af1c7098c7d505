"""The interface of an encoding of soft labels. Plan, relabel, `compact`, `verify` and readers use only this.

pyarrow is imported late, so that a config can be checked without it.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pyarrow as pa

Logits = npt.NDArray[np.float16]  # B, C
Kept = npt.NDArray[np.bool_]  # B, C


@dataclass(frozen=True)
class Decoded:
    """The logits of B views over C classes, as they come out of a file."""

    logits: Logits  # B, C
    kept: Kept | None = None
    """Which logits the file has; the others are filled up with one value per view. None: it has all."""


class LabelEncoding(ABC):
    """The columns of a table that contain the logits of B views over C classes.

    >>> encoding = find_encoding("top-100-int8")
    >>> columns = encoding.encode(logits)  # logits: float16, (B, C)
    >>> table = pa.table(columns, schema=pa.schema(encoding.fields(num_classes)))
    >>> encoding.decode(table, num_classes).logits  # float16, (B, C)
    """

    least_classes: int = 1  # that the data must have

    @abstractmethod
    def fields(self, num_classes: int) -> "list[pa.Field]":
        """Return the columns' names and types."""

    @abstractmethod
    def encode(self, logits: Logits) -> "list[pa.Array]":
        """Return the columns of some views, in the order of `fields`."""

    @abstractmethod
    def decode(self, table: "pa.Table", num_classes: int) -> Decoded:
        """Return the logits of a table with the columns; raises ValueError if they are not valid."""

    def recipe(self, num_classes: int) -> str | None:
        """Return Python code of a function `logits_of(row)`, for readers without this package.

        `row` is a dict of the columns of one view, and the code may use numpy as np. None: there is none.
        """
        return None

    @abstractmethod
    def bytes_per_view(self, num_classes: int) -> float:
        """Return how many bytes a view's logits take, without the headers of the file."""

    @abstractmethod
    def max_bytes_per_view(self, num_classes: int) -> int:
        """Return the most bytes that a view's logits take in an unpacked file, with its pages."""

    @abstractmethod
    def max_error(self, lowest: float, highest: float) -> float:
        """Return the largest error of a stored logit, if those of its view are between two values."""
