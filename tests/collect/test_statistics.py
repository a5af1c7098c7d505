"""Statistics of layers over real images, and shards of them merged."""

from collections.abc import Callable

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as TF

from prism_ray.collect.statistics import (
    CollectedStatistics,
    Moments,
    check_layers,
    collect_statistics,
    read_reference,
)
from prism_ray.config import CollectConfig
from prism_ray.crops import CropNumbers
from prism_ray.data import RealImages
from prism_ray.data.base import ArrayImages
from prism_ray.errors import DataError, EngineError
from prism_ray.seeds import derive_seed
from prism_ray.stages.collect import CollectUnit
from prism_ray.teachers.layers import LayerReference
from prism_ray.teachers.teacher import Teacher

CPU = torch.device("cpu")
WHOLE = {"crop_scale": (1.0, 1.0), "flip": False}  # every image is seen as it is

MakeTeacher = Callable[..., Teacher]


def collect(
    teacher: Teacher,
    data: RealImages,
    first: int = 0,
    count: int | None = None,
    seed: int = 7,
    **settings: object,
) -> CollectedStatistics:
    count = len(data.class_names) - first if count is None else count
    unit = CollectUnit("statistics", teacher.name, first, count, seed)
    config = CollectConfig.model_validate({"batch_size": 3, "patch_size": 4} | settings)
    return collect_statistics(unit, teacher, data, config, CPU)


def constant(values: list[int], labels: list[int], size: int = 8) -> ArrayImages:
    """Images of one grey level each."""
    pixels = np.broadcast_to(np.array(values, np.uint8)[:, None, None], (len(values), size, size))
    names = tuple(f"class {label}" for label in range(max(labels) + 1))
    return ArrayImages("grey", names, {"train": pixels}, {"train": np.array(labels)}, size)


# Against a plain calculation


def inputs_of_layers(teacher: Teacher, data: RealImages, indices: np.ndarray) -> dict[str, list[Tensor]]:
    """What each BatchNorm layer and convolution gets when it is shown all images at once, run by run."""
    seen: dict[str, list[Tensor]] = {}
    handles = [
        layer.register_forward_hook(
            lambda _, inputs, __, name=name: seen.setdefault(name, []).append(inputs[0].double())
        )
        for name, layer in teacher.network.named_modules()
        if isinstance(layer, nn.Conv2d | nn.BatchNorm2d)
    ]
    pixels = torch.from_numpy(data.read("train", indices)) / 255.0
    teacher.network(teacher.preprocessing.apply(pixels))
    for handle in handles:
        handle.remove()
    return seen


