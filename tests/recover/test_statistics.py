"""The BN alignment of one network: which layer is the first, and what its statistics are."""

import pytest
import torch
from torch import Tensor, nn

from prism_ray.recover.statistics import BatchNormAlignment


def gaps(layer: nn.BatchNorm2d | nn.BatchNorm1d, x: Tensor) -> float:
    """||var - running_var|| + ||mean - running_mean|| of features (N, F, ...)."""
    assert layer.running_mean is not None
    assert layer.running_var is not None
    flat = x.transpose(0, 1).flatten(1)  # F, N * H * W
    mean = flat.mean(dim=1)
    variance = ((flat - mean[:, None]) ** 2).mean(dim=1)
    return float((variance - layer.running_var).norm() + (mean - layer.running_mean).norm())


class Crossed(nn.Module):
    """Registers its layers in another order than they run."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.BatchNorm2d(3)
        self.first = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.first(x) ** 2)
        return y


def test_the_first_layer_is_the_one_that_runs_first() -> None:
    """Would catch w_1 on a layer that is written first in the network's code but runs later."""
    network = Crossed().eval()
    x = 3.0 * torch.rand(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), BatchNormAlignment(network, 10.0) as alignment:
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
        with BatchNormAlignment(network, weight) as alignment:
            network(x)
            totals.append(float(alignment.pop()))
    assert totals[0] == 0.0
    assert totals[2] == pytest.approx(4 * totals[1])


def test_vectors_have_statistics_over_the_batch() -> None:
    """Would catch BatchNorm1d of (N, F) features failing, or being averaged over the features."""
    layer = nn.BatchNorm1d(6).eval()
    x = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    with BatchNormAlignment(layer, 1.0) as alignment:
        layer(x)
        assert float(alignment.pop()) == pytest.approx(gaps(layer, x), rel=1e-5)


def test_one_value_has_no_variance() -> None:
    """Would catch NaN from the unbiased variance of a single image whose map is 1x1."""
    network = nn.Sequential(nn.BatchNorm2d(3)).eval()
    x = torch.randn(1, 3, 1, 1, generator=torch.Generator().manual_seed(0), requires_grad=True)
    with BatchNormAlignment(network, 1.0) as alignment:
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
    with BatchNormAlignment(network, 10.0) as alignment:
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
    with BatchNormAlignment(network, 10.0) as alignment:
        network(torch.rand(4, 3, 5, 5) + 7.0)
        alignment.pop()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    "network",
    [nn.Sequential(nn.Conv2d(3, 4, 1)), nn.BatchNorm2d(3, track_running_stats=False), nn.GroupNorm(1, 3)],
)
def test_networks_without_running_statistics_are_refused(network: nn.Module) -> None:
    """Would catch a BN teacher that has nothing to match."""
    with pytest.raises(ValueError, match="BatchNorm"):
        BatchNormAlignment(network, 10.0)
