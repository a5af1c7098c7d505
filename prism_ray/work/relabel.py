"""The unit of relabel: the soft labels of a group of images in a range of epochs."""

from functools import partial

from prism_ray.errors import StoreError
from prism_ray.parts.images import ImageForm, read_images
from prism_ray.parts.labels import encode_labels
from prism_ray.relabel.ensemble import label_group
from prism_ray.store import layout
from prism_ray.units import RelabelUnit
from prism_ray.work.context import Finish, Work, WorkContext


def relabel(context: WorkContext, unit: RelabelUnit) -> Finish:
    """Label the images of the unit's batches."""
    config = context.config
    batches = context.commits_of(unit.batch_ids)
    stored = read_images(context.files, batches, ImageForm.of(context.plan, unit.image_set))
    if sorted(stored.slots) != sorted(context.plan.group_slots(unit.image_set, unit.group)):
        raise StoreError(
            f"{context.files.location}: {unit.id} finds other images than those of its group; run `prism-ray "
            "verify --repair`"
        )
    teachers = [context.teacher(name) for name in config.label_teachers]
    epochs = list(label_group(unit, config.relabel, stored, teachers, context.device))
    stats = {
        "first_epoch": unit.first_epoch,
        "num_epochs": unit.num_epochs,
        "weights": context.weights_of(config.label_teachers, batches),
    }

    def finish() -> Work:
        num_rows = len(stored.slots) * unit.num_epochs
        name_of = partial(layout.label_part, unit)
        return Work((context.write(name_of, encode_labels(epochs), num_rows),), stats)

    return finish
