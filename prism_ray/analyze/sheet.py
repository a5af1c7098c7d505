"""Contact sheets for people: a row per class, a column per IPC index."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from prism_ray.analyze.initial import Images, initial_beside, read_slots
from prism_ray.errors import UsageError
from prism_ray.run import NOT_IN_CONFIG, Run, RunProgress
from prism_ray.stages.formation import Slot
from prism_ray.store import StoreFiles
from prism_ray.store.remedy import resume_command
from prism_ray.suggest import did_you_mean
from prism_ray.wording import first_of

_MIN_CELL = 48  # pixels: smaller images are enlarged by whole factors
_GAP = 4
_BLOCKS_PER_ROW = 3
_MARGIN = 100  # for the class names
_TITLE = 22
_MAX_NAME = 40  # characters of a class in an error


def chosen_labels(run: Run, words: Sequence[str]) -> tuple[int, ...]:
    """Return the labels of classes given by name or number; a name comes before a number.

    Raises UsageError for a word that is neither.
    """
    names = run.facts.class_names
    labels = []
    for word in words:
        if word in names:
            labels.append(names.index(word))
        elif word.isdecimal() and int(word) < len(names):
            labels.append(int(word))
        else:
            raise UsageError(
                f"--class {word!r}: the run has no such class; give a number from 0 to {len(names) - 1} or a "
                f"name ({first_of([_short(name) for name in names[:11]], 10)}){did_you_mean(word, names)}"
            )
    return tuple(dict.fromkeys(labels))


def _short(name: str) -> str:
    return name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 1]}…"


def contact_sheet(
    files: StoreFiles,
    run: Run,
    progress: RunProgress,
    labels: Sequence[int],
    ipc_indices: Sequence[int],
    sets: Sequence[str] = (),
    with_initial: bool = False,
) -> tuple[bytes, list[str]]:
    """Return a PNG of images of the classes `labels`, one block per image set that has any, and notes.

    `sets` chooses image sets; empty: all. Sets that the present config does not name come last. With
    `with_initial` an image stands to the right of the one that it started from; where that cannot be had, a
    note and the block's title say so. Raises UsageError if a set or an IPC index does not exist, or if no
    images are committed yet.
    """
    for name in sets:
        if name not in run.image_sets:
            raise UsageError(
                f"--image-set {name!r} is no image set of the run; it has {', '.join(run.image_sets)}"
                f"{did_you_mean(name, list(run.image_sets))}"
            )
    chosen = [name for name in run.image_sets if not sets or name in sets]
    num_ipc = max(run.image_sets[name].config.image_sets[name].ipc for name in chosen)
    for ipc_index in ipc_indices:
        if ipc_index >= num_ipc:
            raise UsageError(
                f"--ipc-index {ipc_index} is too large: {', '.join(chosen)} has {num_ipc} images per class, "
                f"so give a number from 0 to {num_ipc - 1}"
            )
    blocks, notes = [], []
    classes = [(label, run.facts.class_names[label]) for label in labels]
    for name in chosen:
        ipc = run.image_sets[name].config.image_sets[name].ipc
        slots = [Slot(label, k) for label in labels for k in ipc_indices if k < ipc]
        found = read_slots(files, run, progress, name, slots)
        if found:
            initial, why = (
                initial_beside(files, run, progress, name, list(found)) if with_initial else ({}, "")
            )
            title = name if name in run.config.image_sets else f"{name} ({NOT_IN_CONFIG})"
            if initial:
                title += ": initial, made"
            if why:
                title += " (no initial images)" if not initial else " (some initial images missing)"
                notes.append(f"{name}: initial images are not shown: {why}")
            columns = [k for k in ipc_indices if k < ipc]
            blocks.append(_block(title, found, initial, classes, columns))
    if not blocks:
        raise UsageError(
            f"{files.location} has no finished batch of images yet; make them with `{resume_command(files)}`"
        )
    width, height = max(block.width for block in blocks), max(block.height for block in blocks)
    num_rows = -(-len(blocks) // _BLOCKS_PER_ROW)
    sheet = Image.new("RGB", (width * min(len(blocks), _BLOCKS_PER_ROW), height * num_rows), "white")
    for index, block in enumerate(blocks):
        row, column = divmod(index, _BLOCKS_PER_ROW)
        sheet.paste(block, (column * width, row * height))
    sink = io.BytesIO()
    sheet.save(sink, format="PNG")
    return sink.getvalue(), notes


def _block(
    title: str,
    found: dict[Slot, Images],
    initial: dict[Slot, Images],
    classes: Sequence[tuple[int, str]],
    ipc_indices: Sequence[int],
) -> Image.Image:
    """Return the block of one image set; what is missing is grey."""
    size = next(iter(found.values())).shape[-1]
    cell = size * max(1, -(-_MIN_CELL // size))
    pictures = [initial, found] if initial else [found]
    step = (cell + 1) * len(pictures) - 1 + _GAP  # an initial image touches its own, but for a line
    font = ImageFont.load_default(size=13)
    width = max(_MARGIN + len(ipc_indices) * step + _GAP, _MARGIN + int(font.getlength(title)) + _GAP)
    height = _TITLE + len(classes) * (cell + _GAP) + _GAP
    block = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(block)
    draw.text((_MARGIN, 3), title, fill="black", font=font)
    for row, (label, name) in enumerate(classes):
        top = _TITLE + row * (cell + _GAP)
        draw.text((6, top + cell // 2 - 8), name[:14], fill="black", font=font)
        for column, ipc_index in enumerate(ipc_indices):
            for number, images in enumerate(pictures):
                left = _MARGIN + column * step + number * (cell + 1)
                image = images.get(Slot(label, ipc_index))
                if image is None:
                    draw.rectangle((left, top, left + cell, top + cell), fill="lightgrey")
                    continue
                pixels = np.ascontiguousarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))
                picture = Image.fromarray(pixels).convert("RGB")
                block.paste(picture.resize((cell, cell), Image.Resampling.NEAREST), (left, top))
    return block