def plain_statistics(runs: list[Tensor], patch_size: int) -> tuple[Tensor, ...]:
    """Mean and variance of channels and of patches, cell by cell, over all runs of the layer."""
    channels = torch.cat([x.transpose(0, 1).flatten(1) for x in runs], dim=1)  # F, values
    cells: list[Tensor] = []
    per_side = -(-runs[0].shape[-1] // patch_size)
    size = per_side * patch_size
    maps = torch.cat([F.interpolate(x, size=(size, size), mode="bilinear").flatten(0, 1) for x in runs])
    for top in range(0, size, patch_size):
        for left in range(0, size, patch_size):
            cells.append(maps[:, top : top + patch_size, left : left + patch_size].flatten())
    patches = torch.stack(cells)
    return (
        channels.mean(1),
        channels.var(1, correction=0),
        patches.mean(1),
        patches.var(1, correction=0),
    )


def check(found: LayerReference, runs: list[Tensor], patch_size: int) -> None:
    expected = plain_statistics(runs, patch_size)
    for values, wanted in zip(found.pairs, expected, strict=False):
        assert values.dtype == torch.float32
        torch.testing.assert_close(values.double(), wanted, rtol=1e-4, atol=1e-5)


def test_statistics_of_a_real_network_are_those_of_all_images_at_once(
    digits: RealImages, resnet: Teacher
) -> None:
    """Means of batches' means, variances without the part between batches, layers left out or mixed up."""
    per_class = 4
    collected = collect(resnet, digits, 2, 3, images_per_class=per_class, patch_size=16, **WHOLE)
    found = read_reference([collected.totals], [collected.classes], [3], CPU)
    shown = [digits.train_indices(label)[:per_class] for label in (2, 3, 4)]
    everything = inputs_of_layers(resnet, digits, np.concatenate(shown))
    one_class = inputs_of_layers(resnet, digits, shown[1])
    assert found.layers.keys() == found.classes[3].keys() == everything.keys()
    assert len(everything) > 10
    for name, runs in everything.items():
        is_convolution = isinstance(resnet.network.get_submodule(name), nn.Conv2d)
        assert (found.layers[name].patch_mean is not None) == is_convolution
        check(found.layers[name], runs, 16)
        check(found.classes[3][name], one_class[name], 16)


def test_classes_weigh_by_their_images(uneven: RealImages, tiny: Callable[[], Teacher]) -> None:
    """A mean of classes' means: the class of 2 images counts like that of 9."""
    teacher = tiny()
    collected = collect(teacher, uneven, **WHOLE)
    found = read_reference([collected.totals], [], [], CPU)
    for name, runs in inputs_of_layers(teacher, uneven, np.arange(16)).items():
        check(found.layers[name], runs, 4)


def test_the_variance_of_a_class_is_also_between_its_images(teacher_of: MakeTeacher) -> None:
    """The mean of within-image variances, as public code has it: 0 for images of one colour each."""
    data = constant([0, 255], [0, 0])
    teacher = teacher_of(nn.Sequential(nn.Conv2d(3, 2, 1)), 8)
    collected = collect(teacher, data, **WHOLE)
    row = read_reference([collected.totals], [collected.classes], [0], CPU).classes[0]["0"]
    std = torch.tensor(teacher.preprocessing.std)
    torch.testing.assert_close(row.var, 0.25 / std**2)
    assert row.patch_var is not None
    assert (row.patch_var > 0.5).all()


class Repeated(nn.Module):
    """Its convolution runs twice, the second time on what it made."""

    def __init__(self, pool: int = 1) -> None:
        super().__init__()
        self.never = nn.BatchNorm2d(3)
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.pool = nn.AvgPool2d(pool)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(self.pool(self.conv(x)))
        return y


def test_a_layer_that_runs_twice_adds_both(uneven: RealImages, teacher_of: MakeTeacher) -> None:
    """Only the last run of a shared layer, or a layer that never runs spoiling the file."""
    torch.manual_seed(0)
    teacher = teacher_of(Repeated())
    collected = collect(teacher, uneven, **WHOLE)
    found = read_reference([collected.totals], [collected.classes], [0], CPU)
    assert found.layers.keys() == {"conv"}
    runs = inputs_of_layers(teacher, uneven, np.arange(16))["conv"]
    assert len(runs) == 2
    check(found.layers["conv"], runs, 4)


def test_patches_of_two_sizes_cannot_be_pooled(uneven: RealImages, teacher_of: MakeTeacher) -> None:
    """One patch broadcast over nine without a word."""
    with pytest.raises(EngineError, match=r"convolution conv runs on maps of 9 and of 1 patches"):
        collect(teacher_of(Repeated(pool=3)), uneven, **WHOLE)


class Choosing(nn.Module):
    """Its second layer runs for dark images only."""

    def __init__(self) -> None:
        super().__init__()
        self.all = nn.BatchNorm2d(3)
        self.dark = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.all(x)
        return self.dark(y) if x.mean() < 0 else y


def test_a_layer_that_runs_for_some_classes_only_is_named(teacher_of: MakeTeacher) -> None:
    """Rows of one class read as those of the next, where a layer has fewer of them than there are."""
    data = constant([0, 255, 0], [0, 1, 2])
    with pytest.raises(
        EngineError,
        match=r"runs the layers dark for some classes and not for others, such as class 'class 1'",
    ):
        collect(teacher_of(Choosing(), 8), data, **WHOLE)
    collect(teacher_of(Choosing(), 8), data, 1, 1, **WHOLE)


def test_layers_of_vectors_and_a_network_that_is_one_layer(
    uneven: RealImages, teacher_of: MakeTeacher
) -> None:
    """BatchNorm1d after pooling, and the empty name of a root layer lost in a key."""
    vectors = teacher_of(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(3)))
    root = teacher_of(nn.BatchNorm2d(3))
    for teacher, name in ((vectors, "2"), (root, "")):
        collected = collect(teacher, uneven, **WHOLE)
        found = read_reference([collected.totals], [collected.classes], [2], CPU)
        assert found.layers.keys() == found.classes[2].keys() == {name}
        assert found.layers[name].pairs[0].shape == (3,)


