"""Views: what is drawn for each image and epoch, and how it is rendered."""

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

import prism_ray.relabel.views
from prism_ray.config import RelabelConfig
from prism_ray.errors import StoreError
from prism_ray.parts.images import StoredImages
from prism_ray.parts.views import MixUpViews, Views, draw_views, label_epoch_of
from prism_ray.relabel.views import render, swap_halves, to_device
from prism_ray.stages.formation import Slot

CPU = torch.device("cpu")
SIZE = 16
SLOTS = [Slot(label, ipc_index) for ipc_index in range(4) for label in range(10)]


def configure(**values: Any) -> RelabelConfig:
    return RelabelConfig.model_validate(values)


def same(a: Views, b: Views) -> bool:
    return all(np.array_equal(getattr(a, field.name), getattr(b, field.name)) for field in fields(Views))


def test_views_depend_on_seed_and_epoch_alone() -> None:
    """Would catch views that change with what was drawn before, or are the same in every epoch."""
    config = configure()
    first = draw_views(SLOTS, 3, 11, config, SIZE)
    np.random.default_rng(0).random(9)
    torch.rand(4)
    draw_views(SLOTS, 2, 11, config, SIZE)
    assert same(draw_views(SLOTS, 3, 11, config, SIZE), first)
    for other in (draw_views(SLOTS, 4, 11, config, SIZE), draw_views(SLOTS, 3, 12, config, SIZE)):
        for name in ("crop_top", "crop_width", "flip", "partner_label", "box_top", "box_height"):
            assert not np.array_equal(getattr(other, name), getattr(first, name)), name


EVERYTHING = {"patch_shuffle": True, "rand_augment": True}


def test_the_order_of_the_slots_does_not_matter() -> None:
    """Would catch two image sets that cannot be compared in pairs because their batches were formed apart."""
    config = configure(**EVERYTHING)
    first = draw_views(SLOTS, 3, 11, config, SIZE)
    assert list(zip(first.ipc_index, first.label, strict=True)) == [
        (k, c) for k in range(4) for c in range(10)
    ]
    shuffled = [SLOTS[place] for place in np.random.default_rng(0).permutation(len(SLOTS))]
    for slots in (sorted(SLOTS), shuffled):  # class after class; any order
        assert slots != SLOTS
        assert same(draw_views(slots, 3, 11, config, SIZE), first)


def test_a_setting_moves_no_other_draw() -> None:
    """Would catch crops that change with RandAugment, so that its effect is mixed with that of new crops."""
    plain = draw_views(SLOTS, 0, 11, configure(), SIZE)
    full = draw_views(SLOTS, 0, 11, configure(**EVERYTHING), SIZE)
    changed = {
        field.name
        for field in fields(Views)
        if not np.array_equal(getattr(plain, field.name), getattr(full, field.name))
    }
    assert changed == {"swap_columns", "swap_rows", "augment_seed"}
    for name in sorted(changed):
        assert not getattr(plain, name).any(), name
    no_cutmix = draw_views(SLOTS, 0, 11, configure(**EVERYTHING, cutmix_alpha=0.0), SIZE)
    assert np.array_equal(no_cutmix.augment_seed, full.augment_seed)
    assert np.array_equal(no_cutmix.swap_rows, full.swap_rows)
    mixup = draw_views(SLOTS, 0, 11, configure(**EVERYTHING, mixup_alpha=0.8), SIZE)
    assert isinstance(mixup, MixUpViews)
    assert not isinstance(full, MixUpViews)  # its label files have no column more
    is_blended = mixup.own_share < 1.0
    for name, values in vars(full).items():
        kept = ~is_blended if name.startswith("box") else slice(None)
        assert np.array_equal(getattr(mixup, name)[kept], values[kept]), name


def test_the_four_arrangements_of_the_patches_are_as_likely() -> None:
    """Would catch halves that change places in step, always, or never. RDED: one of four is the identity."""
    slots = [Slot(0, number) for number in range(4000)]
    views = draw_views(slots, 0, 0, configure(patch_shuffle=True), SIZE)
    counts = np.bincount(2 * views.swap_columns + views.swap_rows, minlength=4)
    assert (abs(counts - 1000) < 150).all()


