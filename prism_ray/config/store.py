"""`store`: the location of the run's store and the format of its images. Nothing here changes a pixel."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Tag

from prism_ray.config.base import Section

ImageFiles = Literal["parquet", "png"]
MAX_PNG_FILES = 10_000  # per batch; a commit with so many names has 2 MB


class StoreConfig(Section):
    """The store with more settings than its location."""

    url: str
    """Folder or URL of the run's store, for example s3://bucket/run."""
    image_format: ImageFiles = "parquet"
    """Format of the images of new batches. parquet: inside one Parquet file per batch. png: PNG files in
    class folders, and one Parquet file per batch that names them. The pixels are the same, and a run may have
    both formats."""


def _kind_of(value: Any) -> str:
    return "section" if isinstance(value, dict | StoreConfig) else "url"


AnyStore = Annotated[
    Annotated[str, Tag("url")] | Annotated[StoreConfig, Tag("section")], Discriminator(_kind_of)
]