# Which images are seen, and how


class Watching(nn.Module):
    """Keeps what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.BatchNorm2d(3)
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        y: Tensor = self.layer(x)
        return y


def test_each_image_is_seen_once_class_by_class(uneven: RealImages, teacher_of: MakeTeacher) -> None:
    """Images twice, batches of mixed classes, or batches over batch_size."""
    teacher = teacher_of(Watching())
    collect(teacher, uneven, 0, 2, batch_size=3, **WHOLE)
    seen = teacher.network.seen
    assert [len(batch) for batch in seen] == [2, 3, 2]
    order = np.concatenate([uneven.train_indices(0), uneven.train_indices(1)])
    pixels = torch.from_numpy(uneven.read("train", order)) / 255.0
    torch.testing.assert_close(torch.cat(seen), teacher.preprocessing.apply(pixels))


def test_no_more_than_images_per_class_are_seen(uneven: RealImages, teacher_of: MakeTeacher) -> None:
    """A limit that is ignored, or that takes others than the first."""
    teacher = teacher_of(Watching())
    collect(teacher, uneven, images_per_class=3, **WHOLE)
    assert [len(batch) for batch in teacher.network.seen] == [3, 2, 3]
    first = torch.from_numpy(uneven.read("train", uneven.train_indices(2)[:3])) / 255.0
    torch.testing.assert_close(teacher.network.seen[2], teacher.preprocessing.apply(first))


def shown_ramps(teacher: Teacher, **settings: object) -> Tensor:
    """The middle rows of views of 40 equal images that brighten from 0 at the left to 255, (40, W)."""
    ramp = np.broadcast_to(np.linspace(0, 255, 16).astype(np.uint8), (40, 16, 16))
    data = ArrayImages("ramp", ("only",), {"train": ramp}, {"train": np.zeros(40, np.int64)}, 16)
    collect(teacher, data, batch_size=50, **settings)
    seen = torch.cat(teacher.network.seen)
    mean, std = teacher.preprocessing.mean_std(seen)
    return (seen * std + mean)[:, 0, 8]


def test_half_of_the_images_are_mirrored(teacher_of: MakeTeacher) -> None:
    """No flip, or one flip for the whole batch."""
    rows = shown_ramps(teacher_of(Watching(), 16), crop_scale=(1.0, 1.0))
    mirrored = rows[:, 0] > rows[:, -1]
    assert 8 < int(mirrored.sum()) < 32
    torch.testing.assert_close(rows[mirrored], rows[~mirrored][:1].flip(1).expand(int(mirrored.sum()), -1))


def test_each_image_has_a_crop_of_its_own(teacher_of: MakeTeacher) -> None:
    """No crop, or one crop for the whole batch."""
    rows = shown_ramps(teacher_of(Watching(), 16), crop_scale=(0.2, 0.3), flip=False)
    spread = rows[:, -1] - rows[:, 0]
    assert (spread > 0.2).all()
    assert (spread < 0.7).all()
    assert len({round(float(first), 3) for first in rows[:, 0]}) > 5


@pytest.mark.parametrize("batch_size", [3, 100])
def test_views_of_originals_are_what_torchvision_cuts_out_of_the_files(
    pictures: RealImages,
    teacher_of: MakeTeacher,
    original_of: Callable[[RealImages, int], Image.Image],
    batch_size: int,
) -> None:
    """Crops of the square, a box of another picture, a flip of the box, or draws that depend on the batch."""
    teacher = teacher_of(Watching())
    collect(teacher, pictures, 1, 1, batch_size=batch_size, crop_from="original", crop_scale=(0.2, 1.0))
    mean, std = teacher.preprocessing.mean_std(torch.empty(0))
    seen = torch.cat(teacher.network.seen) * std + mean
    indices = pictures.train_indices(1)
    rng = np.random.default_rng(derive_seed(7, "views", 1))
    numbers = CropNumbers.draw(rng, len(indices))
    flips = rng.random(len(indices)) < 0.5
    assert len(seen) == len(indices)
    for row, index in enumerate(indices):
        picture = original_of(pictures, int(index))
        boxes = numbers[row : row + 1].boxes(picture.height, picture.width, (0.2, 1.0))
        box = [int(values[0]) for values in (boxes.top, boxes.left, boxes.height, boxes.width)]
        crop = TF.resized_crop(picture, *box, [12, 12], TF.InterpolationMode.BILINEAR, antialias=True)
        pixels = torch.from_numpy(np.array(crop)).permute(2, 0, 1) / 255.0
        torch.testing.assert_close(seen[row], pixels.flip(2) if flips[row] else pixels, rtol=0, atol=1e-5)


# Shards and bytes


def test_the_bytes_depend_on_the_unit_alone(uneven: RealImages, tiny: Callable[[], Teacher]) -> None:
    """Crops from a global generator, or anything else of the process in the files."""
    first = collect(tiny(), uneven)
    torch.manual_seed(123)
    np.random.seed(5)
    assert collect(tiny(), uneven) == first
    other = collect(tiny(), uneven, seed=8)
    assert other.totals != first.totals
    assert other.classes != first.classes


def test_shards_merge_into_what_one_shard_says(uneven: RealImages, tiny: Callable[[], Teacher]) -> None:
    """Statistics that depend on classes_per_unit beyond the crops that a shard draws."""
    teacher = tiny()
    whole = collect(teacher, uneven)
    parts = [collect(teacher, uneven, first, 1) for first in range(3)]
    one = read_reference([whole.totals], [whole.classes], range(3), CPU)
    merged = read_reference((part.totals for part in parts), (part.classes for part in parts), range(3), CPU)
    for name, layer in one.layers.items():
        for values, wanted in zip(merged.layers[name].pairs, layer.pairs, strict=True):
            torch.testing.assert_close(values, wanted, rtol=1e-6, atol=1e-7)
    for label in range(3):
        for name, layer in one.classes[label].items():
            for values, wanted in zip(merged.classes[label][name].pairs, layer.pairs, strict=True):
                assert torch.equal(values, wanted)


def test_only_the_classes_asked_for_are_loaded(uneven: RealImages, tiny: Callable[[], Teacher]) -> None:
    """All 1000 classes in memory for a batch of 8 of them, or a class that is not there passed over."""
    teacher = tiny()
    parts = [collect(teacher, uneven, first, count) for first, count in ((0, 2), (2, 1))]
    totals = [part.totals for part in parts]
    found = read_reference(totals, [parts[0].classes], [1, 1], CPU)
    assert found.classes.keys() == {1}
    averaged = found.average(torch.tensor([1, 1]))
    torch.testing.assert_close(averaged["0"].mean, found.classes[1]["0"].mean)
    with pytest.raises(ValueError, match="classes 2, 5"):
        read_reference(totals, [parts[0].classes], [1, 2, 5], CPU)


def test_shards_of_two_networks_are_refused(uneven: RealImages, teacher_of: MakeTeacher) -> None:
    """Files of different networks added up."""
    one = collect(teacher_of(nn.Sequential(nn.BatchNorm2d(3))), uneven, 0, 1)
    two = collect(teacher_of(nn.Sequential(nn.Identity(), nn.BatchNorm2d(3))), uneven, 1, 1)
    with pytest.raises(ValueError, match="not of one network"):
        read_reference([one.totals, two.totals], [], [], CPU)


# Numbers


def test_a_variance_is_never_negative() -> None:
    """The difference of two large numbers, a hair below zero, and its square root NaN."""
    for value in (0.1, 1e4 / 3, 7e5 / 9):
        part = Moments.of(torch.full((50,), value) + torch.rand(50), torch.zeros(50), 7)
        total = part
        for _ in range(100):
            total = total + part
        _, var = total.mean_var()
        assert (var >= 0).all()


def test_a_small_variance_around_a_large_mean_survives(teacher_of: MakeTeacher) -> None:
    """Sums in float32: the variance of values around 1000 is lost in the rounding."""
    network = nn.Sequential(nn.Conv2d(3, 1, 1), nn.BatchNorm2d(1))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([0.4, 0.0, 0.0]).reshape(1, 3, 1, 1))
        network[0].bias.fill_(1000.0)
    data = constant([0, 255, 0, 255, 51], [0, 0, 0, 0, 0])
    collected = collect(teacher_of(network, 8), data, **WHOLE)
    found = read_reference([collected.totals], [], [], CPU).layers["1"]
    grey = np.array([0, 1, 0, 1, 0.2])
    assert float(found.mean) == pytest.approx(1000.0 + grey.mean() - 0.2, abs=1e-4)
    assert float(found.var) == pytest.approx(grey.var(), rel=1e-3)


def test_no_hook_stays(uneven: RealImages, tiny: Callable[[], Teacher]) -> None:
    """A teacher that goes on adding up statistics in later units."""
    teacher = tiny()
    collect(teacher, uneven)
    assert all(not layer._forward_pre_hooks for layer in teacher.network.modules())


def test_statistics_that_are_not_finite_are_refused(uneven: RealImages, tiny: Callable[[], Teacher]) -> None:
    """NaN committed as the target of a whole image set."""
    teacher = tiny()
    teacher.network[0].bias.fill_(float("nan"))
    with pytest.raises(EngineError, match=r"collect/statistics/tiny/c00000: .* layer 1 of teacher tiny"):
        collect(teacher, uneven)


def test_a_class_without_images_is_named(tiny: Callable[[], Teacher]) -> None:
    """Division by zero instead of a word."""
    data = constant([10, 20, 30], [0, 0, 2], 12)
    with pytest.raises(DataError, match="'class 1' has no training image"):
        collect(tiny(), data)


# From elsewhere


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda held: held["1/sum"].fill_(float("nan")), "moments of layer '1' are not finite"),
        (lambda held: held["1/squares"].fill_(float("inf")), "moments of layer '1' are not finite"),
        (lambda held: held["1/count"].fill_(0), "moments of layer '1' are not finite"),
        (lambda held: held.update({"1/sum": torch.zeros(1, dtype=torch.float64)}), "or not of one shape"),
        (lambda held: held.update({"1/sum": torch.zeros(3)}), "or not of one shape"),
        (lambda held: held.update({"1/sum": torch.zeros((), dtype=torch.float64)}), "or not of one shape"),
        (lambda held: held.pop("1/count"), "layer '1' has the figures squares, sum"),
        (lambda held: held.update({"x": torch.zeros(1)}), "layer '' has the figures x"),
    ],
)
def test_totals_that_make_no_sense_are_refused(
    uneven: RealImages,
    tiny: Callable[[], Teacher],
    change: Callable[[dict[str, Tensor]], object],
    problem: str,
) -> None:
    """Catches NaN as what images are matched with, a division by 0, and one mean spread over all channels."""
    collected = collect(tiny(), uneven)
    held = safetensors.torch.load(collected.totals)
    change(held)
    with pytest.raises(ValueError, match=problem):
        read_reference([safetensors.torch.save(held)], [], [], CPU)
    with pytest.raises(ValueError, match=r"."):
        read_reference([collected.totals[:-7]], [], [], CPU)


def as_earlier(classes: bytes) -> dict[str, Tensor]:
    """The tensors of a shard as versions before the stacked layout wrote them: one for each class."""
    held = safetensors.torch.load(classes)
    labels = held.pop("labels").tolist()
    rows = {f"{label:05d}/{key}": held[key][row] for row, label in enumerate(labels) for key in held}
    return {key: values.clone() for key, values in rows.items()}


def test_shards_of_earlier_versions_are_read(uneven: RealImages, tiny: Callable[[], Teacher]) -> None:
    """Catches a run that was collected in part before an upgrade, and cannot be gone on with, or finds
    the statistics of other classes."""
    shards = [collect(tiny(), uneven, first, count).classes for first, count in ((0, 2), (2, 1))]
    earlier = [safetensors.torch.save(as_earlier(shard)) for shard in shards]
    wanted = read_reference([], shards, [0, 1, 2], CPU).classes
    for mixed in (earlier, [shards[0], earlier[1]], [earlier[0], shards[1]]):
        found = read_reference([], mixed, [0, 1, 2], CPU).classes
        for label, row in wanted.items():
            assert list(found[label]) == list(row)
            for name, layer in row.items():
                assert len(found[label][name].pairs) == len(layer.pairs)
                assert all(map(torch.equal, found[label][name].pairs, layer.pairs))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda held: held.pop("00001/1/var"), "do not have the same layers"),
        (lambda held: held.update({"00001/1/var": torch.zeros(1)}), "do not have the same layers"),
        (lambda held: held["00001/1/var"].fill_(-1.0), "of layer '1' are missing, not finite"),
        (lambda held: held["00001/1/mean"].fill_(float("nan")), "of layer '1' are missing, not finite"),
        (lambda held: held.update(x=torch.zeros(1)), "'x' does not name a class"),
        (lambda held: held.update({f"{10**30}/1/var": torch.zeros(4)}), "do not have the same layers"),
        (lambda held: [held.pop(key) for key in list(held) if key.startswith("00001")], "classes 1$"),
        (lambda held: held.clear(), "classes 1$"),
    ],
)
def test_shards_of_earlier_versions_that_make_no_sense_are_refused(
    uneven: RealImages,
    tiny: Callable[[], Teacher],
    change: Callable[[dict[str, Tensor]], object],
    problem: str,
) -> None:
    """Catches an error of torch's, and NaN as what images are matched with."""
    held = as_earlier(collect(tiny(), uneven).classes)
    change(held)
    with pytest.raises(ValueError, match=problem):
        read_reference([], [safetensors.torch.save(held)], [1], CPU)


