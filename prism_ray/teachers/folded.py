"""BatchNorm that is part of the convolution before it, for passes of frozen networks without gradients.

In evaluation mode BatchNorm is an affine map of each channel, y = a (x - mean) + beta with
a = gamma / sqrt(var + eps). Behind a convolution x = w * input + b it is one with weights a w and bias
a (b - mean) + beta: a pass over the activations less. The logits differ by rounding.

Which layers follow each other is found by watching a pass. Code outside of modules may use the output of a
convolution too; so the network is folded only if it gives the same logits, else it stays as it is.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from prism_ray.teachers.override import Forward, take_over
from prism_ray.teachers.teacher import Teacher

Pair = tuple[nn.Conv2d, nn.BatchNorm2d]

_TOLERANCE = 1e-4  # of the logits, as a share of the largest: rounding is a hundredth of it
_known: WeakKeyDictionary[nn.Module, list[Pair]] = WeakKeyDictionary()


@contextmanager
def folded(teachers: Iterable[Teacher]) -> Iterator[None]:
    """Fold the BatchNorm layers of frozen teachers inside; afterwards the networks are as they were."""
    with ExitStack() as stack:
        for teacher in teachers:
            for convolution, norm in _pairs_of(teacher):
                _fold(convolution, norm, stack)
        yield


def _pairs_of(teacher: Teacher) -> list[Pair]:
    """Return the layers to fold of a teacher, which are looked for once; none if it is trained."""
    network = teacher.network
    if network.training or any(parameter.requires_grad for parameter in network.parameters()):
        return []
    if network not in _known:
        _known[network] = _tried(teacher)
    return _known[network]


@torch.no_grad()
def _tried(teacher: Teacher) -> list[Pair]:
    """Return the pairs of a network, none if it gives other logits when they are folded."""
    network = teacher.network
    like = next(network.parameters(), torch.empty(0))
    size = teacher.preprocessing.size
    noise = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    images = noise.to(like).contiguous(memory_format=torch.channels_last)
    pairs, logits = find_pairs(network, images)
    with ExitStack() as stack:
        for pair in pairs:
            _fold(*pair, stack)
        error = (network(images) - logits).abs().max()
    return pairs if bool(error <= _TOLERANCE * logits.abs().max()) else []


def find_pairs(network: nn.Module, images: Tensor) -> tuple[list[Pair], Tensor]:
    """Return each BatchNorm with the convolution whose output only it gets, and the logits of the images.

    `images` (B, 3, H, W) are a network's input. Layers that are called several times, or that do more than
    their class, are left out.
    """
    made: dict[int, tuple[nn.Conv2d, Tensor, int]] = {}  # id of an output -> its layer, it, its version
    users: dict[int, list[nn.Module]] = {}  # id of an output -> the layers that get it
    calls: dict[nn.Module, int] = {}

    def before(module: nn.Module, args: Any, kwargs: Any) -> None:
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor) and id(leaf) in made and not _has_children(module):
                unchanged = leaf._version == made[id(leaf)][2]
                users.setdefault(id(leaf), []).append(module if unchanged else network)

    def after(module: nn.Module, args: Any, output: Any) -> None:
        calls[module] = calls.get(module, 0) + 1
        if type(module) is nn.Conv2d and isinstance(output, Tensor):
            made[id(output)] = module, output, output._version

    with ExitStack() as stack:
        for module in network.modules():
            stack.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)
            stack.callback(module.register_forward_hook(after).remove)
        logits: Tensor = network(images)
    pairs = [
        (convolution, norm)
        for number, (convolution, _, _) in made.items()
        for norm in users.get(number, [])
        if len(users[number]) == 1 and isinstance(norm, nn.BatchNorm2d) and _can_fold(norm)
        if calls[convolution] == calls[norm] == 1 and _is_plain(convolution)
    ]
    return pairs, logits


def _has_children(module: nn.Module) -> bool:
    # BatchNormAct2d contains its activation, and gives it a tensor of its own.
    return type(module) is not BatchNormAct2d and any(True for _ in module.children())


def _can_fold(norm: nn.BatchNorm2d) -> bool:
    return (
        type(norm) in (nn.BatchNorm2d, BatchNormAct2d) and norm.running_mean is not None and _is_plain(norm)
    )


def _is_plain(module: nn.Module) -> bool:
    """Return whether a layer has the forward pass of its class, and nothing hooked to it."""
    return not ("forward" in vars(module) or module._forward_hooks or module._forward_pre_hooks)


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d, stack: ExitStack) -> None:
    """Let a convolution do what BatchNorm does behind it, until `stack` is closed."""
    mean, var = norm.running_mean, norm.running_var
    assert mean is not None
    assert var is not None
    scale = torch.rsqrt(var + norm.eps) * (1.0 if norm.weight is None else norm.weight)
    bias = -mean if convolution.bias is None else convolution.bias - mean
    shift = scale * bias + (0.0 if norm.bias is None else norm.bias)
    weight = convolution.weight
    for name, value in (("weight", weight * scale[:, None, None, None]), ("bias", shift)):
        stack.callback(setattr, convolution, name, getattr(convolution, name))
        setattr(convolution, name, nn.Parameter(value, requires_grad=False))
    take_over(norm, _after(norm), stack)


def _after(norm: nn.BatchNorm2d) -> Forward:
    """Return what a layer does behind its normalisation."""
    if isinstance(norm, BatchNormAct2d):
        return nn.Sequential(norm.drop, norm.act).forward
    return nn.Identity().forward
