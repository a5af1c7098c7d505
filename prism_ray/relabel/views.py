"""Views on the device: looking up their images, and rendering them, for relabel and for training students."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from prism_ray.errors import StoreError
from prism_ray.geometry import apply_matrices, crop_matrix, flip_rows
from prism_ray.parts.views import Views
from prism_ray.stages.formation import Slot
from prism_ray.teachers.teacher import to_pixels

_LARGE = 64  # pixels of a side from which on crops one by one are faster on a CPU


class Pixels(Protocol):
    """Images uint8 (N, channels, H, W): a tensor, or what reads them when they are asked for."""

    @property
    def shape(self) -> torch.Size: ...

    @property
    def device(self) -> torch.device: ...

    def __getitem__(self, index: Tensor, /) -> Tensor:
        """Return the images at `index` (b,) on the device."""


@dataclass(frozen=True)
class ViewTensors:
    """The views of one epoch on the device."""

    image: Tensor  # B: index of the view's image among the images
    partner: Tensor  # B: index of the partner's view among these views
    columns: Mapping[str, Tensor]  # fields of Views by name, each B
    has_swaps: bool  # whether the halves of any view change places
    has_partners: bool  # whether any view has pixels of its partner

    @property
    def own_share(self) -> Tensor | None:
        """Share (B,) of each view's own image; None without MixUp."""
        return self.columns.get("own_share")


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
        has_swaps=views.has_swaps,
        has_partners=views.has_partners,
    )


def render(images: Pixels, views: ViewTensors, pick: Tensor) -> Tensor:
    """Return some of the views as pixels in [0, 1], (b, channels, H, W).

    `images` is uint8 (N, channels, H, W), already augmented (see augment.py); `pick` (b,) are indices of
    views.
    """
    own = _crop(images, views, pick)
    if not views.has_partners:
        return own
    partner = _crop(images, views, views.partner[pick])
    pixel = torch.arange(images.shape[-1], device=images.device)[None, :]
    box = (views.columns[f"box_{name}"][pick, None] for name in ("top", "left", "height", "width"))
    top, left, height, width = box
    in_rows = (pixel >= top) & (pixel < top + height)  # b, H
    in_columns = (pixel >= left) & (pixel < left + width)  # b, W
    in_box = in_rows[:, None, :, None] & in_columns[:, None, None, :]
    if views.own_share is not None:
        share = views.own_share[pick, None, None, None].to(own.dtype)
        own = share * own + (1.0 - share) * partner
    return torch.where(in_box, partner, own)


def _crop(images: Pixels, views: ViewTensors, pick: Tensor) -> Tensor:
    """Return the crops of some views (b, channels, H, W), without their partners."""
    if images.device.type == "cpu" and images.shape[-1] >= _LARGE:
        return _crop_each(images[views.image[pick]], views, pick)
    size, column = images.shape[-1], views.columns
    rows = crop_matrix(column["crop_top"][pick], column["crop_height"][pick], size, size)
    columns = crop_matrix(column["crop_left"][pick], column["crop_width"][pick], size, size)
    if views.has_swaps:
        rows = swap_halves(rows, column["swap_rows"][pick])
        columns = swap_halves(columns, column["swap_columns"][pick])
    columns = flip_rows(columns, column["flip"][pick])
    return apply_matrices(to_pixels(images[views.image[pick]]), rows, columns)


def _crop_each(images: Tensor, views: ViewTensors, pick: Tensor) -> Tensor:
    """Return the crops of images (b, channels, H, W) one by one, up to rounding as from matrices.

    A crop is only ever enlarged, so each pixel is a mean of four. A CPU does that in a fifth of the time of
    two products of matrices at 224 pixels; a GPU has the products for nothing.
    """
    size = images.shape[-1]
    names = ("crop_top", "crop_left", "crop_height", "crop_width", "flip", "swap_rows", "swap_columns")
    rows = zip(*(views.columns[name][pick].tolist() for name in names), strict=True)
    crops = torch.empty(images.shape, dtype=torch.get_default_dtype())
    for image, crop, (top, left, height, width, flip, *swaps) in zip(images, crops, rows, strict=True):
        swapped = [dim for dim, swap in zip((1, 2), swaps, strict=True) if swap]
        if swapped:
            image = image.roll([-(size // 2)] * len(swapped), swapped)
        part = to_pixels(image[None, :, top : top + height, left : left + width])
        shown = F.interpolate(part, (size, size), mode="bilinear", align_corners=False)[0]
        crop.copy_(shown.flip(2) if flip else shown)
    return crops


def swap_halves(matrix: Tensor, swap: Tensor) -> Tensor:
    """Return (B, out, in) with the two halves of the input exchanged where `swap` (B,) is true.

    If the input is odd, its first half is the smaller one, and comes last. Source: the shuffling of 2x2
    patches in the public code of RDED (arXiv 2312.03526), which permutes the strips of each direction.
    """
    return torch.where(swap[:, None, None], matrix.roll(matrix.shape[2] // 2, dims=2), matrix)
