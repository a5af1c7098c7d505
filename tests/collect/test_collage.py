"""Collages of patches: which patch stands where, and what it looks like."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as TF

from prism_ray.collect.collage import collage
from prism_ray.data import RealImages
from prism_ray.data.base import ArrayImages
from prism_ray.errors import DataError


def grey(count: int, size: int) -> ArrayImages:
    """Class "b" of images of one grey level each, 10 * place; class "a" has a single white one."""
    levels = np.array([255, *(10 * np.arange(count))], np.uint8)
    pixels = np.broadcast_to(levels[:, None, None], (count + 1, size, size))
    labels = np.array([0] + [1] * count)
    return ArrayImages("grey", ("a", "b"), {"train": pixels}, {"train": labels}, size)


def whole(places: list[int], size: int) -> dict[str, np.ndarray]:
    """Patches that are whole images."""
    zero = np.zeros(len(places), np.int64)
    return {"place": np.array(places), "top": zero, "left": zero, "side": zero + size}


@pytest.mark.parametrize("size", [4, 5])
def test_quarters_hold_ranks_that_are_ipc_apart(size: int) -> None:
    """Four consecutive ranks in one image (the best patches in the first), columns before rows, or a seam."""
    places = [11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]  # by rank
    data = grey(12, size)
    images = collage(whole(places, size), [2, 0], 3, 2, 1, data, size)
    assert images.shape == (2, 1, size, size)
    assert images.dtype == np.uint8
    half = size // 2
    for image, index in zip(images, [2, 0], strict=True):
        levels = [10 * places[quarter * 3 + index] for quarter in range(4)]
        expected = np.empty((size, size), np.uint8)
        expected[:half, :half], expected[:half, half:] = levels[0], levels[1]
        expected[half:, :half], expected[half:, half:] = levels[2], levels[3]
        assert np.array_equal(image[0], expected)


def test_three_patches_per_side() -> None:
    """A layout that knows quarters alone."""
    images = collage(whole(list(range(9)), 6), [0], 1, 3, 1, grey(9, 6), 6)
    assert images[0, 0, ::2, ::2].tolist() == [[0, 10, 20], [30, 40, 50], [60, 70, 80]]
    assert images[0, 0, 1::2, 1::2].tolist() == [[0, 10, 20], [30, 40, 50], [60, 70, 80]]


def test_a_patch_is_the_box_resized_and_rounded(uneven: RealImages) -> None:
    """Top for left, a box of another image, or pixels cut off instead of rounded."""
    patches = {
        "place": np.array([3, 8]),
        "top": np.array([1, 4]),
        "left": np.array([5, 0]),
        "side": np.array([6, 8]),
    }
    images = collage(patches, [0, 1], 2, 1, 2, uneven, 12)
    for image, rank in zip(images, range(2), strict=True):
        top, left, side = (int(patches[name][rank]) for name in ("top", "left", "side"))
        index = uneven.train_indices(2)[[patches["place"][rank]]]
        pixels = torch.from_numpy(uneven.read("train", index)).double()
        expected = TF.resized_crop(pixels, top, left, side, side, [12, 12], antialias=True)[0]
        assert np.abs(image - expected.numpy()).max() <= 0.501


def test_a_patch_of_an_original_is_what_torchvision_cuts_out_of_the_file(
    pictures: RealImages, original_of: Callable[[RealImages, int], Image.Image]
) -> None:
    """Boxes of original pictures applied to the square, or a patch that is resized twice."""
    indices = pictures.train_indices(1)
    places = np.arange(4)
    sizes = [original_of(pictures, int(index)).size for index in indices[:4]]
    side = np.array([min(size) - 1 for size in sizes])
    top, left = (np.array([size[axis] for size in sizes]) - side for axis in (1, 0))  # at the far borders
    patches = {"place": places, "top": top, "left": left, "side": side}
    (image,) = collage(patches, [0], 1, 2, 1, pictures, 13, "original")
    for rank in range(4):
        row, column = divmod(rank, 2)
        size = [(6, 7)[row], (6, 7)[column]]
        box = [int(values[rank]) for values in (top, left, side, side)]
        whole = original_of(pictures, int(indices[rank]))
        expected = TF.resized_crop(whole, *box, size, TF.InterpolationMode.BILINEAR, antialias=True)
        found = image[:, 6 * row :, 6 * column :][:, : size[0], : size[1]]
        assert np.array_equal(found, np.asarray(expected).transpose(2, 0, 1))
    with pytest.raises(DataError, match=r"\.png \(a crop of .* is not inside its"):
        collage(patches | {"side": side + 2}, [0], 1, 2, 1, pictures, 13, "original")


def test_too_few_patches_are_refused_by_name() -> None:
    """Patches used twice, or IndexError after hours of scoring."""
    with pytest.raises(DataError, match=r"class 'b' has 11 scored patches.* 3 images of 4 patches need 12"):
        collage(whole(list(range(11)), 4), [0], 3, 2, 1, grey(11, 4), 4)
