"""The images of a store as one table, for use in Python. It follows the commits, so it is always whole."""

import os

import pyarrow as pa

from prism_ray.parts.images import IMAGE_SCHEMA, ImageForm, describe_columns, read_batch
from prism_ray.run.export import commits_of_set
from prism_ray.run.plan_file import load_run
from prism_ray.store.files import StoreFiles


def load_images(store: str | os.PathLike[str], image_set: str | None = None) -> pa.Table:
    """Return the rows of an image set; see `prism_ray.load`."""
    files = StoreFiles(os.fspath(store))
    run = load_run(files)
    name = image_set or run.plan.image_sets[0]
    form = ImageForm.of(run.of_image_set(name, files.location).plan, name)
    batches = (read_batch(files, c, form, with_history=True)[0] for c in commits_of_set(files, run, name))
    schema = IMAGE_SCHEMA.with_metadata(describe_columns(run.facts.class_names))
    tables = [batch.replace_schema_metadata(schema.metadata) for batch in batches]
    return pa.concat_tables(tables).cast(schema)
