"""Networks by name from timm and torchvision, with the data's class count and a stem for small images.

Also the check, before any work is done, that every network of a config fits its purpose.
"""

from collections.abc import Sequence, Set
from functools import partial
from typing import Any

import timm
import torch
import torchvision
from torch import nn

from prism_ray.config import Config, NetworkConfig, TeacherConfig
from prism_ray.config.resolve import STUDENT
from prism_ray.errors import ConfigError
from prism_ray.teachers.batchnorm import find_batchnorm
from prism_ray.teachers.class_order import check_names, check_names_of_file
from prism_ray.teachers.library import check_architecture, describe, implied_kwargs, network_of
from prism_ray.teachers.pooling import make_pooling_deterministic
from prism_ray.teachers.weights import infer_num_classes, match_weights, read_weights

# Arguments that prism-ray sets itself, or that load weights which the fingerprint would not contain.
_RESERVED = (
    "cache_dir checkpoint_path features_only in_chans num_classes pretrained pretrained_cfg "
    "pretrained_cfg_overlay weights weights_backbone"
)
_UNBUILDABLE = (TypeError, ValueError, AttributeError, AssertionError, LookupError, RuntimeError)


def build_network(config: NetworkConfig, num_classes: int, key: str) -> nn.Module:
    """Return a freshly initialised network for RGB input; draw its weights from torch's global generator.

    `key` is the network's key in the config. Weights that `config` names are not loaded. Raises ConfigError
    if the architecture is unknown, does not take the arguments, or cannot be built.
    """
    check_architecture(config, key)
    reserved = sorted(config.kwargs.keys() & _RESERVED.split())
    if reserved:
        raise ConfigError(
            f"{key}.kwargs: {', '.join(reserved)} of {config.arch} cannot be set here; leave it out"
        )
    kwargs: dict[str, Any] = {**implied_kwargs(config), **config.kwargs}
    arch = config.architecture
    try:
        if config.library == "timm":
            network = timm.create_model(arch, pretrained=False, num_classes=num_classes, in_chans=3, **kwargs)
        else:
            network = torchvision.models.get_model(arch, weights=None, num_classes=num_classes, **kwargs)
    except NotImplementedError:  # not on the meta device; see build_without_memory
        raise
    except _UNBUILDABLE as error:
        raise ConfigError(
            f"{key}: {config.arch} cannot be built with kwargs = {config.kwargs!r}: {error}"
        ) from error
    assert isinstance(network, nn.Module)
    if config.stem == "small":
        _shrink_stem(network, key)
    make_pooling_deterministic(network)
    return network


def build_without_memory(config: NetworkConfig, num_classes: int, key: str) -> nn.Module:
    """Return the network on the meta device, or on the CPU if its constructor reads values of tensors.

    Draws nothing from torch's global generator. Raises as `build_network` does.
    """
    try:
        with torch.device("meta"):
            return build_network(config, num_classes, key)
    except NotImplementedError:
        with torch.random.fork_rng(devices=[]):
            return build_network(config, num_classes, key)


def input_size(config: TeacherConfig, image_size: int, key: str) -> int:
    """Return the side of a teacher's input in pixels, in a run of `image_size`."""
    if config.input_size == "own":
        return describe(config, key).size
    return image_size if config.input_size == "run" else config.input_size


def check_networks(config: Config, class_names: Sequence[str], in_store: Set[str] = frozenset()) -> None:
    """Build every network of the config, without memory if possible, and pass two images through it.

    Raises ConfigError for a network that cannot be built, has no BatchNorm layer (a BN teacher needs one),
    does not take images of its size, or does not return logits; for weights that are missing, do not fit,
    distinguish other classes than the data has, or have their names in another order. Weights of the teachers
    `in_store` were checked when they were stored, and their files may be gone.
    """
    num_classes = len(class_names)
    for number, teacher in enumerate(config.teachers.pool):
        key = f"teachers.pool.{number}"
        if teacher.weights_path and teacher.name in in_store:
            continue
        if config.teachers.check_accuracy:
            check_names(teacher, class_names, key)
        named = class_names if config.teachers.check_accuracy else ()
        network = _check_teacher(teacher, num_classes, named, config.data.image_size, key)
        if teacher.name in config.bn_teachers and not find_batchnorm(network):
            raise ConfigError(
                f"{key}.arch = {teacher.arch!r}: has no BatchNorm layer, so there are no statistics to "
                "match; choose a network with BatchNorm, or leave it out of recover.selection.bn_teachers"
            )
    # Students have the same input as the primary.
    primary = config.teacher(config.primary)
    key = f"teachers.pool.{config.teachers.pool.index(primary)}"
    size, size_key = input_size(primary, config.data.image_size, key), _size_key(primary, key)
    for name, evaluation in config.evaluations.items():
        key = "evaluate.student" if name == STUDENT else f"evaluations.{name}.student"
        network = build_without_memory(evaluation.student, num_classes, key)
        _try_out(network, evaluation.student, num_classes, size, key, size_key)


