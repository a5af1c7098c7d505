"""Contact sheets for people: a row per class, a column per IPC index. Needs no torch."""

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from prism_ray.errors import UsageError
from prism_ray.parts.images import ImageForm, read_images
from prism_ray.run import NOT_IN_CONFIG, Run, RunProgress
from prism_ray.stages import Within, recover
from prism_ray.stages.formation import Slot
from prism_ray.store import StoreFiles, read_commit
from prism_ray.store.remedy import resume_command

_MIN_CELL = 48  # pixels: smaller images are enlarged by whole factors
_GAP = 4
_BLOCKS_PER_ROW = 3
_MARGIN = 100  # for the class names
_TITLE = 22


def contact_sheet(
    files: StoreFiles, run: Run, progress: RunProgress, max_classes: int, max_ipc: int
) -> bytes:
    """Return a PNG of the first images of the first classes, one block per image set that has any.

    Sets that the present config does not name come last. Raises UsageError if no images are committed yet.
    """
    num_classes = min(max_classes, run.facts.num_classes)
    blocks = []
    for image_set, plan in ((name, its_run.plan) for name, its_run in run.image_sets.items()):
        num_ipc = min(max_ipc, plan.config.image_sets[image_set].ipc)
        commits = [
            read_commit(files, unit.id)
            for unit in recover.STAGE.units(plan, Within(image_set))
            if unit.id in progress.done
            and any(slot.label < num_classes and slot.ipc_index < num_ipc for slot in unit.slots)
        ]
        if commits:
            stored = read_images(files, commits, ImageForm.of(plan, image_set))
            found = dict(zip(stored.slots, stored.images, strict=True))
            title = image_set if image_set in run.config.image_sets else f"{image_set} ({NOT_IN_CONFIG})"
            blocks.append(_block(title, found, plan.facts.class_names[:num_classes], num_ipc))
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
    return sink.getvalue()


def _block(
    title: str, found: dict[Slot, np.ndarray], class_names: tuple[str, ...], num_ipc: int
) -> Image.Image:
    """Return the block of one image set; a slot without an image is grey."""
    size = next(iter(found.values())).shape[-1]
    cell = size * max(1, -(-_MIN_CELL // size))
    step = cell + _GAP
    width, height = _MARGIN + num_ipc * step + _GAP, _TITLE + len(class_names) * step + _GAP
    block = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(block)
    font = ImageFont.load_default(size=13)
    draw.text((_MARGIN, 3), title, fill="black", font=font)
    for label, name in enumerate(class_names):
        top = _TITLE + label * step
        draw.text((6, top + cell // 2 - 8), name[:14], fill="black", font=font)
        for ipc_index in range(num_ipc):
            left = _MARGIN + ipc_index * step
            image = found.get(Slot(label, ipc_index))
            if image is None:
                draw.rectangle((left, top, left + cell, top + cell), fill="lightgrey")
                continue
            pixels = np.ascontiguousarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))
            picture = Image.fromarray(pixels).convert("RGB")
            block.paste(picture.resize((cell, cell), Image.Resampling.NEAREST), (left, top))
    return block
