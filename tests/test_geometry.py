"""Crops, resizes, flips and rolls as matrices, held against torchvision and torch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from prism_ray.crops import Crops, draw_crops
from prism_ray.geometry import (
    apply_matrices,
    crop_matrix,
    flip_rows,
    pool,
    resize,
    roll_rows,
)

quick = settings(deadline=None, max_examples=60)


@st.composite
def segments(draw: st.DrawFn, size: int) -> tuple[int, int]:
    """Draw (start, length) of a segment inside `size` pixels."""
    length = draw(st.integers(1, size))
    return draw(st.integers(0, size - length)), length


def matrix(start: int, length: int, size_in: int, size_out: int) -> torch.Tensor:
    return crop_matrix(torch.tensor([start]), torch.tensor([length]), size_in, size_out)


@quick
@given(data=st.data(), height=st.integers(1, 40), width=st.integers(1, 40), size=st.integers(1, 40))
def test_crop_is_torchvisions(data: st.DataObject, height: int, width: int, size: int) -> None:
    """Would catch weights off by half a pixel, without antialiasing, or reaching beyond the crop's border."""
    top, crop_height = data.draw(segments(height))
    left, crop_width = data.draw(segments(width))
    x = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    rows = matrix(top, crop_height, height, size)
    columns = matrix(left, crop_width, width, size)
    expected = TF.resized_crop(x, top, left, crop_height, crop_width, [size, size], antialias=True)
    torch.testing.assert_close(apply_matrices(x, rows, columns), expected, rtol=0, atol=1e-5)


def test_each_image_gets_its_own_crop() -> None:
    """Would catch a batch in which the crops are mixed up, or the first one is used for all."""
    x = torch.rand(8, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    crops = draw_crops(np.random.default_rng(2), 8, 24, (0.1, 1.0))
    rows = crop_matrix(torch.from_numpy(crops.top), torch.from_numpy(crops.height), 24, 24)
    columns = crop_matrix(torch.from_numpy(crops.left), torch.from_numpy(crops.width), 24, 24)
    out = apply_matrices(x, rows, columns)
    boxes = zip(crops.top, crops.left, crops.height, crops.width, strict=True)
    for image, result, box in zip(x, out, boxes, strict=True):
        top, left, height, width = (int(value) for value in box)
        expected = TF.resized_crop(image, top, left, height, width, [24, 24], antialias=True)
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)


@quick
@given(data=st.data(), size_in=st.integers(1, 64), size_out=st.integers(1, 64))
def test_rows_are_weighted_means(data: st.DataObject, size_in: int, size_out: int) -> None:
    """Would catch a crop that changes the brightness, or lets in pixels from outside itself."""
    start, length = data.draw(segments(size_in))
    weights = matrix(start, length, size_in, size_out)
    assert weights.shape == (1, size_out, size_in)
    torch.testing.assert_close(weights.sum(dim=2), torch.ones(1, size_out))
    assert (weights >= 0).all()
    assert (weights[:, :, :start] == 0).all()
    assert (weights[:, :, start + length :] == 0).all()


@quick
@given(height=st.integers(1, 48), width=st.integers(1, 48), size=st.integers(1, 48))
def test_resize_is_torchvisions(height: int, width: int, size: int) -> None:
    """Would catch teachers that see aliased, shifted or transposed images at their own resolution."""
    x = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    expected = TF.resize(x, [size, size], antialias=True)
    torch.testing.assert_close(resize(x, size), expected, rtol=0, atol=1e-5)


def test_resize_to_the_same_size_changes_no_bit() -> None:
    """Would catch a needless product that blurs or rounds the pixels of most teachers."""
    x = torch.rand(2, 3, 17, 17)
    assert torch.equal(resize(x, 17), x)


def test_whole_image_crop_changes_no_bit() -> None:
    """Would catch a crop of the whole image that is not the identity, so that crop_scale 1 still blurs."""
    weights = matrix(0, 19, 19, 19)
    assert torch.equal(weights, torch.eye(19)[None])


