"""`store`: where the run's store is, and how images are kept there. Nothing here can change a pixel."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from prism_ray.config.base import Section

ImageFiles = Literal["parquet", "png"]
MAX_PNG_FILES = 10_000  # of a batch; a commit that names so many has 2 MB


class StoreConfig(Section):
    """The store, where more is to be said of it than its place."""

    url: str = Field(description="Folder or URL of the run's store.")
    image_format: ImageFiles = Field(
        default="parquet",
        description="How batches that are made from now on keep their images. parquet: inside one file per "
        "batch; png: as PNG files in class folders, beside a Parquet file per batch that names them. The "
        "pixels are the same, and a run may have both.",
    )


def _kind_of(value: Any) -> str:
    return "section" if isinstance(value, dict | StoreConfig) else "url"


AnyStore = Annotated[
    Annotated[str, Tag("url")] | Annotated[StoreConfig, Tag("section")], Discriminator(_kind_of)
]
