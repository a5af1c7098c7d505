"""Data densification: its value by the formula, its slope by the formula, and what it leaves alone."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from prism_ray.recover.densify import densification


def places_of(labels: list[int]) -> list[Tensor]:
    return [
        torch.tensor([k for k, other in enumerate(labels) if other == label]) for label in sorted(set(labels))
    ]


def pixels(count: int, size: int, channels: int = 3, spread: float = 0.05) -> Tensor:
    """Images whose Gram matrices have eigenvalues near each other, so that the softmax is not one-hot."""
    generator = torch.Generator().manual_seed(size)
    return spread * torch.randn(count, channels, size, size, generator=generator)


def plain(x: Tensor, labels: list[int]) -> tuple[float, Tensor]:
    """The value, and the slope with respect to the eigenvalues carried on to the pixels by hand.

    Of l = eigenvalues of X X^T with vectors V, d l_k / d X = 2 v_k v_k^T X; of KL(q || softmax(l)) with q
    held constant, d / d l = softmax(l) - q.
    """
    total, gradient = 0.0, torch.zeros_like(x)
    pooled = F.adaptive_avg_pool2d(x, 32) if x.shape[2] > 32 else x
    slope = torch.zeros_like(pooled)
    for places in places_of(labels):
        rows = pooled[places].flatten(1)
        values, vectors = torch.linalg.eig(rows @ rows.T)
        eigenvalues, vectors = values.real, vectors.real
        weights = [math.exp(value - float(eigenvalues.max())) for value in eigenvalues]
        p = torch.tensor([weight / sum(weights) for weight in weights])
        weights = [math.exp((value - float(eigenvalues.max())) / 4) for value in eigenvalues]
        q = torch.tensor([weight / sum(weights) for weight in weights])
        total += float((q * (q.log() - p.log())).sum())
        by_gram = vectors @ torch.diag(p - q) @ vectors.T
        slope[places] = (2 * by_gram @ rows).reshape(pooled[places].shape)
    if x.shape[2] > 32:
        size = x.shape[2] // 32  # only whole multiples are asked here
        gradient = slope.repeat_interleave(size, 2).repeat_interleave(size, 3) / size**2
    else:
        gradient = slope
    return total, gradient


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("size", [8, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_value_and_slope(size: int, channels: int) -> None:
    """Would catch the two softmaxes exchanged, a slope through the tempered one, a mean over classes or
    images, the factor 16 of tempered losses, and pooling by other cells or to another size."""
    labels = [1, 0, 1, 1, 0, 2]
    x = pixels(6, size, channels).requires_grad_(True)
    value = densification(x, places_of(labels))
    total, gradient = plain(x.detach(), labels)
    assert value.item() == pytest.approx(total, rel=1e-9)
    assert value.item() > 1e-5
    (ours,) = torch.autograd.grad(value, x)
    torch.testing.assert_close(ours, gradient, rtol=0, atol=1e-10)
    assert (ours[5] == 0).all()  # a class of one image has nothing to keep apart
    assert (ours[:5].flatten(1).norm(dim=1) > 0).all()


@pytest.mark.usefixtures("float64")
def test_pools_sizes_that_are_not_multiples() -> None:
    """Would catch a plain resize in place of averages over cells."""
    x = pixels(3, 45)
    assert densification(x, places_of([0, 0, 0])).item() == pytest.approx(plain(x, [0, 0, 0])[0], rel=1e-9)


@pytest.mark.usefixtures("float64")
def test_eigenvalues_far_apart_give_nothing_and_no_nan() -> None:
    """Would catch 0 * log 0: the eigenvalues of images of 224 pixels are thousands apart."""
    x = pixels(4, 32, spread=3.0).requires_grad_(True)
    value = densification(x, places_of([0, 0, 0, 0]))
    (gradient,) = torch.autograd.grad(value, x)
    assert 0.0 <= value.item() < 1e-6
    assert torch.isfinite(gradient).all()


@pytest.mark.usefixtures("float64")
def test_equal_images_have_a_finite_slope() -> None:
    """Would catch 1 / 0 between equal eigenvalues, those of a class whose images are all the same."""
    x = pixels(1, 8).repeat(4, 1, 1, 1).requires_grad_(True)
    (gradient,) = torch.autograd.grad(densification(x, places_of([0, 0, 0, 0])), x)
    assert torch.isfinite(gradient).all()
    assert float(gradient.abs().max()) > 0
