"""The layers of a network whose input statistics methods match: BatchNorm layers, and convolutions."""

from torch import nn

from prism_ray.teachers.batchnorm import find_batchnorm


def matched_layers(network: nn.Module, convolutions: bool) -> dict[str, nn.Module]:
    """Return BatchNorm layers, and with `convolutions` every Conv2d, by name, as they are registered."""
    batchnorm = {id(layer) for layer in find_batchnorm(network)}
    return {
        name: module
        for name, module in network.named_modules()
        if id(module) in batchnorm or (convolutions and isinstance(module, nn.Conv2d))
    }
