"""The image grids of the page: the thumbnails of each image set, and of the images that it started from."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from prism_ray.analyze.initial import initial_key, initial_maker, same_as
from prism_ray.config import RecoverConfig
from prism_ray.errors import PrismRayError, StoreError
from prism_ray.parts.images import ImageForm, read_batch
from prism_ray.report.opened import Opened
from prism_ray.report.thumbnails import Atlas, Form, Images, blocks, choose_form, make_atlas, shrink
from prism_ray.run.sets import batches_with
from prism_ray.stages import Within, recover
from prism_ray.stages.formation import Slot
from prism_ray.store import read_commit

_AT_ONCE = 256  # initial images that are read at a time

Thumbnails = dict[Slot, Images]


@dataclass(frozen=True)
class PictureRow:
    """A row of each class's grid: an image set, or the initial images of some."""

    store: str
    image_set: str  # "" for initial images that are no image set
    ipc: int
    starts: tuple[str, ...]  # image sets that started from these images
    atlases: tuple[Atlas, ...]


@dataclass(frozen=True)
class Pictures:
    """All grids. Every row has the same classes in the same order, and an atlas for each block of them."""

    form: Form | None  # None if no image is there yet
    rows: tuple[PictureRow, ...]
    num_classes: int


def read_pictures(stores: Sequence[Opened]) -> Pictures:
    """Read the images of all stores that have the classes of the first one."""
    first = stores[0]
    num_classes = first.run.facts.num_classes
    alike = []
    for opened in stores:
        if opened.run.facts.class_names == first.run.facts.class_names:
            alike.append(opened)
        else:
            opened.note(
                f"{opened.name}: its images are not shown, because it has other classes than {first.name}"
            )
    wanted = [row for opened in alike for row in _rows(opened)]
    sample = next(
        (s for opened, name, _ in wanted if name and (s := _sample(opened, name)) is not None), None
    )
    if sample is None:
        return Pictures(None, (), num_classes)
    ipcs = [_ipc(opened, name or starts[0]) for opened, name, starts in wanted]
    form = choose_form(sample, ipcs, num_classes)
    rows = []
    for (opened, name, starts), ipc in zip(wanted, ipcs, strict=True):
        images = _of_set(opened, name, form) if name else _initial(opened, starts[0], form)
        if images:
            columns = min(ipc, form.num_ipc)
            atlases = tuple(make_atlas(labels, columns, form, images.get) for labels in blocks(form))
            rows.append(PictureRow(opened.name, name, ipc, starts, atlases))
    return Pictures(form, tuple(rows), num_classes)


def _rows(opened: Opened) -> list[tuple[Opened, str, tuple[str, ...]]]:
    """Return the rows of a store: initial images and the sets that start from them, then the other sets."""
    starts: dict[object, list[str]] = {}
    for name, its_run in opened.run.image_sets.items():
        config = its_run.config.image_sets[name]
        if isinstance(config, RecoverConfig):
            starts.setdefault(same_as(opened.run, name) or initial_key(config), []).append(name)
    rows: list[tuple[Opened, str, tuple[str, ...]]] = []
    for key, names in starts.items():
        rows.append((opened, key if isinstance(key, str) else "", tuple(names)))
        rows += [(opened, name, ()) for name in names]
    shown = {name for _, name, _ in rows}
    return rows + [(opened, name, ()) for name in opened.run.image_sets if name not in shown]


def _ipc(opened: Opened, name: str) -> int:
    return opened.run.image_sets[name].config.image_sets[name].ipc


def _units(opened: Opened, name: str) -> Iterable[str]:
    ids = recover.STAGE.ids(opened.run.image_sets[name].plan, Within(name))
    return (unit_id for unit_id in ids if unit_id in opened.progress.done)


def _read(opened: Opened, name: str, unit_id: str) -> tuple[tuple[Slot, ...], Images] | None:
    form = ImageForm.of(opened.run.image_sets[name].plan, name)
    try:
        stored = read_batch(opened.files, read_commit(opened.files, unit_id), form)[1]
    except StoreError as error:
        opened.note(error.problem)
        return None
    return stored.slots, stored.images


def _sample(opened: Opened, name: str) -> Images | None:
    for unit_id in _units(opened, name):
        found = _read(opened, name, unit_id)
        if found is not None and len(found[1]):
            return found[1]
    return None


def _of_set(opened: Opened, name: str, form: Form) -> Thumbnails:
    """Return the thumbnails of an image set that are wanted and there; other batches are not read."""
    plan, wanted = opened.run.image_sets[name].plan, set(form.slots(_ipc(opened, name)))
    thumbnails: Thumbnails = {}
    for unit_id in batches_with(plan, opened.progress.done, name, wanted):
        found = _read(opened, name, unit_id)
        if found is not None:
            kept = [row for row, slot in enumerate(found[0]) if slot in wanted]
            small = shrink(found[1][kept], form.side)
            thumbnails |= {found[0][row]: image for row, image in zip(kept, small, strict=True)}
    return thumbnails


def _initial(opened: Opened, name: str, form: Form) -> Thumbnails:
    """Return the thumbnails of the initial images of a set; why there are none is noted."""
    config = opened.run.image_sets[name].config.image_sets[name]
    assert isinstance(config, RecoverConfig)
    if config.init == "noise":
        opened.note(f"{opened.name}: {name} started from noise, so no initial images are shown beside it")
        return {}
    slots, thumbnails = form.slots(config.ipc), Thumbnails()
    try:
        make = initial_maker(opened.files, opened.run, name)
        for start in range(0, len(slots), _AT_ONCE):
            some = slots[start : start + _AT_ONCE]
            thumbnails |= dict(zip(some, shrink(make(some), form.side), strict=True))
    except (PrismRayError, OSError) as error:
        opened.note(f"{opened.name}: the initial images of {name} are not shown: {error}")
    return thumbnails
