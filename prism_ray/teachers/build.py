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

# Arguments that prism-ray sets itself, or that bring in weights which the fingerprint would not know.
_RESERVED = frozenset(
    {
        "cache_dir",
        "checkpoint_path",
        "features_only",
        "in_chans",
        "num_classes",
        "pretrained",
        "pretrained_cfg",
        "pretrained_cfg_overlay",
        "weights",
        "weights_backbone",
    }
)


def build_network(config: NetworkConfig, num_classes: int, key: str) -> nn.Module:
    """Return a freshly initialised network for RGB input; draw its weights from torch's global generator.

    `key` is where in the config it stands. Raises ConfigError if the architecture is unknown, does not
    take the arguments, or cannot be built.
    """
    library, _, arch = config.arch.partition(":")
    names = timm.list_models() if library == "timm" else _torchvision_classifiers()
    if arch not in names:
        near = difflib.get_close_matches(arch, names, n=3)
        hint = f"; did you mean {', '.join(f'{library}:{name}' for name in near)}?" if near else ""
        raise ConfigError(f"{key}.arch = {config.arch!r}: {library} has no such model{hint}")
    reserved = sorted(_RESERVED & config.kwargs.keys())
    if reserved:
        raise ConfigError(
            f"{key}.kwargs: {', '.join(reserved)} of {config.arch} cannot be set here; leave it out"
        )
    kwargs: dict[str, Any] = dict(config.kwargs)
    try:
        if library == "timm":
            network = timm.create_model(arch, pretrained=False, num_classes=num_classes, in_chans=3, **kwargs)
        else:
            network = torchvision.models.get_model(arch, weights=None, num_classes=num_classes, **kwargs)
    except NotImplementedError:  # not on the meta device; see _try_out
        raise
    except (TypeError, ValueError, AttributeError, AssertionError, LookupError, RuntimeError) as error:
        raise ConfigError(
            f"{key}: {config.arch} cannot be built with kwargs = {config.kwargs!r}: {error}"
        ) from error
    assert isinstance(network, nn.Module)
    if config.stem == "small":
        _shrink_stem(network, key)
    return network


def check_networks(config: Config, num_classes: int) -> None:
    """Build every network of the config, if it can be without memory, and send two images through it.

    Raises ConfigError for a network that cannot be built, has no BatchNorm layer (a BN teacher needs one),
    does not take images of data.image_size, or does not answer with logits.
    """
    bn_teachers = {config.recover.primary, *config.extra_bn_teachers}
    for number, teacher in enumerate(config.teachers.pool):
        key = f"teachers.pool.{number}"
        network = _try_out(teacher, num_classes, config.data.image_size, key)
        if teacher.name in bn_teachers and not find_batchnorm(network):
            raise ConfigError(
                f"{key}.arch = {teacher.arch!r}: has no BatchNorm layer, so there are no statistics to "
                "match; choose a network with BatchNorm, or leave it out of recover.bn_teachers"
            )
    _try_out(config.evaluate.student, num_classes, config.data.image_size, "evaluate.student")


def _try_out(config: NetworkConfig, num_classes: int, size: int, key: str) -> nn.Module:
    """Build a network and send two images through it, as in training and as in use."""
    device = torch.device("meta")
    try:
        with device:
            network = build_network(config, num_classes, key)
    except NotImplementedError:  # its initialisation looks at values, which a meta tensor has not
        device = torch.device("cpu")
        network = build_network(config, num_classes, key)
    for training in (True, False):
        try:
            logits = network.train(training)(torch.empty(2, 3, size, size, device=device))
        except (RuntimeError, ValueError, AssertionError, LookupError, ArithmeticError) as error:
            raise ConfigError(
                f"{key}.arch = {config.arch!r}: does not take images of {size} x {size} "
                f"(data.image_size): {error}"
            ) from error
        if not isinstance(logits, torch.Tensor) or tuple(logits.shape) != (2, num_classes):
            shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
            raise ConfigError(
                f"{key}.arch = {config.arch!r}: answers with {shape} for 2 images, expected logits of "
                f"{num_classes} classes; choose a plain classifier"
            )
    return network


def _torchvision_classifiers() -> list[str]:
    return torchvision.models.list_models(module=torchvision.models)  # type: ignore[no-any-return]


def _shrink_stem(network: nn.Module, key: str) -> None:
    """Give the first convolution stride 1; take out the max-pooling of a stem of up to three convolutions.

    A network whose first convolution has stride 1 already (VGG) has no such stem and stays as it is.
    """
    convolutions: list[nn.Conv2d] = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            convolutions.append(module)
        if isinstance(module, nn.MaxPool2d):
            if len(convolutions) <= 3 and convolutions[0].stride != (1, 1):
                network.set_submodule(name, nn.Identity())
            break
    if not convolutions:
        raise ConfigError(f"{key}.stem = 'small': the network has no convolution; leave it out")
    convolutions[0].stride = (1, 1)


def count_parameters(network: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters())
