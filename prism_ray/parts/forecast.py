"""How many bytes the soft labels of a run will take, before there are any.

Logits are stored unpacked, so their size depends on their number alone. Views are packed, so some are drawn
and written to see how far; so are the headers, which count in small files.
"""

from collections.abc import Sequence

import numpy as np

from prism_ray.encodings import LabelEncoding, find_encoding
from prism_ray.parts.labels import EpochLabels, encode_labels, epochs_per_row_group
from prism_ray.parts.views import Views, draw_views
from prism_ray.plan import Plan
from prism_ray.stages.formation import Slot
from prism_ray.stages.relabel import group_seed

_MAX_GROUPS = 100  # that are looked at
_MAX_LOGITS = 2**21  # of a sample; half a second for ten thousand classes


def forecast_label_bytes(plan: Plan, image_set: str | None = None) -> int:
    """Return how many bytes the soft labels of an image set take, by default of all, within 2 %."""
    names = plan.image_sets if image_set is None else (image_set,)
    is_stored = plan.config.relabel.mode == "stored"
    return sum(_bytes_of_set(plan, name) for name in names) if is_stored else 0


def _bytes_of_set(plan: Plan, image_set: str) -> int:
    """Return the bytes of a set: those of its smallest and largest groups, and a line between them."""
    formation = plan.formation(image_set)
    step = max(1, formation.num_groups // _MAX_GROUPS)
    sizes = {group: len(_slots(plan, image_set, group)) for group in range(0, formation.num_groups, step)}
    smallest, largest = min(sizes, key=sizes.__getitem__), max(sizes, key=sizes.__getitem__)
    low = high = _bytes_of_group(plan, image_set, largest)
    if sizes[smallest] < sizes[largest]:
        low = _bytes_of_group(plan, image_set, smallest)
    slope = (high - low) / max(1, sizes[largest] - sizes[smallest])
    mean_size = plan.num_images(image_set) / formation.num_groups
    return round(formation.num_groups * (low + slope * (mean_size - sizes[smallest])))


def _slots(plan: Plan, image_set: str, group: int) -> Sequence[Slot]:
    return list(plan.formation(image_set).group_slots(group))


def _bytes_of_group(plan: Plan, image_set: str, group: int) -> float:
    """Return the bytes of a group's units: full ones, and a last one of fewer epochs."""
    relabel = plan.config.relabel
    seed = group_seed(plan, group)
    slots, size = _slots(plan, image_set, group), plan.config.data.image_size
    encoding, num_classes = find_encoding(relabel.encoding), plan.facts.num_classes
    step = epochs_per_row_group(len(slots))

    def sample(num_epochs: int) -> list[Views]:
        return [draw_views(slots, epoch, seed, relabel, size) for epoch in range(num_epochs)]

    def measure(views: Sequence[Views]) -> int:
        return _encoded_bytes(views, encoding, num_classes, has_views=relabel.stores_views)

    def bytes_of_unit(num_epochs: int) -> float:
        if len(slots) * min(step, num_epochs) * num_classes <= _MAX_LOGITS:
            # The file as it will be: whole row groups, then one of fewer epochs.
            whole, rest = divmod(num_epochs, step)
            if whole == 0:
                return measure(sample(rest))
            one = measure(sample(step))
            if (whole, rest) == (1, 0):
                return one
            per_row_group = measure(sample(2 * step)) - one
            last = measure(sample(step + rest)) - one if rest else 0
            return one + (whole - 1) * per_row_group + last
        # Of many logits, headers are a small part: what a row more takes, times the rows.
        views = sample(2)
        few = max(1, min(len(slots), _MAX_LOGITS // (2 * num_classes)))
        first = slice(few)
        one, two = measure([views[0].pick(first)]), measure([each.pick(first) for each in views])
        return one + (two - one) * (num_epochs * len(slots) / few - 1)

    full, rest = divmod(relabel.num_label_epochs, relabel.epochs_per_unit)
    total = full * bytes_of_unit(relabel.epochs_per_unit) if full else 0.0
    return total + (bytes_of_unit(rest) if rest else 0.0)


def _encoded_bytes(
    views: Sequence[Views], encoding: LabelEncoding, num_classes: int, *, has_views: bool
) -> int:
    """Return the bytes of a file of these views with random logits: their classes fill a dictionary."""
    rng = np.random.default_rng(0)
    epochs = [
        EpochLabels(epoch, each, rng.normal(size=(len(each), num_classes)).astype(np.float16))
        for epoch, each in enumerate(views)
    ]
    return len(encode_labels(epochs, encoding, has_views=has_views))
