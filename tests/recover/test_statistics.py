"""The alignment of one network: which layers, which statistics, against what, and with what weight."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prism_ray.config import StatisticsConfig
from prism_ray.recover.statistics import StatisticsAlignment
from prism_ray.teachers.layers import LayerReference, TeacherReference, measure_channels, measure_patches

NOTHING = TeacherReference()


def align(
    network: nn.Module, reference: TeacherReference = NOTHING, patch_size: int = 4, **values: Any
) -> StatisticsAlignment:
    return StatisticsAlignment(network, StatisticsConfig.model_validate(values), reference, patch_size)


def gaps(layer: nn.BatchNorm2d | nn.BatchNorm1d, x: Tensor) -> float:
    """||var - running_var|| + ||mean - running_mean|| of features (N, F, ...)."""
    assert layer.running_mean is not None
    assert layer.running_var is not None
    flat = x.transpose(0, 1).flatten(1)  # F, N * H * W
    mean = flat.mean(dim=1)
    variance = ((flat - mean[:, None]) ** 2).mean(dim=1)
    return float((variance - layer.running_var).norm() + (mean - layer.running_mean).norm())


def random_features(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Crossed(nn.Module):
    """Registers its layers in another order than they run."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.BatchNorm2d(3)
        self.first = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.first(x) ** 2)
        return y


# BatchNorm


def test_the_first_layer_is_the_one_that_runs_first() -> None:
    """Would catch w_1 on a layer that is written first in the network's code but runs later."""
    network = Crossed().eval()
    x = 3.0 * torch.rand(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), align(network) as alignment:
        network(x)
        total = float(alignment.pop())
        expected = 10.0 * gaps(network.first, x) + gaps(network.last, network.first(x) ** 2)
    assert total == pytest.approx(expected, rel=1e-5)


def test_the_first_weight_is_a_setting() -> None:
    """Would catch a weight of 10 that cannot be changed."""
    network = nn.Sequential(nn.BatchNorm2d(3)).eval()
    x = torch.rand(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    totals = []
    for weight in (0.0, 1.0, 4.0):
        with align(network, first_weight=weight) as alignment:
            network(x)
            totals.append(float(alignment.pop()))
    assert totals[0] == 0.0
    assert totals[2] == pytest.approx(4 * totals[1])


def test_vectors_have_statistics_over_the_batch() -> None:
    """Would catch BatchNorm1d of (N, F) features failing, or being averaged over the features."""
    layer = nn.BatchNorm1d(6).eval()
    x = random_features(8, 6)
    with align(layer, first_weight=1.0) as alignment:
        layer(x)
        assert float(alignment.pop()) == pytest.approx(gaps(layer, x), rel=1e-5)


def test_one_value_has_no_variance() -> None:
    """Would catch NaN from the unbiased variance of a single image whose map is 1x1."""
    network = nn.Sequential(nn.BatchNorm2d(3)).eval()
    x = random_features(1, 3, 1, 1).requires_grad_(True)
    with align(network, first_weight=1.0) as alignment:
        network(x)
        total = alignment.pop()
    assert float(total.detach()) == pytest.approx(3**0.5 + float(x.detach().norm()), rel=1e-5)
    total.backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_a_perfect_match_has_a_finite_gradient() -> None:
    """Would catch 0/0 in the gradient of a norm at zero: statistics that match exactly."""
    network = nn.Sequential(nn.BatchNorm2d(2)).eval()
    x = torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1).repeat(1, 2, 1, 1).requires_grad_(True)
    with align(network) as alignment:
        network(x)
        total = alignment.pop()
    assert float(total.detach()) == 0.0
    total.backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_the_target_is_the_running_statistics() -> None:
    """Would catch a target that drifts: the images' own statistics must not enter the running ones."""
    network = nn.Sequential(nn.BatchNorm2d(3)).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with align(network) as alignment:
        network(torch.rand(4, 3, 5, 5) + 7.0)
        alignment.pop()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("layers", ["bn", "bn+conv"])
