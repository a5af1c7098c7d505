"""Scores of real images: the probability of the true class, and the best patch of each image."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as TF

from prism_ray.collect.real_images import side_of
from prism_ray.collect.scores import collect_scores, draw_squares, median_order, read_scores
from prism_ray.collect.tensors import class_key, encode
from prism_ray.config import CollectConfig
from prism_ray.crops import CropNumbers
from prism_ray.data import RealImages
from prism_ray.errors import EngineError
from prism_ray.geometry import resize
from prism_ray.seeds import derive_seed
from prism_ray.stages.collect import CollectUnit
from prism_ray.teachers.teacher import Teacher

CPU = torch.device("cpu")
SEED = 11
COUNTS = (5, 2, 9)  # training images of the classes of `uneven`

MakeTeacher = Callable[..., Teacher]


def collect(
    kind: str, teacher: Teacher, data: RealImages, first: int = 0, count: int = 3, **settings: object
) -> bytes:
    unit = CollectUnit(kind, teacher.name, first, count, SEED)
    config = CollectConfig.model_validate({"batch_size": 4} | settings)
    return collect_scores(unit, teacher, data, config, CPU)


# Median


@pytest.mark.parametrize(
    ("probabilities", "order"),
    [
        ([0.3], [0]),
        ([0.1, 0.2], [1, 0]),
        ([0.1, 0.2, 0.3], [2, 1, 0]),
        ([0.1, 0.2, 0.3, 0.4], [2, 3, 1, 0]),
        ([0.5, 0.4, 0.3, 0.2, 0.1], [1, 0, 2, 3, 4]),  # ranks 3, 4, 2, 1, 0 of 4, 3, 2, 1, 0
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [3, 4, 2, 5, 1, 0]),
        ([0.9, 0.1, 0.9, 0.9, 0.9, 0.1], [2, 3, 0, 4, 5, 1]),  # ties as in the class: ranks 1, 5, 0, 2, 3, 4
    ],
)
def test_the_median_comes_first_and_then_both_sides_in_turn(
    probabilities: list[float], order: list[int]
) -> None:
    """The wrong middle, the lower side first, or an end of the class left out or taken twice."""
    assert median_order(np.array(probabilities, np.float32)).tolist() == order


def test_the_probability_is_that_of_the_true_class_image_by_image(
    digits: RealImages, resnet: Teacher
) -> None:
    """Logits instead of probabilities, another class's column, or an order that is not the class's."""
    data = collect("median", resnet, digits, 3, 2, images_per_class=6)
    for label in (3, 4):
        indices = digits.train_indices(label)[:6]
        expected = []
        for index in indices:
            pixels = torch.from_numpy(digits.read("train", np.array([index]))) / 255.0
            logits = resnet.network(resnet.preprocessing.apply(pixels))[0]
            expected.append(float(logits[label].exp() / logits.exp().sum()))
        found = read_scores(data, label, 6, side_of(digits))["probability"]
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_every_training_image_is_scored(uneven: RealImages, tiny: Callable[[], Teacher]) -> None:
    """The last, short batch dropped."""
    data = collect("median", tiny(), uneven)
    assert [len(read_scores(data, label, COUNTS[label], 12)["probability"]) for label in range(3)] == [
        5,
        2,
        9,
    ]


# RDED


def slow_losses(
    teacher: Teacher, data: RealImages, label: int, config: CollectConfig
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, ...]]:
    """Crop by crop: torchvision's crop, normalised, zeros around it, and the cross-entropy by its formula."""
    rng = np.random.default_rng(derive_seed(SEED, "patches", label))
    indices = data.train_indices(label)
    places = np.sort(rng.permutation(len(indices))[: config.rded_images_per_class])
    shape = (len(places), config.rded_crops_per_image)
    boxes = draw_squares(rng, shape, 12, config.rded_crop_scale)
    patch = 12 // config.rded_patches_per_side
    margin = (12 - patch) // 2
    losses = np.zeros(shape)
    mean, std = teacher.preprocessing.mean_std(torch.empty(0))
    for row, place in enumerate(places):
        pixels = torch.from_numpy(data.read("train", indices[[place]])).to(mean.dtype) / 255.0
        for column in range(shape[1]):
            top, left, side = (int(values[row, column]) for values in boxes)
            crop = TF.resized_crop(pixels, top, left, side, side, [patch, patch], antialias=True)
            normalised = (crop.expand(-1, 3, -1, -1) - mean) / std
            right = 12 - patch - margin
            padded = F.pad(normalised, (margin, right, margin, right))
            logits = teacher.network(resize(padded, teacher.preprocessing.size))[0]
            losses[row, column] = float(torch.logsumexp(logits, 0) - logits[label])
    return places, losses, boxes


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("patches_per_side", "teacher_size"), [(2, 12), (1, 12), (3, 12), (5, 12), (2, 18), (1, 9)]
)
def test_the_best_patches_are_those_of_a_plain_loop(
    uneven: RealImages, tiny: Callable[[int], Teacher], patches_per_side: int, teacher_size: int
) -> None:
    """Patches that swap images or crops in a batch, padding off the centre or of another colour, the worst
    crop instead of the best, an order that is not by loss."""
    teacher = tiny(teacher_size)
    settings = {
        "rded_images_per_class": 7,
        "rded_crops_per_image": 3,
        "rded_patches_per_side": patches_per_side,
        "batch_size": 7,
    }
    data = collect("rded", teacher, uneven, **settings)
    config = CollectConfig.model_validate(settings)
    for label in range(3):
        places, losses, boxes = slow_losses(teacher, uneven, label, config)
        best = losses.argmin(1)
        order = losses.min(1).argsort()
        found = read_scores(data, label, COUNTS[label], 12)
        assert found["place"].tolist() == places[order].tolist()
        for name, values in zip(("top", "left", "side"), boxes, strict=True):
            assert found[name].tolist() == values[order, best[order]].tolist()
            assert found[name].dtype == np.int64
        np.testing.assert_allclose(found["loss"], losses.min(1)[order], rtol=1e-5)
        assert len(found["place"]) == min(7, len(uneven.train_indices(label)))
        assert len(set(places.tolist())) == len(places)
    assert losses.std() > 0.001