@quick
@given(data=st.data(), size=st.integers(1, 32))
def test_flip_is_torchs(data: st.DataObject, size: int) -> None:
    """Would catch a flip of the wrong axis, of the wrong images, or of the input instead of the output."""
    flip = torch.tensor(data.draw(st.lists(st.booleans(), min_size=1, max_size=5)))
    x = torch.rand(len(flip), 2, size, size, generator=torch.Generator().manual_seed(0))
    whole = matrix(0, size, size, size)
    columns = flip_rows(whole.expand(len(flip), -1, -1), flip)
    expected = torch.stack([image.flip(2) if one else image for image, one in zip(x, flip, strict=True)])
    assert torch.equal(apply_matrices(x, whole, columns), expected)
    start, length = data.draw(segments(size))
    crop = matrix(start, length, size, size)
    assert torch.equal(flip_rows(crop, torch.tensor([True])), crop.flip(1))


@quick
@given(data=st.data(), size=st.integers(1, 32))
def test_roll_is_torchs(data: st.DataObject, size: int) -> None:
    """Would catch a roll in the wrong direction, or one that fails when it exceeds the image."""
    shifts = data.draw(st.lists(st.integers(-80, 80), min_size=1, max_size=4))
    x = torch.rand(len(shifts), 2, size, size, generator=torch.Generator().manual_seed(0))
    whole = matrix(0, size, size, size).expand(len(shifts), -1, -1)
    rows = roll_rows(whole, torch.tensor(shifts))
    columns = roll_rows(whole, torch.tensor(shifts) + 1)
    expected = torch.stack(
        [image.roll((shift, shift + 1), (1, 2)) for image, shift in zip(x, shifts, strict=True)]
    )
    assert torch.equal(apply_matrices(x, rows, columns), expected)


