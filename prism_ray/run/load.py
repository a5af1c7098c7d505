"""The images of a store as one table, for use in Python. It follows the commits, so it is always whole."""

import pyarrow as pa

from prism_ray.parts.images import IMAGE_SCHEMA, ImageForm, describe_columns, read_batch
from prism_ray.run.plan_file import Run
from prism_ray.run.sets import commits_of_set
from prism_ray.store.files import StoreFiles


def load_images(files: StoreFiles, run: Run, image_set: str) -> pa.Table:
    """Return the rows of an image set; see `prism_ray.library.runs.OpenRun.images`."""
    form = ImageForm.of(run.of_image_set(image_set, files.location).plan, image_set)
    batches = (
        read_batch(files, c, form, with_history=True)[0] for c in commits_of_set(files, run, image_set)
    )
    schema = IMAGE_SCHEMA.with_metadata(describe_columns(run.facts.class_names))
    tables = [batch.replace_schema_metadata(schema.metadata) for batch in batches]
    return pa.concat_tables(tables).cast(schema)
