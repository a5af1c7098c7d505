"""The unit of relabel: the soft labels of a group of images in a range of epochs."""

from collections.abc import Sequence
from functools import partial

from prism_ray.encodings import find_encoding
from prism_ray.parts.images import ImageForm, StoredImages, read_images
from prism_ray.parts.labels import encode_labels
from prism_ray.relabel.ensemble import GroupLabeller
from prism_ray.stages.relabel import RelabelUnit, label_part
from prism_ray.store import layout, write_part
from prism_ray.store.remedy import damaged
from prism_ray.work.context import Finish, Work, WorkContext


def relabel(context: WorkContext, unit: RelabelUnit) -> Finish:
    """Label the images of the unit's batches."""
    config = context.config
    batches = context.commits_of(unit.batch_ids)
    stored = read_images(context.files, batches, ImageForm.of(context.plan, unit.image_set))
    if sorted(stored.slots) != sorted(context.plan.formation(unit.image_set).group_slots(unit.group)):
        problem = f"its batches do not contain the images of group {unit.group}"
        raise damaged(context.files, f"{layout.COMMITS}/recover/{unit.image_set}", problem)
    labeller = labeller_of(context, unit.id, unit.seed, stored)
    epochs = []
    for number in range(unit.num_epochs):
        epochs.append(labeller.epoch(unit.first_epoch + number))
        context.control.report(number + 1, unit.num_epochs)
    stats = {
        "first_epoch": unit.first_epoch,
        "num_epochs": unit.num_epochs,
        "weights": context.weights_of(config.label_teachers, batches),
    }

    def finish() -> Work:
        encoding = find_encoding(config.relabel.encoding)
        data = encode_labels(epochs, encoding, has_views=config.relabel.stores_views)
        num_rows = len(stored.slots) * unit.num_epochs
        return Work((write_part(context.files, partial(label_part, unit), data, num_rows),), stats)

    return finish


def labeller_of(context: WorkContext, name: str, seed: int, stored: StoredImages) -> GroupLabeller:
    """Return the run's ensemble for the images of a label group; `name` is for messages."""
    config = context.config
    teachers = [context.teacher(teacher) for teacher in config.label_teachers]
    priors: Sequence[float] = ()
    if config.relabel.ensemble == "prior":
        found = context.priors_of(config.label_teachers, config.relabel.priors, "relabel.priors")
        priors = tuple(found.values())
    return GroupLabeller(name, seed, config.relabel, stored, teachers, context.device, priors)