@pytest.mark.usefixtures("float64")
def test_the_best_patches_of_originals_are_those_of_a_plain_loop(
    pictures: RealImages,
    tiny: Callable[[int], Teacher],
    original_of: Callable[[RealImages, int], Image.Image],
) -> None:
    """Boxes of the square, of another picture or another crop of it; a batch that starts its draw anew."""
    teacher = tiny(12)
    settings = {"rded_images_per_class": 5, "rded_crops_per_image": 3, "crop_from": "original"}
    data = collect("rded", teacher, pictures, 0, 2, batch_size=7, **settings)
    mean, std = teacher.preprocessing.mean_std(torch.empty(0))
    for label in range(2):
        rng = np.random.default_rng(derive_seed(SEED, "patches", label))
        indices = pictures.train_indices(label)
        places = np.sort(rng.permutation(len(indices))[:5])
        numbers = CropNumbers.draw(rng, 3 * len(places))
        losses, drawn = np.zeros((len(places), 3)), {}
        for row, place in enumerate(places):
            picture = original_of(pictures, int(indices[place]))
            width, height = picture.size
            boxes = numbers[3 * row : 3 * row + 3].boxes(height, width, (0.08, 1.0), max_ratio=1.0)
            for column in range(3):
                box = [int(values[column]) for values in (boxes.top, boxes.left, boxes.height, boxes.width)]
                drawn[row, column] = box[:3]
                crop = TF.resized_crop(picture, *box, [6, 6], TF.InterpolationMode.BILINEAR, antialias=True)
                pixels = torch.from_numpy(np.array(crop)).permute(2, 0, 1)[None] / 255.0
                logits = teacher.network(F.pad((pixels - mean) / std, (3, 3, 3, 3)))[0]
                losses[row, column] = float(torch.logsumexp(logits, 0) - logits[label])
        order, best = losses.min(1).argsort(), losses.argmin(1)
        found = read_scores(data, label, len(indices), None)
        assert found["place"].tolist() == places[order].tolist()
        assert [
            [int(found[name][rank]) for name in ("top", "left", "side")] for rank in range(len(order))
        ] == [drawn[row, best[row]] for row in order]
        np.testing.assert_allclose(found["loss"], losses.min(1)[order], rtol=1e-5)
        assert (found["top"] + found["side"]).max() > 12
        with pytest.raises(ValueError, match="not of its"):  # boxes of the square are in 12 x 12 pixels
            read_scores(data, label, len(indices), 12)


class Watching(nn.Module):
    """Keeps what it is shown; finds every class as likely as the others."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        return x.new_zeros(len(x), 3)


def test_around_a_patch_is_the_mean_colour(uneven: RealImages, teacher_of: MakeTeacher) -> None:
    """Black around the patch, which is no zero in the teacher's space, or a patch blown up to the whole."""
    teacher = teacher_of(Watching())
    collect("rded", teacher, uneven, rded_crops_per_image=2)
    seen = torch.cat(teacher.network.seen)
    assert seen.shape == (32, 3, 12, 12)
    middle = torch.zeros(12, 12, dtype=torch.bool)
    middle[3:9, 3:9] = True
    assert (seen[:, :, ~middle] == 0.0).all()
    assert (seen[:, :, middle] != 0.0).float().mean() > 0.9