def _check_teacher(
    config: TeacherConfig, num_classes: int, class_names: Sequence[str], image_size: int, key: str
) -> nn.Module:
    """Check one teacher of the pool, and its weights as far as possible without a download.

    Without `class_names` the names of the classes are not compared.
    """
    num_outputs = num_classes
    if config.weights_path:
        build = partial(build_without_memory, network_of(config), key=key)
        file = read_weights(config, build(num_classes).state_dict().keys(), key)
        state = file.state
        num_outputs = infer_num_classes(config, state, build, key)
        if class_names:
            check_names_of_file(config, file.class_names, num_outputs, class_names, key)
    elif config.weights:
        num_outputs = describe(config, key).num_classes
    check_classes(config, num_outputs, num_classes, key)
    network = build_without_memory(network_of(config), num_outputs, key)
    if config.weights_path:
        match_weights(config, state, network, key)
    _try_out(network, config, num_outputs, input_size(config, image_size, key), key, _size_key(config, key))
    return network


def _size_key(config: TeacherConfig, key: str) -> str:
    return "data.image_size" if config.input_size == "run" else f"{key}.input_size"


def check_classes(config: TeacherConfig, num_outputs: int, num_classes: int, key: str) -> None:
    """Raise ConfigError unless each class of the data has one output of the network."""
    indices, problem = config.class_indices, ""
    if indices is None and num_outputs < num_classes:
        problem = (
            f"arch = {config.arch!r}: distinguishes {num_outputs} classes, and the data has {num_classes}; "
            "take weights of these classes"
        )
    elif indices is None and num_outputs != num_classes:
        problem = (
            f"arch = {config.arch!r}: distinguishes {num_outputs} classes, and the data has {num_classes}; "
            f"set {key}.class_indices to the network's output for each class of the data: {num_classes} "
            f"numbers from 0 to {num_outputs - 1} in the order of the data's classes"
        )
    elif indices is not None and len(indices) != num_classes:
        problem = (
            f"class_indices: has {len(indices)} numbers, and the data has {num_classes} classes; give the "
            "network's output for each class of the data"
        )
    elif indices is not None and max(indices) >= num_outputs:
        problem = (
            f"class_indices: names output {max(indices)}, and {config.arch} has {num_outputs} "
            f"(0 to {num_outputs - 1}); correct the number"
        )
    if problem:
        raise ConfigError(f"{key}.{problem}")


def _try_out(
    network: nn.Module, config: NetworkConfig, num_outputs: int, size: int, key: str, size_key: str
) -> None:
    """Pass two images through a network in evaluation mode; before that in training mode if it is trained."""
    device = next(network.parameters()).device
    is_trained = not isinstance(config, TeacherConfig) or config.weights is None
    for training in (True, False) if is_trained else (False,):
        try:
            with torch.random.fork_rng(devices=[]):  # dropout
                logits = network.train(training)(torch.empty(2, 3, size, size, device=device))
        except (RuntimeError, ValueError, AssertionError, LookupError, ArithmeticError) as error:
            raise ConfigError(
                f"{key}.arch = {config.arch!r}: does not take images of {size} x {size} ({size_key}): {error}"
            ) from error
        if isinstance(logits, tuple) and training:
            raise ConfigError(
                f"{key}.arch = {config.arch!r}: has auxiliary heads in training, which prism-ray does not "
                "train; turn them off in its kwargs (aux_logits: false), or choose a plain classifier"
            )
        if not isinstance(logits, torch.Tensor) or tuple(logits.shape) != (2, num_outputs):
            shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
            raise ConfigError(
                f"{key}.arch = {config.arch!r}: returns {shape} for 2 images, expected logits of "
                f"{num_outputs} classes; choose a plain classifier"
            )


def _shrink_stem(network: nn.Module, key: str) -> None:
    """Set the first convolution to stride 1; remove the max-pooling of a stem of up to three convolutions.

    A network whose first convolution already has stride 1 (VGG) has no such stem and stays as it is.
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