NO_SENSE = "^mean and variance of layer '1' are missing, not finite, or not of one shape$"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda held: held.pop("1/var"), NO_SENSE),
        (lambda held: held.update({"1/var": torch.zeros(3, 1)}), NO_SENSE),
        (lambda held: held["1/var"].fill_(-1.0), NO_SENSE),
        (lambda held: held["1/var"].fill_(float("inf")), NO_SENSE),
        (lambda held: held["1/mean"].fill_(float("nan")), NO_SENSE),
        (lambda held: held.update({"1/mean": torch.zeros(3, 4, dtype=torch.float64)}), NO_SENSE),
        (lambda held: held.update({"1/mean": torch.zeros(3), "1/var": torch.zeros(3)}), NO_SENSE),
        (
            lambda held: held.update({name: torch.zeros(3, 0, 10**15) for name in ("1/mean", "1/var")}),
            NO_SENSE,
        ),
        (lambda held: held.update({"1/patch_mean": torch.zeros(3, 4)}), NO_SENSE),
        (
            lambda held: held.update({"1/mean": torch.zeros(2, 4)}),
            "^1/mean does not have the 3 classes of its",
        ),
        (lambda held: held.update({"1/mean": torch.zeros(())}), "^1/mean does not have the 3 classes of its"),
        (lambda held: held.update(x=torch.zeros(3)), "of layer '' are missing"),
        (lambda held: held.update(labels=torch.tensor([0, 1, 1])), "labels of the classes are not"),
        (lambda held: held.update(labels=torch.zeros(3)), "labels of the classes are not"),
        (lambda held: held.update(labels=torch.zeros((3, 1), dtype=torch.int64)), "labels of the classes"),
        (lambda held: held.update(labels=torch.tensor([0, 4, 2])), "of the classes 1$"),
        (lambda held: held.pop("labels"), "does not name a class"),
    ],
)
def test_class_statistics_that_make_no_sense_are_refused(
    uneven: RealImages,
    tiny: Callable[[], Teacher],
    change: Callable[[dict[str, Tensor]], object],
    problem: str,
) -> None:
    """Catches a negative variance, a row of another class, and a KeyError in the middle of a batch."""
    collected = collect(tiny(), uneven)
    held = safetensors.torch.load(collected.classes)
    change(held)
    with pytest.raises(ValueError, match=problem):
        read_reference([], [safetensors.torch.save(held)], [1], CPU)
    for length in (0, 7, 100, len(collected.classes) - 1):
        with pytest.raises(ValueError, match="not a complete safetensors file"):
            read_reference([], [collected.classes[:length]], [1], CPU)


def test_statistics_are_of_the_network(
    uneven: RealImages, tiny: Callable[[], Teacher], resnet: Teacher
) -> None:
    """Catches statistics of another network, broadcast or passed over."""
    teacher = tiny()
    layers = read_reference([collect(teacher, uneven).totals], [], [], CPU).layers
    check_layers(layers, teacher.network)
    with pytest.raises(ValueError, match=r"^the statistics of layer '.*' are not of the network's"):
        check_layers(layers, resnet.network)
    one = LayerReference(torch.zeros(1), torch.ones(1))
    with pytest.raises(ValueError, match=r"^the statistics of layer '1' are not of the network's"):
        check_layers(layers | {"1": one}, teacher.network)
