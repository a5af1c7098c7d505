"""The real images: digits, idx files, image folders. Listed once, read on demand. No torch."""

from prism_ray.config import DataConfig
from prism_ray.data.base import DataFacts, RealImages, Split, check_config
from prism_ray.data.changes import Changes, find_changes
from prism_ray.data.folder import FolderImages
from prism_ray.data.idx import open_fashion_mnist, open_idx
from prism_ray.data.index import FolderIndex
from prism_ray.data.indexing import index_folder
from prism_ray.data.validation import KeptBack

__all__ = [
    "Changes",
    "DataFacts",
    "FolderIndex",
    "RealImages",
    "Split",
    "check_config",
    "find_changes",
    "index_folder",
    "open_data",
]


def open_data(config: DataConfig, index: FolderIndex | None = None, num_threads: int = 1) -> RealImages:
    """Open the real images; for an image folder, `index` is the result of `index_folder`.

    `num_threads` files of a folder are decoded at a time. It changes no pixel.
    Raises DataError if files are missing or damaged.
    """
    source: RealImages
    if config.source == "digits":
        from prism_ray.data.digits import open_digits  # late: scikit-learn takes a second to load

        source = open_digits(config)
    elif config.source == "fashion-mnist":
        source = open_fashion_mnist(config)
    elif config.source == "idx":
        source = open_idx(config)
    else:
        source = FolderImages(config, index if index is not None else index_folder(config), num_threads)
    return KeptBack(source, config.validation_fraction) if config.validation_fraction > 0.0 else source
