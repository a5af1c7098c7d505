"""prism-ray: dataset distillation by PRISM, on Ray.

The package is used through its command line (`prism-ray --help`), and `load` reads the images of a run;
docs/architecture.md draws the rooms. Importing it loads nothing heavy: `prism_ray.plan`, `prism_ray.store`
and `prism_ray.cli` need neither torch nor Ray.
"""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow

__version__ = "0.1.0"
__all__ = ["load"]


def load(store: str | os.PathLike[str], image_set: str | None = None) -> "pyarrow.Table":
    """Return the images of a finished image set as a table, by default those of the config's first set.

    `store` is the folder or URL of a run. The columns are `image` (PNG, in the layout of Hugging Face),
    `label`, `ipc_index`, and how the image was made; `datasets.Dataset(table)` takes the table as it is. It
    does not matter in which files the images are: before or after `compact` and `gc`, in Parquet or PNG.

    Raises UsageError if there is no such store or image set, or if the set is not finished, and StoreError if
    a file is damaged.

    >>> prism_ray.load("runs/digits").num_rows
    10
    """
    from prism_ray.run.load import load_images  # late: `import prism_ray` alone takes no time

    return load_images(store, image_set)
