"""Thumbnails and atlases."""

import base64
import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from prism_ray.report.thumbnails import Form, blocks, choose_form, make_atlas, shrink
from prism_ray.stages.formation import Slot


def noise(number: int, size: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (number, channels, size, size), dtype=np.uint8)


def test_an_atlas_has_every_image_at_its_place() -> None:
    """Catches rows and columns exchanged, and a missing image that is not told."""
    grey = {
        Slot(label, k): np.full((3, 8, 8), 20 * label + 5 * k, np.uint8) for label in (3, 7) for k in (0, 1)
    }
    del grey[Slot(7, 0)]
    atlas = make_atlas((3, 7), 2, Form(8, 2, 82, (3, 7)), grey.get)
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(atlas.data))).convert("RGB"))
    assert picture.shape == (16, 16, 3)
    assert atlas.missing == ((7, 0),)
    for slot, image in grey.items():
        row, column = 8 * (slot.label == 7), 8 * slot.ipc_index
        assert abs(int(picture[row + 4, column + 4, 0]) - int(image[0, 0, 0])) <= 2


def test_photographs_are_not_encoded_without_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a report of 10,000 images most of whose minutes go into files that are thrown away."""
    num_pixels, whole = 0, Image.Image.save

    def counted(picture: Image.Image, *arguments: Any, **options: Any) -> None:
        nonlocal num_pixels
        num_pixels += picture.width * picture.height * bool(options.get("lossless"))
        whole(picture, *arguments, **options)

    monkeypatch.setattr(Image.Image, "save", counted)
    photographs = {Slot(0, k): image for k, image in enumerate(noise(12, 128))}
    make_atlas((0,), 12, Form(128, 12, 82, (0,)), photographs.get)
    assert 0 < num_pixels <= 12 * 128**2 / 3  # a corner
    num_pixels = 0
    flat = {slot: np.full_like(image, 200) for slot, image in photographs.items()}
    atlas = make_atlas((0,), 12, Form(128, 12, 82, (0,)), flat.get)
    assert num_pixels > 12 * 128**2  # the corner, and the whole: it is smaller so
    assert (np.asarray(Image.open(io.BytesIO(base64.b64decode(atlas.data))).convert("RGB")) == 200).all()


@pytest.mark.parametrize(("size", "channels"), [(8, 1), (16, 3), (100, 3), (224, 3)])
def test_thumbnails_have_one_size(size: int, channels: int) -> None:
    """Catches images of stores of other sizes that do not fit into one atlas."""
    assert shrink(noise(2, size, channels), 16).shape == (2, 3, 16, 16)


@given(st.integers(1, 2000), st.lists(st.integers(1, 60), min_size=1, max_size=5), st.integers(10_000, 10**7))
@settings(max_examples=20)
def test_what_is_chosen_fits(num_classes: int, ipcs: list[int], max_bytes: int) -> None:
    """Catches a page above its limit; noise is the worst to compress."""
    form = choose_form(noise(4, 24), ipcs, num_classes, max_bytes)
    assert 1 <= len(form.labels) <= num_classes
    assert form.num_ipc >= 1
    assert [label for block in blocks(form) for label in block] == list(form.labels)
    num_images = sum(min(ipc, form.num_ipc) for ipc in ipcs) * len(form.labels)
    if len(form.labels) > 1:
        assert num_images * 300 < 40 * max_bytes


def test_small_sets_are_shown_whole() -> None:
    """Catches digits that are shrunk, or left out, without need."""
    form = choose_form(noise(10, 32, 1), [1, 1, 1], 10)
    assert form == Form(32, 1, 82, tuple(range(10)))
    assert choose_form(noise(10, 224), [10, 10], 10).side == 128
