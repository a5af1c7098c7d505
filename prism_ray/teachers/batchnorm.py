"""Finding the BatchNorm layers of a network, the carriers of the statistics that recover matches."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def find_batchnorm(network: nn.Module) -> list[_BatchNorm]:
    """Return the layers that keep running statistics, in the order in which the network registers them."""
    return [
        module
        for module in network.modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    ]
