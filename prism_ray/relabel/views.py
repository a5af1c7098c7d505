"""Views: drawing their parameters, and rendering them, both for relabel and for the training of students."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from prism_ray.config import RelabelConfig
from prism_ray.errors import StoreError
from prism_ray.geometry import apply_matrices, crop_matrix, draw_crops, flip_rows
from prism_ray.parts.labels import Views
from prism_ray.seeds import derive_seed
from prism_ray.stages.formation import Slot
from prism_ray.teachers.teacher import to_pixels


def draw_views(slots: Sequence[Slot], epoch: int, seed: int, config: RelabelConfig, size: int) -> Views:
    """Draw one view of each image of a group for one epoch; the draw depends on seed and epoch alone.

    Views are drawn and returned by IPC index, then class, whatever the order of `slots`. So two image sets
    with the same slots get the same views. Additional settings do not change what the others draw. Partners
    are a random permutation of the group. The box of CutMix covers 1 - lambda of the view, lambda ~
    Beta(alpha, alpha), with a uniform centre, and is cut off at the border.
    """
    rng = np.random.default_rng(derive_seed(seed, "views", epoch))
    count = len(slots)
    ordered = sorted(slots, key=lambda slot: (slot.ipc_index, slot.label))
    labels = np.array([slot.label for slot in ordered], dtype=np.int64)
    ipc_indices = np.array([slot.ipc_index for slot in ordered], dtype=np.int64)
    crops = draw_crops(rng, count, size, config.crop_scale)
    flip = (rng.random(count) < 0.5) & config.flip
    partner = rng.permutation(count)
    top = left = height = width = np.zeros(count, dtype=np.int64)
    if config.cutmix_alpha > 0.0:
        share = 1.0 - rng.beta(config.cutmix_alpha, config.cutmix_alpha, count)
        half = (size * np.sqrt(share)).astype(np.int64) // 2
        centre_y, centre_x = (rng.random((2, count)) * size).astype(np.int64)
        top, left = np.maximum(centre_y - half, 0), np.maximum(centre_x - half, 0)
        height = np.minimum(centre_y + half, size) - top
        width = np.minimum(centre_x + half, size) - left
    swap_columns = swap_rows = np.zeros(count, dtype=np.bool_)
    if config.patch_shuffle:
        swap_rng = np.random.default_rng(derive_seed(seed, "swaps", epoch))
        swap_columns, swap_rows = swap_rng.random((2, count)) < 0.5
    augment_seed = np.zeros(count, dtype=np.int64)
    if config.rand_augment:
        augment_rng = np.random.default_rng(derive_seed(seed, "augment", epoch))
        augment_seed = augment_rng.integers(1, 2**63 - 1, count, dtype=np.int64)
    return Views(
        label=labels,
        ipc_index=ipc_indices,
        crop_top=crops.top,
        crop_left=crops.left,
        crop_height=crops.height,
        crop_width=crops.width,
        flip=flip,
        partner_label=labels[partner],
        partner_ipc_index=ipc_indices[partner],
        box_top=top,
        box_left=left,
        box_height=height,
        box_width=width,
        swap_columns=swap_columns,
        swap_rows=swap_rows,
        augment_seed=augment_seed,
    )


@dataclass(frozen=True)
class ViewTensors:
    """The views of one epoch on the device."""

    image: Tensor  # B: index of the view's image among the images
    partner: Tensor  # B: index of the partner's view among these views
    columns: Mapping[str, Tensor]  # fields of Views by name, each B
    has_swaps: bool  # whether the halves of any view change places


def to_device(views: Views, slots: Sequence[Slot], device: torch.device) -> ViewTensors:
    """Look up the views' images among `slots`, their partners among the views; move all to the device.

    Raises StoreError if an image or a partner is missing.
    """
    image_indices = {(slot.label, slot.ipc_index): index for index, slot in enumerate(slots)}
    keys = list(zip(views.label.tolist(), views.ipc_index.tolist(), strict=True))
    view_indices = {key: index for index, key in enumerate(keys)}
    partners = zip(views.partner_label.tolist(), views.partner_ipc_index.tolist(), strict=True)
    try:
        image = [image_indices[key] for key in keys]
        partner = [view_indices[key] for key in partners]
    except KeyError as error:
        raise StoreError(
            f"the soft labels name the image (class, IPC index) = {error}, which is not in the set"
        ) from None
    return ViewTensors(
        image=torch.tensor(image, device=device),
        partner=torch.tensor(partner, device=device),
        columns={name: torch.from_numpy(values).to(device) for name, values in vars(views).items()},
        has_swaps=bool(views.swap_columns.any() or views.swap_rows.any()),
    )


def render(images: Tensor, views: ViewTensors, pick: Tensor) -> Tensor:
    """Return some of the views as pixels in [0, 1], (b, channels, H, W).

    `images` is uint8 (N, channels, H, W), already augmented (see augment.py); `pick` (b,) are indices of
    views.
    """
    own = _crop(images, views, pick)
    partner = _crop(images, views, views.partner[pick])
    pixel = torch.arange(images.shape[-1], device=images.device)[None, :]
    box = (views.columns[f"box_{name}"][pick, None] for name in ("top", "left", "height", "width"))
    top, left, height, width = box
    in_rows = (pixel >= top) & (pixel < top + height)  # b, H
    in_columns = (pixel >= left) & (pixel < left + width)  # b, W
    in_box = in_rows[:, None, :, None] & in_columns[:, None, None, :]
    return torch.where(in_box, partner, own)


def _crop(images: Tensor, views: ViewTensors, pick: Tensor) -> Tensor:
    size, column = images.shape[-1], views.columns
    rows = crop_matrix(column["crop_top"][pick], column["crop_height"][pick], size, size)
    columns = crop_matrix(column["crop_left"][pick], column["crop_width"][pick], size, size)
    if views.has_swaps:
        rows = swap_halves(rows, column["swap_rows"][pick])
        columns = swap_halves(columns, column["swap_columns"][pick])
    columns = flip_rows(columns, column["flip"][pick])
    return apply_matrices(to_pixels(images[views.image[pick]]), rows, columns)


def swap_halves(matrix: Tensor, swap: Tensor) -> Tensor:
    """Return (B, out, in) with the two halves of the input exchanged where `swap` (B,) is true.

    If the input is odd, its first half is the smaller one, and comes last. Source: the shuffling of 2x2
    patches in the public code of RDED (arXiv 2312.03526), which permutes the strips of each direction.
    """
    return torch.where(swap[:, None, None], matrix.roll(matrix.shape[2] // 2, dims=2), matrix)
