"""Views: what each image looks like in each epoch, and the draw of it. numpy alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from prism_ray.config import RelabelConfig
from prism_ray.crops import draw_crops
from prism_ray.seeds import derive_seed
from prism_ray.stages.formation import Slot

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Shares = npt.NDArray[np.float16]

_BOX = ("top", "left", "height", "width")


@dataclass(frozen=True)
class Views:
    """The views of a group's images in one epoch; every field is an array of B.

    A view is made in this order. The stored image goes through RandAugment, with generators seeded by
    `augment_seed` (0: no RandAugment). Its left and right halves are exchanged if `swap_columns`, its upper
    and lower halves if `swap_rows`. The crop (in pixels) of the result is resized to the full size, and
    mirrored if `flip`. The box (in pixels of the view) is overwritten with the same box of the partner's view
    of the same epoch. Without CutMix the box is empty.
    """

    label: Ints
    ipc_index: Ints
    crop_top: Ints
    crop_left: Ints
    crop_height: Ints
    crop_width: Ints
    flip: Flags
    partner_label: Ints
    partner_ipc_index: Ints
    box_top: Ints
    box_left: Ints
    box_height: Ints
    box_width: Ints
    swap_columns: Flags
    swap_rows: Flags
    augment_seed: Ints

    def __len__(self) -> int:
        return len(self.label)

    @property
    def has_swaps(self) -> bool:
        """Whether the halves of any view change places."""
        return bool(self.swap_columns.any() or self.swap_rows.any())

    @property
    def has_partners(self) -> bool:
        """Whether any view has pixels of its partner."""
        return bool(((self.box_height > 0) & (self.box_width > 0)).any())

    def pick(self, rows: slice | Ints) -> Self:
        """Return some of the views, of the same kind."""
        return type(self)(**{name: values[rows] for name, values in vars(self).items()})


@dataclass(frozen=True)
class MixUpViews(Views):
    """Views of which some are blended with their partner's: pixel = own_share own + (1 - own_share) partner.

    Such a view has no box. The share of a view without MixUp is 1. Source: MixUp, arXiv 1710.09412.
    """

    own_share: Shares

    @property
    def has_partners(self) -> bool:
        return super().has_partners or bool((self.own_share < 1.0).any())


def draw_views(slots: Sequence[Slot], epoch: int, seed: int, config: RelabelConfig, size: int) -> Views:
    """Draw one view of each image of a group for one epoch; the draw depends on seed and epoch alone.

    Views are drawn and returned by IPC index, then class, whatever the order of `slots`. So two image sets
    with the same slots get the same views. Additional settings do not change what the others draw. Partners
    are a random permutation of the group. The box of CutMix covers 1 - lambda of the view, lambda ~
    Beta(alpha, alpha), with a uniform centre, and is cut off at the border. With MixUp the own share is
    drawn from Beta(alpha, alpha); if there is CutMix too, half of the views get the one, half the other.
    Source: timm's Mixup, of mode elem and switch_prob 0.5.
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
    views = Views(
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
    if config.mixup_alpha == 0.0:
        return views
    mixup_rng = np.random.default_rng(derive_seed(seed, "mixup", epoch))
    own_share = mixup_rng.beta(config.mixup_alpha, config.mixup_alpha, count)
    is_blended = (mixup_rng.random(count) < 0.5) | (config.cutmix_alpha == 0.0)
    columns = vars(views) | {
        f"box_{name}": np.where(is_blended, 0, vars(views)[f"box_{name}"]) for name in _BOX
    }
    return MixUpViews(**columns, own_share=np.where(is_blended, own_share, 1.0).astype(np.float16))


def whole_views(slots: Sequence[Slot], size: int) -> Views:
    """Return views that show each image whole and unchanged, in the order of `draw_views`."""
    ordered = sorted(slots, key=lambda slot: (slot.ipc_index, slot.label))
    labels = np.array([slot.label for slot in ordered], dtype=np.int64)
    ipc_indices = np.array([slot.ipc_index for slot in ordered], dtype=np.int64)
    nothing, whole = np.zeros(len(ordered), dtype=np.int64), np.full(len(ordered), size, dtype=np.int64)
    never = np.zeros(len(ordered), dtype=np.bool_)
    return Views(
        label=labels,
        ipc_index=ipc_indices,
        crop_top=nothing,
        crop_left=nothing,
        crop_height=whole,
        crop_width=whole,
        flip=never,
        partner_label=labels,
        partner_ipc_index=ipc_indices,
        box_top=nothing,
        box_left=nothing,
        box_height=nothing,
        box_width=nothing,
        swap_columns=never,
        swap_rows=never,
        augment_seed=nothing,
    )


def label_epoch_of(epoch: int, num_label_epochs: int, seed: int) -> int:
    """Return the epoch whose labels a student trains with in `epoch`, if `num_label_epochs` have labels.

    The first time they come in order, then each time in an order that is drawn from `seed`: every label is
    used about as often as every other one, and never twice before all others were used.
    """
    times, position = divmod(epoch, num_label_epochs)
    if times == 0:
        return position
    order = np.random.default_rng(derive_seed(seed, "label-epochs", times)).permutation(num_label_epochs)
    return int(order[position])