def test_equal_losses_keep_the_order_of_the_class(uneven: RealImages, teacher_of: MakeTeacher) -> None:
    """Ties broken by the sorting algorithm of the day."""
    teacher = teacher_of(Watching())
    data = collect("rded", teacher, uneven)
    assert read_scores(data, 2, COUNTS[2], 12)["place"].tolist() == list(range(9))


def test_the_subset_is_random(uneven: RealImages, teacher_of: MakeTeacher) -> None:
    """Always the first images of a class, which in ordered sources are alike."""
    data = collect("rded", teacher_of(Watching()), uneven, rded_images_per_class=4)
    subsets = [read_scores(data, label, COUNTS[label], 12)["place"].tolist() for label in (0, 2)]
    assert [len(set(places)) for places in subsets] == [4, 4]
    assert subsets != [[0, 1, 2, 3], [0, 1, 2, 3]]


def test_squares_have_the_areas_asked_for_and_lie_inside() -> None:
    """A share of the side instead of the area, or boxes that leave the image."""
    top, left, side = draw_squares(np.random.default_rng(0), (4000, 5), 100, (0.08, 1.0))
    assert top.shape == left.shape == side.shape == (4000, 5)
    assert top.min() == left.min() == 0
    assert (top + side).max() == (left + side).max() == 100
    assert side.min() == round(100 * 0.08**0.5)
    assert (side**2 / 1e4).mean() == pytest.approx(0.54, abs=0.01)
    room = 100 - side
    assert (top[room > 10] / room[room > 10]).mean() == pytest.approx(0.5, abs=0.02)
    _, _, tiny = draw_squares(np.random.default_rng(0), (10, 10), 4, (0.001, 0.002))
    assert (tiny == 1).all()


# Both


@pytest.mark.parametrize("kind", ["median", "rded"])
def test_the_bytes_depend_on_the_unit_alone(
    uneven: RealImages, tiny: Callable[[], Teacher], kind: str
) -> None:
    """Draws from a global generator, or a class whose scores depend on those that were scored before it."""
    first = collect(kind, tiny(), uneven)
    torch.manual_seed(77)
    assert collect(kind, tiny(), uneven) == first
    alone = collect(kind, tiny(), uneven, 2, 1)
    for name, values in read_scores(first, 2, COUNTS[2], 12).items():
        assert values.tolist() == read_scores(alone, 2, COUNTS[2], 12)[name].tolist()
    with pytest.raises(ValueError, match="class 1"):
        read_scores(alone, 1, COUNTS[1], 12)


@pytest.mark.parametrize(("kind", "name"), [("median", "probability"), ("rded", "loss")])
def test_scores_that_are_not_finite_are_refused(
    uneven: RealImages, tiny: Callable[[], Teacher], kind: str, name: str
) -> None:
    """NaN sorted to the end, and the set made of what is left."""
    teacher = tiny()
    teacher.network[0].bias.fill_(float("nan"))
    with pytest.raises(EngineError, match=rf"class 'ant' a {name} that is not finite"):
        collect(kind, teacher, uneven)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("median", {"probability": torch.zeros(8)}),
        ("median", {"probability": torch.zeros(9, 1)}),
        ("median", {"other": torch.zeros(9)}),
        ("median", {"probability": torch.zeros(9, dtype=torch.float64)}),
        ("median", {"probability": torch.full((9,), float("nan"))}),
        ("rded", {"place": torch.full((9,), 9)}),
        ("rded", {"place": torch.full((9,), -1)}),
        ("rded", {"top": torch.full((9,), -1)}),
        ("rded", {"side": torch.zeros(9, dtype=torch.int64)}),
        ("rded", {"side": torch.full((9,), 10**12)}),
        ("rded", {"left": torch.zeros(3, dtype=torch.int64)}),
        ("rded", {"left": torch.zeros(9, dtype=torch.int32)}),
        ("rded", {"loss": torch.zeros(9, 1)}),
        ("rded", {"loss": torch.full((9,), float("inf"))}),
        ("rded", {"other": torch.zeros(9)}),
    ],
)
def test_scores_of_other_images_are_refused(
    uneven: RealImages, tiny: Callable[[], Teacher], kind: str, change: dict[str, Tensor]
) -> None:
    """Catches patches outside of their image, or of images that there are not, from the end of the list."""
    whole = read_scores(collect(kind, tiny(), uneven), 2, 9, 12)
    tensors = {class_key(2, name): torch.from_numpy(values) for name, values in whole.items()}
    assert read_scores(encode(tensors), 2, 9, 12).keys() == whole.keys()
    tensors |= {class_key(2, name): values for name, values in change.items()}
    with pytest.raises(ValueError, match=r"^the scores of class 2 are not finite, or not of its 9 images$"):
        read_scores(encode(tensors), 2, 9, 12)
