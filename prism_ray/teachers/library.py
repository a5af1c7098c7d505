"""The architectures and weights of timm and torchvision: their facts, and the download of weights."""

import socket
from dataclasses import dataclass
from pickle import UnpicklingError
from typing import Any

import timm
import torchvision
from timm.models import PretrainedCfg
from torch import Tensor
from torchvision.models import WeightsEnum

from prism_ray.config import NetworkConfig, TeacherConfig
from prism_ray.errors import ConfigError
from prism_ray.suggest import did_you_mean
from prism_ray.teachers.teacher import Triple, triple

IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)
_USUAL_SIZE = 224
_SILENCE_S = 30.0  # a download fails if nothing arrives for so long

# Heads that are used only in training. They are left out: their BatchNorm layers would never see an image.
_AUXILIARY_HEADS = ("AuxLogits.", "aux1.", "aux2.")
_WITH_AUXILIARY_HEADS = ("googlenet", "inception_v3")


@dataclass(frozen=True)
class LibraryFacts:
    """The facts that a library states about weights, or about the default weights of an architecture."""

    num_classes: int
    mean: Triple
    std: Triple
    size: int  # pixels of a side


def check_architecture(config: NetworkConfig, key: str) -> None:
    """Raise ConfigError with similar names if the library does not have the architecture."""
    models = torchvision.models
    names: list[str] = timm.list_models() if config.library == "timm" else models.list_models(module=models)
    if config.architecture not in names:
        shown = {name: f"{config.library}:{name}" for name in names}
        hint = did_you_mean(config.architecture, shown, at_most=3)
        raise ConfigError(f"{key}.arch = {config.arch!r}: {config.library} has no such model{hint}")


def implied_kwargs(config: NetworkConfig) -> dict[str, Any]:
    """Return the arguments that a network gets unless the config says otherwise."""
    if config.library == "torchvision" and config.architecture in _WITH_AUXILIARY_HEADS:
        return {"aux_logits": False, "init_weights": True}
    return {}


def network_of(config: TeacherConfig) -> NetworkConfig:
    """Return the bare network of a teacher; torchvision changes two networks with its own weights."""
    bare = config.without_weights()
    if config.weights is not None and config.weights_path is None and implied_kwargs(config):
        return bare.model_copy(update={"kwargs": {"transform_input": True, **bare.kwargs}})
    return bare


def drop_auxiliary_heads(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict without the heads that are used only in training."""
    return {name: value for name, value in state.items() if not name.startswith(_AUXILIARY_HEADS)}


def describe(config: TeacherConfig, key: str) -> LibraryFacts:
    """Look up the library's facts without a download; raises ConfigError if it has no such weights."""
    check_architecture(config, key)
    weights = None if config.weights_path else config.weights
    look_up = _describe_timm if config.library == "timm" else _describe_torchvision
    return look_up(config, weights, key)


def _describe_timm(config: TeacherConfig, weights: str | None, key: str) -> LibraryFacts:
    known: dict[str, PretrainedCfg] = timm.models.get_arch_pretrained_cfgs(config.architecture)
    tags = [name.partition(".")[2] for name, cfg in known.items() if cfg.has_weights]
    if weights is None or weights == "pretrained":
        cfg = timm.get_pretrained_cfg(config.architecture) or PretrainedCfg()
        if weights and not cfg.has_weights:
            raise _no_such_weights(config, weights, tags, key)
    elif weights in tags:
        cfg = known[f"{config.architecture}.{weights}"]
    else:
        raise _no_such_weights(config, weights, ["pretrained", *tags] if tags else [], key)
    _, height, width = cfg.input_size
    if height != width and config.input_size == "own":
        raise ConfigError(
            f"{key}.input_size = 'own': {config.arch} takes images of {height} x {width}, and the images of "
            "a run are square; give a number"
        )
    return LibraryFacts(cfg.num_classes, triple(cfg.mean), triple(cfg.std), height)


def _describe_torchvision(config: TeacherConfig, weights: str | None, key: str) -> LibraryFacts:
    known = torchvision.models.get_model_weights(config.architecture)
    names = list(known.__members__)
    if weights is not None and weights not in names:
        raise _no_such_weights(config, weights, names, key)
    name = weights or ("DEFAULT" if "DEFAULT" in names else next(iter(names), None))
    if name is None:
        return LibraryFacts(1000, IMAGENET_MEAN, IMAGENET_STD, _USUAL_SIZE)
    member: WeightsEnum = known[name]
    preset = member.transforms()
    classes = member.meta["categories"]
    return LibraryFacts(len(classes), triple(preset.mean), triple(preset.std), preset.crop_size[0])


def load_library_weights(config: TeacherConfig, key: str) -> dict[str, Tensor]:
    """Return the weights that `config` names, from the library's cache or downloaded into it.

    Raises ConfigError if they cannot be downloaded or read.
    """
    describe(config, key)
    timeout_before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_SILENCE_S)  # for sockets without a timeout of their own
    kwargs: dict[str, Any] = dict(config.kwargs)
    try:
        if config.library == "timm":
            tag = "" if config.weights == "pretrained" else f".{config.weights}"
            network = timm.create_model(f"{config.architecture}{tag}", pretrained=True, **kwargs)
        else:
            for name in implied_kwargs(config):  # torchvision sets these itself when it loads weights
                kwargs.pop(name, None)
            kwargs |= {"weights": config.weights, "progress": False}
            network = torchvision.models.get_model(config.architecture, **kwargs)
        return drop_auxiliary_heads(network.state_dict())
    except (TypeError, ValueError, AttributeError, AssertionError, LookupError) as error:
        raise ConfigError(
            f"{key}: {config.arch} cannot be built with kwargs = {config.kwargs!r}: {error}"
        ) from error
    except (OSError, RuntimeError, UnpicklingError) as error:
        raise ConfigError(
            f"{key}.arch = {config.arch!r}: its weights could not be downloaded or read: {error}; check the "
            "network of the machine that squeezes, or fetch the file elsewhere and name it as "
            f"{config.arch.partition('@')[0]}@<path>"
        ) from error
    finally:
        socket.setdefaulttimeout(timeout_before)


def _no_such_weights(config: TeacherConfig, weights: str, known: list[str], key: str) -> ConfigError:
    bare = config.arch.partition("@")[0]
    remedy = f"it has none for this architecture; write {bare!r} to squeeze it, or name a file"
    if known:
        hint = did_you_mean(weights, known, at_most=3)
        remedy = f"it has {', '.join(known)}{hint}; the path of a file needs a slash"
    return ConfigError(f"{key}.arch = {config.arch!r}: {config.library} has no weights {weights!r}: {remedy}")
