"""The BatchNorm layers of a network, whose statistics recover matches."""

from torch import Tensor, nn
from torch.nn.modules.instancenorm import _InstanceNorm


def find_batchnorm(network: nn.Module) -> list[nn.Module]:
    """Return the layers that keep running statistics, in the order in which the network registers them.

    A layer of any class counts if it keeps `running_mean` and `running_var` with one value per feature.
    So torch's BatchNorm of every rank and its synchronised form count, and timm's and torchvision's own and
    frozen ones. InstanceNorm keeps the same tensors, but does not normalise by them: it does not count.
    """
    return [module for module in network.modules() if _is_batchnorm(module)]


def running_statistics(layer: nn.Module) -> tuple[Tensor, Tensor]:
    """Return running mean and variance (each (F,)) of a layer that `find_batchnorm` found."""
    mean, var = layer.running_mean, layer.running_var
    assert isinstance(mean, Tensor)
    assert isinstance(var, Tensor)
    return mean, var


def _is_batchnorm(module: nn.Module) -> bool:
    mean, var = getattr(module, "running_mean", None), getattr(module, "running_var", None)
    return (
        isinstance(mean, Tensor)
        and isinstance(var, Tensor)
        and mean.dim() == 1
        and mean.shape == var.shape
        and not isinstance(module, _InstanceNorm)
    )
