"""The interface of an encoding of soft labels. Plan, relabel, `compact`, `verify` and readers use only this.

pyarrow is imported late, so that a config can be checked without it.
"""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pyarrow as pa

Logits = npt.NDArray[np.float16]  # B, C


class LabelEncoding(ABC):
    """The columns of a table that contain the logits of B views over C classes.

    >>> encoding = ENCODINGS["fp16"]
    >>> columns = encoding.encode(logits)  # logits: float16, (B, C)
    >>> table = pa.table(columns, schema=pa.schema(encoding.fields(num_classes)))
    >>> encoding.decode(table, num_classes)  # float16, (B, C)
    """

    @abstractmethod
    def fields(self, num_classes: int) -> "list[pa.Field]":
        """Return the columns' names and types."""

    @abstractmethod
    def encode(self, logits: Logits) -> "list[pa.Array]":
        """Return the columns of some views, in the order of `fields`."""

    @abstractmethod
    def decode(self, table: "pa.Table", num_classes: int) -> Logits:
        """Return the logits of a table with the columns; raises ValueError if they are not valid."""

    @abstractmethod
    def bytes_per_view(self, num_classes: int) -> float:
        """Return about how many bytes a view's logits take in a file, for the forecast of `plan`."""

    @abstractmethod
    def max_bytes_per_view(self, num_classes: int) -> int:
        """Return the most bytes that a view's logits take in an unpacked file, with its pages."""