@pytest.mark.parametrize(
    "network",
    [nn.Sequential(nn.Conv2d(3, 4, 1)), nn.BatchNorm2d(3, track_running_stats=False), nn.GroupNorm(1, 3)],
)
def test_networks_without_running_statistics_are_refused(network: nn.Module, layers: str) -> None:
    """Would catch a BN teacher that has nothing to match."""
    with pytest.raises(ValueError, match="BatchNorm"):
        align(network, layers=layers)


def test_nothing_is_collected_while_another_teacher_is_on_turn() -> None:
    """Would catch terms, or a moving average, of a forward pass that only classifies."""
    network = nn.Sequential(nn.BatchNorm2d(3)).eval()
    x, other = random_features(4, 3, 5, 5), random_features(4, 3, 5, 5, seed=1) + 5.0
    with align(network, momentum=0.5, first_weight=1.0) as alignment:
        alignment.active = False
        network(other)
        alignment.active = True
        network(x)
        assert float(alignment.pop()) == pytest.approx(gaps(network[0], x), rel=1e-5)


# Convolutions and patches


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("side", "patch_size"), [(16, 16), (12, 4), (14, 4), (7, 16), (1, 4), (33, 16), (5, 1)]
)
def test_patches_are_blocks_of_pixels(side: int, patch_size: int) -> None:
    """Would catch a grid of 16 x 16 cells instead of cells of 16 x 16 pixels, maps that are cut or padded to
    fit, rows taken for columns, or blocks that are pooled by channel."""
    features = random_features(3, 2, side, side)
    mean, var = measure_patches(features, patch_size)
    per_side = -(-side // patch_size)
    maps = F.interpolate(features, size=(per_side * patch_size,) * 2, mode="bilinear", align_corners=False)
    assert mean.shape == var.shape == (per_side**2,)
    for row in range(per_side):
        for column in range(per_side):
            block = maps[:, :, row * patch_size : (row + 1) * patch_size]
            values = block[:, :, :, column * patch_size : (column + 1) * patch_size].flatten()
            place = row * per_side + column
            assert float(mean[place]) == pytest.approx(float(values.mean()), abs=1e-12)
            assert float(var[place]) == pytest.approx(
                float(((values - values.mean()) ** 2).mean()), abs=1e-12
            )


def test_patches_of_maps_that_are_not_square_are_refused() -> None:
    """Would catch patches of a map that is stretched in one direction, without a word."""
    with pytest.raises(ValueError, match="square maps, got 4 x 6"):
        measure_patches(torch.zeros(1, 1, 4, 6), 2)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("side", [8, 7])
def test_gradients_flow_through_patches(side: int) -> None:
    """Would catch a patch statistic that is cut off from the pixels, or a resize that leads them astray."""
    features = random_features(2, 3, side, side).requires_grad_(True)
    weights = torch.rand(2, 4, generator=torch.Generator().manual_seed(1))

    def value(features: Tensor) -> Tensor:
        return (torch.stack(measure_patches(features, 4)) * weights).sum()

    assert torch.autograd.gradcheck(value, features)
    (gradient,) = torch.autograd.grad(value(features), features)
    assert (gradient != 0).all()


def test_channels_are_pooled_over_images_and_pixels() -> None:
    """Would catch statistics of each image, or unbiased ones."""
    mean, var = measure_channels(torch.tensor([[[[1.0, 3.0]]], [[[5.0, 7.0]]]]))
    assert (mean.tolist(), var.tolist()) == ([4.0], [5.0])


def convolution_and_bn() -> tuple[nn.Sequential, TeacherReference]:
    """A network whose convolution runs first, and what real images say of both layers."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5)).eval().requires_grad_(False)

    def reference(seed: int, features: int, patches: int) -> LayerReference:
        mean, var, patch_mean, patch_var = (
            random_features(count, seed=seed + place)
            for place, count in enumerate([features] * 2 + [patches] * 2)
        )
        if patches == 0:
            return LayerReference(mean, var.abs())
        return LayerReference(mean, var.abs(), patch_mean, patch_var.abs())

    classes = {
        label: {"0": reference(10 * label, 3, 4), "1": reference(10 * label + 5, 5, 0)} for label in range(3)
    }
    return network, TeacherReference({"0": reference(90, 3, 4), "1": reference(95, 5, 0)}, classes)


def parts(features: Tensor, target: LayerReference) -> list[Tensor]:
    found = [*measure_channels(features), *measure_patches(features, 4)]
    return [(a - b).norm() for a, b in zip(found, target.pairs, strict=False)]


@pytest.mark.usefixtures("float64")
def test_convolutions_are_matched_with_real_images_and_run_first() -> None:
    """Would catch a convolution whose output is measured, w_1 kept for the first BN layer, or one of the four
    norms left out."""
    network, reference = convolution_and_bn()
    x = random_features(4, 3, 8, 8)
    with align(network, reference, layers="bn+conv") as alignment:
        network(x)
        total = float(alignment.pop())
    assert len(parts(x, reference.layers["0"])) == 4
    expected = 10.0 * sum(parts(x, reference.layers["0"])) + gaps(network[1], network[0](x))
    assert total == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.usefixtures("float64")
def test_without_convolutions_their_statistics_do_not_matter() -> None:
    """Would catch `layers: bn` that matches what was collected for other sets."""
    network, reference = convolution_and_bn()
    x = random_features(4, 3, 8, 8)
    totals = []
    for given in (NOTHING, reference):
        with align(network, given) as alignment:
            network(x)
            totals.append(float(alignment.pop()))
    assert totals[0] == totals[1] == pytest.approx(10.0 * gaps(network[1], network[0](x)), rel=1e-12)


# Category-aware matching


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("layers", ["bn", "bn+conv"])
@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_a_share_of_the_gaps_is_against_the_classes(share: float, layers: str) -> None:
    """Would catch targets that are mixed in place of gaps, BN layers left out, classes that weigh alike
    although they have unequal numbers of images, or labels that are those of an earlier batch."""
    network, reference = convolution_and_bn()
    x, labels = random_features(3, 3, 8, 8), [2, 0, 2]

    def mean_target(layer: str) -> LayerReference:
        rows = [reference.classes[label][layer].pairs for label in labels]
        return LayerReference(*(sum(values) / 3 for values in zip(*rows, strict=True)))

    hidden = network[0](x)
    convolution = (1 - share) * sum(parts(x, reference.layers["0"])) + share * sum(parts(x, mean_target("0")))
    batch_norm = (1 - share) * gaps(network[1], hidden) + share * sum(parts(hidden, mean_target("1")))
    expected = 10.0 * convolution + batch_norm if layers == "bn+conv" else 10.0 * batch_norm
    with align(network, reference, layers=layers, class_share=share) as alignment:
        alignment.set_labels(torch.tensor([1]))
        alignment.set_labels(torch.tensor(labels))
        network(x)
        assert float(alignment.pop()) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("side", [1, 4])
def test_a_batch_of_one_image_has_statistics_of_its_pixels(side: int) -> None:
    """Would catch an unbiased variance, which is 0 / 0 for one image of 1 x 1 pixels: class-wise batches at
    one image per class that end as not finite."""
    network = nn.Sequential(nn.BatchNorm2d(3)).eval()
    of_class = LayerReference(torch.tensor([0.5, -1.0, 2.0]), torch.tensor([0.3, 1.0, 2.0]))
    x = random_features(1, 3, side, side).requires_grad_(True)
    with align(network, TeacherReference({}, {7: {"0": of_class}}), class_share=1.0) as alignment:
        alignment.set_labels(torch.tensor([7]))
        network(x)
        total = alignment.pop()
    expected = 10.0 * sum(parts(x.detach(), of_class)[:2])
    assert total.item() == pytest.approx(float(expected), rel=1e-12)
    (gradient,) = torch.autograd.grad(total, x)
    assert torch.isfinite(gradient).all()
    if side == 1:  # no variance, so the gradient is that of the means alone
        distance = x.detach().flatten() - of_class.mean
        torch.testing.assert_close(gradient.flatten(), 10.0 * distance / distance.norm())


# The moving average


@pytest.mark.usefixtures("float64")
def test_the_average_holds_the_past_and_its_slope_is_the_presents() -> None:
    """Would catch an average from 0, the weights of old and new exchanged, a slope of 1 - momentum or one
    into the past, and an average of the losses instead of the statistics."""
    network = nn.Sequential(nn.BatchNorm2d(2)).eval()
    batches = [random_features(4, 2, 3, 3, seed=seed) + seed for seed in range(4)]
    past: list[Tensor] = []
    with align(network, momentum=0.4, first_weight=1.0) as alignment:
        for batch in batches:
            now = list(measure_channels(batch))
            past = [0.4 * old + 0.6 * new for old, new in zip(past or now, now, strict=True)]
            expected = past[0].norm() + (past[1] - 1.0).norm()
            x = batch.clone().requires_grad_(True)
            network(x)
            total = alignment.pop()
            assert total.item() == pytest.approx(float(expected), rel=1e-12)
            (gradient,) = torch.autograd.grad(total, x)
            # of each norm, the direction that the average has and the slope that the batch has
            direction = [past[0] / past[0].norm(), (past[1] - 1.0) / (past[1] - 1.0).norm()]
            mean = now[0][:, None, None]
            slope = direction[0][:, None, None] / 36 + direction[1][:, None, None] * 2 * (batch - mean) / 36
            torch.testing.assert_close(gradient, slope, rtol=0, atol=1e-12)


@pytest.mark.usefixtures("float64")
def test_the_average_ends_with_the_context() -> None:
    """Would catch a batch whose images depend on the batches that the same process made before."""
    network = nn.Sequential(nn.BatchNorm2d(2)).eval()
    alignment = align(network, momentum=0.4)
    x, totals = random_features(4, 2, 3, 3), []
    for _ in range(2):
        with alignment:
            network(x)
            totals.append(float(alignment.pop()))
            network(x + 9.0)
    assert totals[0] == totals[1]


# scale


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_relative_divides_by_the_norms_of_the_targets(share: float) -> None:
    """Would catch a divisor without the first layer's weight or the classes' share, one that adds up from
    step to step, or one of the images' own statistics, which could shrink it."""
    network, reference = convolution_and_bn()
    labels = torch.tensor([2, 0, 2])
    values: dict[str, Any] = {"layers": "bn+conv", "class_share": share}

    def size(target: LayerReference) -> float:
        return float(sum(part.norm() for part in target.pairs))

    of_classes = reference.average(labels)
    real = {"0": size(reference.layers["0"]), "1": math.sqrt(5)}  # running mean 0 and variance 1
    mixed = {name: (1 - share) * real[name] + share * size(of_classes[name]) for name in real}
    for x in (random_features(3, 3, 8, 8), 7.0 * random_features(3, 3, 8, 8, seed=1)):
        totals = {}
        for scale in ("sum", "relative"):
            with align(network, reference, scale=scale, **values) as alignment:
                alignment.set_labels(labels)
                for _ in range(2):
                    network(x)
                    totals[scale] = float(alignment.pop())
        assert totals["relative"] == pytest.approx(
            totals["sum"] / (10.0 * mixed["0"] + mixed["1"]), rel=1e-12
        )


def test_relative_does_not_grow_with_the_depth() -> None:
    """Would catch a scale that leaves deep teachers weighing more: twice the same layers, the same term."""
    layer = nn.BatchNorm2d(3).eval()
    x = random_features(4, 3, 5, 5)
    totals = []
    for network in (nn.Sequential(nn.Identity(), layer), nn.Sequential(layer, nn.BatchNorm2d(3).eval())):
        with torch.no_grad(), align(network, scale="relative", first_weight=1.0) as alignment:
            network(x)
            totals.append(float(alignment.pop()))
    assert totals[1] == pytest.approx(totals[0], rel=1e-4)
