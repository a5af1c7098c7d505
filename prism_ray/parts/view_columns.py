"""The columns of views in label files: all parameters, or a bit of them (relabel.view_parameters: drawn)."""

from collections.abc import Mapping, Sequence
from dataclasses import fields

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from prism_ray.parts.redraw import DrawnViews
from prism_ray.parts.views import Views

_TYPES: dict[str, pa.DataType] = {  # of all columns, in order
    **{field.name: pa.int16() for field in fields(Views)},  # pixels
    **dict.fromkeys(("label", "ipc_index", "partner_label", "partner_ipc_index"), pa.int32()),
    **dict.fromkeys(("flip", "swap_columns", "swap_rows"), pa.bool_()),
    "augment_seed": pa.int64(),
    "own_share": pa.float16(),
}
_PARITY = "view_parity"
_TYPES_IF_DRAWN = {"label": pa.int32(), "ipc_index": pa.int32(), _PARITY: pa.bool_()}
_NUMPY_TYPES = {pa.bool_(): np.bool_, pa.float16(): np.float16}  # of the columns; else int64
NAMES = frozenset({*_TYPES, *_TYPES_IF_DRAWN})


def view_types(views: type[Views], *, all_parameters: bool = True) -> dict[str, pa.DataType]:
    """Return the columns of a kind of views: those of all parameters, or the image and a bit."""
    return {field.name: _TYPES[field.name] for field in fields(views)} if all_parameters else _TYPES_IF_DRAWN


def view_arrays(views: Views, types: Mapping[str, pa.DataType]) -> list[pa.Array]:
    """Return the columns `types` of views."""
    values = vars(views) | ({_PARITY: _parity(views)} if _PARITY in types else {})
    return [pa.array(values[name]).cast(kind) for name, kind in types.items()]


def _parity(views: Views) -> npt.NDArray[np.bool_]:
    """Return for each view whether the bits of its parameters have an odd sum.

    Of a hundred views that are drawn otherwise, about fifty differ in it.
    """
    total = np.zeros(len(views), dtype=np.uint64)
    for values in vars(views).values():
        bits = values.view(np.uint16) if values.dtype == np.float16 else values
        total ^= bits.astype(np.uint64)
    for shift in (32, 16, 8, 4, 2, 1):
        total ^= total >> np.uint64(shift)
    return (total & np.uint64(1)).astype(np.bool_)


def read_views(
    table: pa.Table, kind: type[Views], drawn: DrawnViews | None, unit_id: str, epoch: int
) -> Views:
    """Return the views of a unit's rows of one epoch; with `drawn` they are drawn again.

    Raises ValueError if those are not of the images in the rows, or not the views that were labelled.
    """
    if drawn is None:
        types = view_types(kind)
        columns = {name: table[name].to_numpy() for name in types}
        return kind(**{n: columns[n].astype(_NUMPY_TYPES.get(types[n], np.int64)) for n in types})
    views = drawn.of(unit_id, epoch)
    for name in ("label", "ipc_index"):
        if not np.array_equal(table[name].to_numpy(), vars(views)[name]):
            raise ValueError(f"the rows of epoch {epoch} are not the images of the group in order")
    if not np.array_equal(table[_PARITY].to_numpy(), _parity(views)):
        raise ValueError(
            f"the views of epoch {epoch} cannot be drawn again: numpy {np.__version__} draws others than the "
            "numpy that the labels were made with"
        )
    return views


def concatenate(parts: Sequence[Views]) -> Views:
    """Return the views of several groups or epochs as one."""
    kind = type(parts[0])
    return kind(
        **{each.name: np.concatenate([vars(views)[each.name] for views in parts]) for each in fields(kind)}
    )