def test_every_view_gets_an_augmentation_of_its_own() -> None:
    """Would catch a seed of zero, which means none, or seeds that come twice."""
    slots = [Slot(0, number) for number in range(4000)]
    views = draw_views(slots, 0, 0, configure(rand_augment=True), SIZE)
    assert views.augment_seed.dtype == np.int64
    assert (views.augment_seed > 0).all()
    assert len(set(views.augment_seed.tolist())) == 4000
    assert views.augment_seed.max() > 2**62  # all the bits are used


@settings(deadline=None, max_examples=60)
@given(
    size=st.integers(1, 64),
    count=st.integers(1, 60),
    seed=st.integers(0, 2**62),
    alpha=st.sampled_from([0.0, 0.2, 1.0]),
    mixup_alpha=st.sampled_from([0.0, 1e-5, 0.2, 1.0, 1e5]),
    bounds=st.tuples(st.floats(0.01, 1.0), st.floats(0.01, 1.0)),
)
def test_views_are_possible(
    size: int, count: int, seed: int, alpha: float, mixup_alpha: float, bounds: tuple[float, float]
) -> None:
    """Would catch crops or boxes over the edge, partners that come twice, and a scale that is ignored."""
    scale = (min(bounds), max(bounds))
    slots = [Slot(number % 7, number // 7) for number in range(count)]
    config = configure(crop_scale=scale, cutmix_alpha=alpha, mixup_alpha=mixup_alpha)
    views = draw_views(slots, 0, seed, config, size)
    assert len(views) == count
    keys = list(zip(views.label.tolist(), views.ipc_index.tolist(), strict=True))
    assert sorted(keys) == sorted((slot.label, slot.ipc_index) for slot in slots)
    partners = zip(views.partner_label.tolist(), views.partner_ipc_index.tolist(), strict=True)
    assert sorted(partners) == sorted(keys)

    top, left, height, width = views.crop_top, views.crop_left, views.crop_height, views.crop_width
    assert min(top.min(), left.min()) >= 0
    assert min(height.min(), width.min()) >= 1
    assert max((top + height).max(), (left + width).max()) <= size
    whole = (height == size) & (width == size)  # what is left when ten tries do not fit
    largest = (height + 0.5) * (width + 0.5) + 1e-6  # sides are whole pixels
    smallest = (height - 0.5) * (width - 0.5) - 1e-6
    assert (whole | ((largest >= scale[0] * size**2) & (smallest <= scale[1] * size**2))).all()

    assert min(views.box_top.min(), views.box_left.min()) >= 0
    assert min(views.box_height.min(), views.box_width.min()) >= 0
    assert max((views.box_top + views.box_height).max(), (views.box_left + views.box_width).max()) <= size
    if alpha == 0.0:
        assert not (views.box_height * views.box_width).any()
    assert isinstance(views, MixUpViews) == (mixup_alpha > 0.0)
    if isinstance(views, MixUpViews):
        assert views.own_share.dtype == np.float16
        assert ((views.own_share >= 0.0) & (views.own_share <= 1.0)).all()
        assert not ((views.own_share < 1.0) & (views.box_height * views.box_width > 0)).any()


def test_flips_can_be_turned_off() -> None:
    """Would catch mirrored digits in a job that forbids them."""
    slots = [Slot(0, number) for number in range(500)]
    assert not draw_views(slots, 0, 0, configure(flip=False), SIZE).flip.any()
    assert 200 < draw_views(slots, 0, 0, configure(flip=True), SIZE).flip.sum() < 300


@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_boxes_follow_torchvisions_cutmix(alpha: float) -> None:
    """Would catch lambda and 1 - lambda, or the box's side and its area, being mixed up."""
    count, size = 3000, 32
    slots = [Slot(0, number) for number in range(count)]
    views = draw_views(slots, 0, 0, configure(cutmix_alpha=alpha), size)
    ours = views.box_height * views.box_width / size**2
    torch.manual_seed(0)
    transform = v2.CutMix(num_classes=2, alpha=alpha)
    image = torch.zeros(2, 3, size, size)
    theirs = np.array([1.0 - transform.make_params([image])["lam_adjusted"] for _ in range(count)])
    for power in (1, 2):
        a, b = ours**power, theirs**power
        assert abs(a.mean() - b.mean()) < 4 * np.sqrt((a.var() + b.var()) / count)


@pytest.mark.parametrize(("cutmix", "blended"), [(0.0, 1.0), (1.0, 0.5)])
def test_shares_follow_torchvisions_mixup(cutmix: float, blended: float) -> None:
    """Would catch shares of another distribution, and MixUp that takes all views from CutMix, or none."""
    slots = [Slot(0, number) for number in range(4000)]
    views = draw_views(slots, 0, 0, configure(cutmix_alpha=cutmix, mixup_alpha=0.8), 32)
    assert isinstance(views, MixUpViews)
    is_blended = views.own_share < 1.0
    assert abs(is_blended.mean() - blended) < 0.04
    assert ((views.box_height * views.box_width > 0) <= ~is_blended).all()
    assert ((views.box_height > 0).mean() > 0.4) == (cutmix > 0.0)
    torch.manual_seed(0)
    transform = v2.MixUp(num_classes=2, alpha=0.8)
    theirs = np.array([transform.make_params([])["lam"] for _ in range(4000)])
    ours = views.own_share[is_blended].astype(np.float64)
    for power in (1, 2):
        a, b = ours**power, theirs**power
        assert abs(a.mean() - b.mean()) < 4 * np.sqrt(a.var() / len(a) + b.var() / len(b))


def test_a_blended_pixel_by_hand() -> None:
    """Would catch the shares exchanged, a blend of images in place of views, and one under the box."""
    images = torch.full((2, 1, 4, 4), 100, dtype=torch.uint8)
    images[1] = 200
    slots = [Slot(0, 0), Slot(1, 0)]
    columns: dict[str, Any] = {field.name: np.zeros(2, np.int64) for field in fields(Views)}
    columns |= {name: np.zeros(2, np.bool_) for name in ("flip", "swap_columns", "swap_rows")}
    columns |= {"label": np.array([0, 1]), "partner_label": np.array([1, 0])}
    columns |= dict.fromkeys(("crop_height", "crop_width"), np.array([4, 4]))
    columns |= {"box_height": np.array([0, 2]), "box_width": np.array([0, 2])}
    views = MixUpViews(**columns, own_share=np.array([0.75, 1.0], np.float16))
    out = 255.0 * render(images, to_device(views, slots, CPU), torch.arange(2))
    torch.testing.assert_close(out[0], torch.full((1, 4, 4), 0.75 * 100 + 0.25 * 200))
    assert out[1, 0].round().tolist() == [[100.0, 100.0, 200.0, 200.0]] * 2 + [[200.0] * 4] * 2


def plain_view(pixels: Tensor, views: Views, place: int) -> Tensor:
    """One image's halves swapped by numpy, its crop, resized and mirrored, by torchvision."""
    size = pixels.shape[-1]
    image, half = pixels[place].numpy(), size // 2
    if views.swap_columns[place]:
        image = np.concatenate([image[:, :, half:], image[:, :, :half]], axis=2)
    if views.swap_rows[place]:
        image = np.concatenate([image[:, half:], image[:, :half]], axis=1)
    names = ("crop_top", "crop_left", "crop_height", "crop_width")
    box = [int(getattr(views, name)[place]) for name in names]
    view = TF.resized_crop(torch.from_numpy(image) / 255.0, *box, [size, size], antialias=True)
    return TF.horizontal_flip(view) if views.flip[place] else view


def plain_render(stored: StoredImages, views: Views) -> Tensor:
    """Image by image: the view, with the partner's view pasted into the box."""
    pixels = torch.from_numpy(stored.images)
    places = {slot: place for place, slot in enumerate(stored.slots)}
    assert list(places) == [
        Slot(int(label), int(k)) for label, k in zip(views.label, views.ipc_index, strict=True)
    ]
    out = []
    for place in range(len(views)):
        view = plain_view(pixels, views, place).clone()
        partner = places[Slot(int(views.partner_label[place]), int(views.partner_ipc_index[place]))]
        if isinstance(views, MixUpViews):
            share = float(views.own_share[place])
            view = share * view + (1.0 - share) * plain_view(pixels, views, partner)
        top, left = int(views.box_top[place]), int(views.box_left[place])
        bottom, right = top + int(views.box_height[place]), left + int(views.box_width[place])
        view[:, top:bottom, left:right] = plain_view(pixels, views, partner)[:, top:bottom, left:right]
        out.append(view)
    return torch.stack(out)


@pytest.fixture(params=["products", "one by one"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Crops as products of matrices, as of small images and on GPUs, or one by one."""
    monkeypatch.setattr(prism_ray.relabel.views, "_LARGE", 1 if request.param == "one by one" else 10**6)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("mixup", [0.0, 0.8])
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("epoch", [0, 1])
def test_rendering_is_torchvisions(stored: StoredImages, epoch: int, grey: bool, mixup: float) -> None:
    """Would catch a partner shown by the wrong crop, a mirrored box, or a box outside the view's pixels."""
    if grey:
        stored = replace(stored, images=stored.images[:, :1])
    views = draw_views(stored.slots, epoch, 5, configure(mixup_alpha=mixup), SIZE)
    assert (views.box_height * views.box_width > 0).sum() > (10 if mixup else 20)
    tensors = to_device(views, stored.slots, CPU)
    out = render(torch.from_numpy(stored.images), tensors, torch.arange(len(views)))
    torch.testing.assert_close(out, plain_render(stored, views), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("mixing", "expected"),
    [({"cutmix_alpha": 0.0}, False), ({}, True), ({"cutmix_alpha": 0.0, "mixup_alpha": 0.8}, True)],
)
def test_partners_are_rendered_only_where_they_show(
    stored: StoredImages, mixing: dict[str, float], expected: bool
) -> None:
    """Catches a second crop of each image for nothing, and a partner that is left out."""
    views = draw_views(stored.slots, 0, 5, configure(**mixing), SIZE)
    assert views.has_partners is expected
    tensors = to_device(views, stored.slots, CPU)
    out = render(torch.from_numpy(stored.images), tensors, torch.arange(len(views)))
    with_all = replace(tensors, has_partners=True)
    assert torch.equal(out, render(torch.from_numpy(stored.images), with_all, torch.arange(len(views))))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("size", [15, 16])
def test_patches_change_places_before_the_crop(stored: StoredImages, size: int) -> None:
    """Would catch halves of the crop swapped, rows for columns, or a row lost or doubled at an odd size."""
    stored = replace(stored, images=stored.images[:, :, :size, :size].copy())
    config = configure(patch_shuffle=True)
    views = draw_views(stored.slots, 0, 5, config, size)
    assert {(bool(a), bool(b)) for a, b in zip(views.swap_columns, views.swap_rows, strict=True)} == {
        (False, False),
        (False, True),
        (True, False),
        (True, True),
    }
    tensors = to_device(views, stored.slots, CPU)
    out = render(torch.from_numpy(stored.images), tensors, torch.arange(len(views)))
    torch.testing.assert_close(out, plain_render(stored, views), rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", range(1, 12))
def test_swapped_halves_are_a_permutation(size: int) -> None:
    """Would catch a pixel that is shown twice at an odd size, while another is lost."""
    x = torch.arange(size, dtype=torch.get_default_dtype())
    both = swap_halves(torch.eye(size).expand(2, -1, -1), torch.tensor([True, False])) @ x
    assert both[0].tolist() == [*range(size // 2, size), *range(size // 2)]
    assert both[1].tolist() == list(range(size))


@pytest.mark.parametrize("batch_size", [1, 7, 40])
def test_student_sees_what_the_teachers_saw(stored: StoredImages, batch_size: int) -> None:
    """Would catch a rendering that depends on the batch: labels would then belong to other pixels."""
    drawn = draw_views(stored.slots, 0, 5, configure(patch_shuffle=True), SIZE)
    views = to_device(drawn, stored.slots, CPU)
    images = torch.from_numpy(stored.images)
    whole = render(images, views, torch.arange(40))
    order = torch.from_numpy(np.random.default_rng(0).permutation(40))
    for pick in order.split(batch_size):
        torch.testing.assert_close(render(images, views, pick), whole[pick], rtol=0, atol=1e-6)


def test_images_are_found_by_class_and_ipc_index(stored: StoredImages) -> None:
    """Would catch labels keyed by position: rows stored in another order must give the same pairs."""
    views = draw_views(stored.slots, 0, 5, configure(), SIZE)
    before = render(
        torch.from_numpy(stored.images), to_device(views, stored.slots, CPU), torch.arange(len(views))
    )
    order = np.random.default_rng(1).permutation(len(stored.slots))
    slots = [stored.slots[place] for place in order]
    shuffled = torch.from_numpy(stored.images[order])
    after = render(shuffled, to_device(views, slots, CPU), torch.arange(len(views)))
    assert torch.equal(before, after)


def test_views_in_another_order_keep_their_partners(stored: StoredImages) -> None:
    """Would catch a partner looked up by its place: groups read in another order must look the same."""
    views = draw_views(stored.slots, 0, 5, configure(), SIZE)
    order = np.random.default_rng(2).permutation(len(views))
    moved = Views(**{field.name: getattr(views, field.name)[order] for field in fields(Views)})
    images, pick = torch.from_numpy(stored.images), torch.arange(len(views))
    before = render(images, to_device(views, stored.slots, CPU), pick)
    after = render(images, to_device(moved, stored.slots, CPU), pick)
    assert torch.equal(before[torch.from_numpy(order)], after)


@pytest.mark.parametrize("missing", [0, 39])
def test_labels_of_unknown_images_are_an_error(stored: StoredImages, missing: int) -> None:
    """Would catch labels of another run being paired with whatever image stands at their place."""
    views = draw_views(stored.slots, 0, 5, configure(), SIZE)
    slots = [slot for place, slot in enumerate(stored.slots) if place != missing]
    with pytest.raises(StoreError) as caught:
        to_device(views, slots, CPU)
    gone = stored.slots[missing]
    assert f"({gone.label}, {gone.ipc_index})" in str(caught.value)


def test_unknown_partners_are_an_error(stored: StoredImages) -> None:
    """Would catch a box filled from another image because half of a group's labels is missing."""
    views = draw_views(stored.slots, 0, 5, configure(), SIZE)
    half = Views(**{field.name: getattr(views, field.name)[:20] for field in fields(Views)})
    with pytest.raises(StoreError, match="not in the set"):
        to_device(half, stored.slots, CPU)


@given(st.integers(1, 40), st.integers(0, 200), st.integers(0, 2**63 - 1))
def test_labels_are_used_again_only_after_all_others(num_label_epochs: int, first: int, seed: int) -> None:
    """Catches labels that are never used, a first pass out of order, and a pass that repeats the last one."""
    assert [label_epoch_of(epoch, num_label_epochs, seed) for epoch in range(num_label_epochs)] == list(
        range(num_label_epochs)
    )
    start = first * num_label_epochs
    again = [label_epoch_of(start + epoch, num_label_epochs, seed) for epoch in range(num_label_epochs)]
    assert sorted(again) == list(range(num_label_epochs))


def test_each_pass_and_each_student_has_an_order_of_its_own() -> None:
    """Catches one order for all passes, which a student would learn as one long epoch."""
    orders = {
        tuple(label_epoch_of(20 * times + epoch, 20, seed) for epoch in range(20))
        for times in (1, 2, 3)
        for seed in (5, 6)
    }
    assert len(orders) == 6