def test_gradient_is_torchvisions() -> None:
    """Would catch pixels that get the gradient of other pixels."""
    x = torch.rand(1, 3, 20, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    weight = torch.rand(1, 3, 20, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    x.requires_grad_(True)
    rows, columns = matrix(3, 11, 20, 20).double(), matrix(7, 13, 20, 20).double()
    (ours,) = torch.autograd.grad((apply_matrices(x, rows, columns) * weight).sum(), x)
    cropped = TF.resized_crop(x, 3, 7, 11, 13, [20, 20], antialias=True)
    (theirs,) = torch.autograd.grad((cropped * weight).sum(), x)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@quick
@given(
    size=st.integers(1, 224),
    bounds=st.tuples(st.floats(0.01, 1.0), st.floats(0.01, 1.0)),
    seed=st.integers(0, 2**32),
)
def test_crops_lie_inside_and_keep_the_scale(size: int, bounds: tuple[float, float], seed: int) -> None:
    """Would catch boxes over the edge, empty boxes, or shares of the area outside crop_scale."""
    scale = (min(bounds), max(bounds))
    crops = draw_crops(np.random.default_rng(seed), 50, size, scale)
    assert (crops.top >= 0).all()
    assert (crops.left >= 0).all()
    assert (crops.height >= 1).all()
    assert (crops.width >= 1).all()
    assert (crops.top + crops.height <= size).all()
    assert (crops.left + crops.width <= size).all()
    whole = (crops.height == size) & (crops.width == size)  # what is left when ten tries do not fit
    largest = (crops.height + 0.5) * (crops.width + 0.5) + 1e-6  # sides are rounded to whole pixels
    smallest = (crops.height - 0.5) * (crops.width - 0.5) - 1e-6
    assert (whole | ((largest >= scale[0] * size**2) & (smallest <= scale[1] * size**2))).all()


def test_crops_follow_torchvisions_law() -> None:
    """Would catch another distribution than RandomResizedCrop's: of areas, of shapes, or of places."""
    size, count, scale = 64, 3000, (0.08, 1.0)
    crops = draw_crops(np.random.default_rng(0), count, size, scale)
    torch.manual_seed(0)
    transform = v2.RandomResizedCrop(size, scale=scale)
    image = torch.zeros(3, size, size)
    boxes = [transform.make_params([image]) for _ in range(count)]
    theirs = Crops(
        *(np.array([box[key] for box in boxes], dtype=np.int64) for key in ("top", "left", "height", "width"))
    )
    measures = {
        "area": lambda c: c.height * c.width / size**2,
        "log aspect ratio": lambda c: np.log(c.width / c.height),
        "spread of the aspect ratio": lambda c: np.abs(np.log(c.width / c.height)),
        "top of what is free": lambda c: np.where(c.height < size, c.top / np.maximum(1, size - c.height), 0),
        "left of what is free": lambda c: np.where(c.width < size, c.left / np.maximum(1, size - c.width), 0),
        "whole images": lambda c: (c.height * c.width == size**2).astype(float),
    }
    for name, measure in measures.items():
        a, b = measure(crops), measure(theirs)
        error = np.sqrt((a.var() + b.var()) / count)
        assert abs(a.mean() - b.mean()) < 4 * error, name


def test_crops_are_a_function_of_the_seed() -> None:
    """Would catch a draw from a generator that others share, which breaks resuming."""
    first = draw_crops(np.random.default_rng(5), 20, 32, (0.1, 1.0))
    np.random.default_rng(6).random(100)
    again = draw_crops(np.random.default_rng(5), 20, 32, (0.1, 1.0))
    other = draw_crops(np.random.default_rng(7), 20, 32, (0.1, 1.0))
    assert all(np.array_equal(getattr(first, key), getattr(again, key)) for key in vars(first))
    assert not np.array_equal(first.top, other.top)


@quick
@given(data=st.data(), size=st.integers(1, 224), high=st.floats(0.05, 1.0), seed=st.integers(0, 2**32))
def test_each_crop_keeps_to_a_lower_end_of_its_own(
    data: st.DataObject, size: int, high: float, seed: int
) -> None:
    """Would catch one lower end for all crops, ends of other crops, or an upper end that moves."""
    low = np.array(data.draw(st.lists(st.floats(0.01, high), min_size=1, max_size=20)))
    crops = draw_crops(np.random.default_rng(seed), len(low), size, (low, high))
    whole = (crops.height == size) & (crops.width == size)
    largest = (crops.height + 0.5) * (crops.width + 0.5) + 1e-6  # sides are rounded to whole pixels
    smallest = (crops.height - 0.5) * (crops.width - 0.5) - 1e-6
    assert (whole | (largest >= low * size**2)).all()
    assert (whole | (smallest <= high * size**2)).all()


def test_a_lower_end_for_all_crops_is_the_same_as_one_for_each() -> None:
    """Would catch crops of a method without a curriculum that change because others have one."""
    one = draw_crops(np.random.default_rng(3), 50, 64, (0.2, 0.9))
    each = draw_crops(np.random.default_rng(3), 50, 64, (np.full(50, 0.2), 0.9))
    assert all(np.array_equal(getattr(one, key), getattr(each, key)) for key in vars(one))


def test_a_crop_does_not_depend_on_the_lower_ends_of_others() -> None:
    """Would catch a curriculum that changes crops which it has nothing to say about."""
    low = np.linspace(0.9, 0.1, 50)
    low[25:] = 0.2
    some = draw_crops(np.random.default_rng(3), 50, 64, (low, 1.0))
    all_alike = draw_crops(np.random.default_rng(3), 50, 64, (0.2, 1.0))
    for key in ("top", "left", "height", "width"):
        assert np.array_equal(getattr(some, key)[25:], getattr(all_alike, key)[25:])
    assert (some.height * some.width)[:5].min() > (0.8 * 63**2)


def test_as_many_lower_ends_as_crops() -> None:
    """Would catch a curriculum of another length that is stretched or cut without a word."""
    with pytest.raises(ValueError, match="shape"):
        draw_crops(np.random.default_rng(0), 5, 32, (np.full(4, 0.1), 1.0))


@quick
@given(data=st.data(), height=st.integers(1, 70), width=st.integers(1, 70))
def test_pool_is_torchs(data: st.DataObject, height: int, width: int) -> None:
    """Would catch cells without overlap where sizes are no multiples, or weights that do not sum to 1."""
    size = data.draw(st.integers(1, min(height, width)))
    x = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(pool(x, size), F.adaptive_avg_pool2d(x, size), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pool_leaves_small_images_alone(dtype: torch.dtype) -> None:
    """Would catch images that are enlarged by repeating pixels, which multiplies their inner products."""
    x = torch.rand(2, 3, 20, 32, dtype=dtype)
    assert torch.equal(pool(x, 32), x)
    narrow = pool(torch.rand(2, 3, 20, 64, dtype=dtype), 32)
    assert (narrow.shape, narrow.dtype) == ((2, 3, 20, 32), dtype)


def test_the_gradient_of_pool_is_torchs() -> None:
    """Would catch pixels of overlapping cells that get the gradient of one of them."""
    x = torch.rand(1, 2, 23, 23, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(1, 2, 10, 10, dtype=torch.float64)
    (ours,) = torch.autograd.grad((pool(x, 10) * weight).sum(), x)
    (theirs,) = torch.autograd.grad((F.adaptive_avg_pool2d(x, 10) * weight).sum(), x)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
