"""Top-k labels: the k largest pre-softmax logits of a view, their classes, and the mean of all others.

Source: LPQLD, arXiv 2604.18135, which stores logits and their classes, so that students can choose the
temperature. The mean of the others is an addition: it is what spreads the remaining mass evenly at any
temperature (`evaluate.marginal`), where the public code stores the probabilities of one temperature.
"""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from prism_ray.encodings.base import Decoded, LabelEncoding, Logits
from prism_ray.encodings.values import UNPACKED_BYTES, Values, from_lists, to_lists

if TYPE_CHECKING:
    import pyarrow as pa

_NAME = "top_logits"
_CLASSES = "top_classes"
_OTHERS = "mean_of_other_logits"


class TopK(LabelEncoding):
    """Columns `top_classes` and `top_logits`, the largest first, and `mean_of_other_logits`."""

    def __init__(self, k: int, values: Values) -> None:
        self._k = k
        self._values = values
        self.least_classes = k

    def fields(self, num_classes: int) -> "list[pa.Field]":
        import pyarrow as pa

        index = pa.from_numpy_dtype(_index_type(num_classes))
        return [
            pa.field(_CLASSES, pa.list_(index, self._k)),
            *self._values.fields(_NAME, self._k),
            pa.field(_OTHERS, pa.float16()),
        ]

    def encode(self, logits: Logits) -> "list[pa.Array]":
        import pyarrow as pa

        num_classes = logits.shape[1]
        wide = logits.astype(np.float64)
        # Stable, so of equal logits that of the first class is kept, on every machine.
        order = np.argsort(-wide, axis=1, kind="stable")
        top, others = order[:, : self._k], order[:, self._k :]
        mean = np.take_along_axis(wide, others, 1).sum(axis=1) / max(1, num_classes - self._k)
        return [
            to_lists(top.astype(_index_type(num_classes))),
            *self._values.encode(np.take_along_axis(logits, top, 1)),
            pa.array(mean.astype(np.float16)),
        ]

    def decode(self, table: "pa.Table", num_classes: int) -> Decoded:
        top = from_lists(table, _CLASSES, self._k).astype(np.int64)
        if (top >= num_classes).any():
            raise ValueError(f"{_CLASSES} has a class beyond the {num_classes} of the data")
        kept = np.zeros((len(table), num_classes), np.bool_)
        np.put_along_axis(kept, top, values=True, axis=1)
        if (kept.sum(axis=1) != self._k).any():
            raise ValueError(f"{_CLASSES} has a class twice")
        others: npt.NDArray[np.float16] = table[_OTHERS].to_numpy()
        logits = np.repeat(others[:, None], num_classes, axis=1)
        np.put_along_axis(logits, top, self._values.decode(table, _NAME, self._k), axis=1)
        return Decoded(logits, kept)

    def recipe(self, num_classes: int) -> str:
        lines = (
            "def logits_of(row):",
            f'    logits = np.full({num_classes}, row["{_OTHERS}"], np.float32)  # renormalise: -np.inf',
            f'    logits[np.array(row["{_CLASSES}"])] = {self._values.recipe(_NAME, self._k)}',
            "    return logits",
        )
        return "\n".join(lines)

    def bytes_per_view(self, num_classes: int) -> float:
        bits = max(1, (num_classes - 1).bit_length())  # of a class, in a dictionary
        return self._k * bits / 8 + self._values.num_bytes(self._k) + 2

    def max_bytes_per_view(self, num_classes: int) -> int:
        return UNPACKED_BYTES * (2 * self._k + 4)

    def max_error(self, lowest: float, highest: float) -> float:
        return self._values.max_error(lowest, highest)


def _index_type(num_classes: int) -> "np.dtype[np.unsignedinteger]":
    """Return the smallest type that holds the number of a class."""
    return np.min_scalar_type(num_classes - 1)
