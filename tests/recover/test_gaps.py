"""Distances of many layers at once: those of each layer by itself."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from prism_ray.recover.gaps import Targets
from prism_ray.teachers.layers import LayerReference

pytestmark = pytest.mark.usefixtures("float64")


@st.composite
def references(draw: st.DrawFn) -> list[LayerReference]:
    """Layers of 1 to 6 channels; some have patches."""
    found = []
    for _ in range(draw(st.integers(1, 5))):
        sizes = [draw(st.integers(1, 6))] * 2 + [draw(st.integers(1, 4))] * (2 * draw(st.integers(0, 1)))
        found.append(LayerReference(*(torch.randn(size) for size in sizes)))
    return found


def plain(layers: list[LayerReference], measured: list[Tensor], first_weight: float) -> Tensor:
    parts = iter(measured)
    total = torch.zeros(())
    for number, layer in enumerate(layers):
        gap = torch.stack([(next(parts) - pair).square().sum().sqrt() for pair in layer.pairs]).sum()
        total = total + (first_weight if number == 0 else 1.0) * gap
    return total


@settings(deadline=None, max_examples=50)
@given(references(), st.sampled_from([0.0, 1.0, 10.0]))
def test_distance_and_gradient_are_those_of_each_layer(
    layers: list[LayerReference], first_weight: float
) -> None:
    """Catches a segment that gets its neighbour's gradient, and the weight of the first layer on one part."""
    targets = Targets.of(layers, first_weight)
    measured = [torch.randn_like(pair).requires_grad_(True) for layer in layers for pair in layer.pairs]
    ours, other = targets.distance(measured), plain(layers, measured, first_weight)
    torch.testing.assert_close(ours, other, rtol=1e-12, atol=1e-12)
    found, expected = (torch.autograd.grad(value, measured) for value in (ours, other))
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)
    nothing = [torch.zeros_like(part) for part in measured]
    torch.testing.assert_close(targets.size(), plain(layers, nothing, first_weight))


def test_a_layer_that_matches_exactly_has_no_gradient() -> None:
    """Catches 0 / 0, which makes every pixel NaN, where statistics meet their targets."""
    layer = LayerReference(torch.ones(3), torch.full((3,), 2.0))
    mean, var = layer.mean.clone().requires_grad_(True), (layer.var + 1.0).requires_grad_(True)
    grads = torch.autograd.grad(Targets.of([layer], 10.0).distance([mean, var]), (mean, var))
    assert torch.equal(grads[0], torch.zeros(3))
    assert bool(torch.isfinite(grads[1]).all())
