"""Networks by name from timm and torchvision, with the data's class count and a stem for small images."""

import difflib
from typing import Any

import timm
import torch
import torchvision
from torch import nn

from prism_ray.config import Config, NetworkConfig
from prism_ray.errors import ConfigError
from prism_ray.teachers.batchnorm import find_batchnorm


def build_network(config: NetworkConfig, num_classes: int, key: str) -> nn.Module:
    """Return a freshly initialised network for RGB input; draw its weights from torch's global generator.

    `key` is where in the config it stands. Raises ConfigError if the architecture is unknown, does not
    take the arguments, or cannot be built.
    """
    library, _, arch = config.arch.partition(":")
    names = timm.list_models() if library == "timm" else torchvision.models.list_models()
    if arch not in names:
        near = difflib.get_close_matches(arch, names, n=3)
        hint = f"; did you mean {', '.join(f'{library}:{name}' for name in near)}?" if near else ""
        raise ConfigError(f"{key}.arch = {config.arch!r}: {library} has no such model{hint}")
    kwargs: dict[str, Any] = dict(config.kwargs)
    try:
        if library == "timm":
            network = timm.create_model(arch, pretrained=False, num_classes=num_classes, in_chans=3, **kwargs)
        else:
            network = torchvision.models.get_model(arch, weights=None, num_classes=num_classes, **kwargs)
    except (TypeError, ValueError, RuntimeError, AssertionError, KeyError, IndexError) as error:
        raise ConfigError(
            f"{key}: {config.arch} cannot be built with kwargs = {config.kwargs!r}: {error}"
        ) from error
    assert isinstance(network, nn.Module)
    if config.stem == "small":
        _shrink_stem(network, key)
    return network


def check_networks(config: Config, num_classes: int) -> None:
    """Build every network of the config without memory and send one image shape through it.

    Raises ConfigError for a network that cannot be built, has no BatchNorm layer (a BN teacher needs one),
    or does not take images of data.image_size.
    """
    teachers = [(f"teachers.pool.{i}", net) for i, net in enumerate(config.teachers.pool)]
    students = [("evaluate.student", config.evaluate.student)]
    for key, network_config in [*teachers, *students]:
        with torch.device("meta"):
            network = build_network(network_config, num_classes, key).eval()
            if key != "evaluate.student" and not find_batchnorm(network):
                raise ConfigError(
                    f"{key}.arch = {network_config.arch!r}: has no BatchNorm layer, so there are no "
                    "statistics to match; choose a network with BatchNorm"
                )
            size = config.data.image_size
            try:
                logits = network(torch.empty(2, 3, size, size))
            except (RuntimeError, ValueError, AssertionError) as error:
                raise ConfigError(
                    f"{key}.arch = {network_config.arch!r}: does not take images of {size} x {size} "
                    f"(data.image_size): {error}"
                ) from error
        if tuple(logits.shape) != (2, num_classes):
            raise ConfigError(
                f"{key}.arch = {network_config.arch!r}: gives {tuple(logits.shape)} for 2 images, "
                f"expected logits of {num_classes} classes"
            )


def _shrink_stem(network: nn.Module, key: str) -> None:
    """Give the first convolution stride 1; take out a max-pooling before the second BatchNorm layer."""
    modules = list(network.named_modules())
    convolution = next((m for _, m in modules if isinstance(m, nn.Conv2d)), None)
    if convolution is None:
        raise ConfigError(f"{key}.stem = 'small': the network has no convolution; leave it out")
    convolution.stride = (1, 1)
    batchnorms = [i for i, (_, m) in enumerate(modules) if isinstance(m, nn.BatchNorm2d)]
    end = batchnorms[1] if len(batchnorms) > 1 else len(modules)
    for name, module in modules[:end]:
        if isinstance(module, nn.MaxPool2d):
            network.set_submodule(name, nn.Identity())
            return


def count_parameters(network: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters())
