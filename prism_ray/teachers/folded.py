"""BatchNorm that is part of the convolution before it, for passes of frozen networks without gradients.

In evaluation mode BatchNorm is an affine map of each channel, y = a (x - mean) + beta with
a = gamma / sqrt(var + eps). Behind a convolution x = w * input + b it is one with weights a w and bias
a (b - mean) + beta: a pass over the activations less. The logits differ by rounding.

Which layers follow each other is found by watching a pass of an image. Code outside of modules may use the
output of a convolution too; so the network is folded only if it gives the same logits in float64 on the
CPU. There rounding is a millionth of what is allowed, so the choice is the same on every machine.
"""

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any
from weakref import WeakKeyDictionary

import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from prism_ray.teachers.override import Forward, take_over
from prism_ray.teachers.teacher import Teacher

Pair = tuple[str, str]  # names of a convolution and of the BatchNorm behind it

_TOLERANCE = 1e-9  # of the logits, as a share of the largest
_known: WeakKeyDictionary[nn.Module, Sequence[Pair]] = WeakKeyDictionary()


@contextmanager
def folded(teachers: Iterable[Teacher]) -> Iterator[None]:
    """Fold the BatchNorm layers of frozen teachers inside; afterwards the networks are as they were.

    The first time a copy of each network is tried. The network must keep its weights from then on.
    """
    with ExitStack() as stack:
        for teacher in teachers:
            _fold(teacher.network, _pairs_of(teacher), stack)
        yield


def _pairs_of(teacher: Teacher) -> Sequence[Pair]:
    """Return the layers to fold of a teacher, which are looked for once; none if it is trained."""
    network = teacher.network
    if network.training or any(parameter.requires_grad for parameter in network.parameters()):
        return ()
    if network not in _known:
        _known[network] = ()
        with suppress(RuntimeError, TypeError, ValueError):  # a network that float64 cannot pass through
            _known[network] = _tried(network, teacher.preprocessing.size)
    return _known[network]


@torch.no_grad()
def _tried(network: nn.Module, size: int) -> Sequence[Pair]:
    """Return the pairs of a network, none if it gives other logits when they are folded."""
    network = copy.deepcopy(network).to("cpu", torch.float64)
    noise = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    image = noise.contiguous(memory_format=torch.channels_last)
    pairs, logits = find_pairs(network, image)
    with ExitStack() as stack:
        _fold(network, pairs, stack)
        error = (network(image) - logits).abs().max()
    return pairs if bool(error <= _TOLERANCE * logits.abs().max()) else ()


def find_pairs(network: nn.Module, images: Tensor) -> tuple[list[Pair], Tensor]:
    """Return each BatchNorm with the convolution whose output only it gets, and the logits of the images.

    `images` (B, 3, H, W) are a network's input. Layers that are called several times, or that do more than
    their class, are left out.
    """
    names = {module: name for name, module in network.named_modules()}
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
        (names[convolution], names[norm])
        for number, (convolution, _, _) in made.items()
        for norm in users.get(number, [])
        if len(users[number]) == 1 and calls[convolution] == calls.get(norm) == 1
        if _can_fold(convolution, norm)
    ]
    return pairs, logits


def _has_children(module: nn.Module) -> bool:
    # BatchNormAct2d contains its activation, and gives it a tensor of its own.
    return type(module) is not BatchNormAct2d and any(True for _ in module.children())


def _can_fold(convolution: nn.Module, norm: nn.Module) -> bool:
    """Return whether both are layers of these classes whose forward pass is that of the class."""
    is_norm = type(norm) in (nn.BatchNorm2d, BatchNormAct2d) and norm.running_mean is not None
    return is_norm and not any(
        "forward" in vars(module) or module._forward_hooks or module._forward_pre_hooks
        for module in (convolution, norm)
    )


def _fold(network: nn.Module, pairs: Iterable[Pair], stack: ExitStack) -> None:
    """Let convolutions do what BatchNorm does behind them, until `stack` is closed.

    What is folded already, or watched by a hook, stays as it is.
    """
    for pair in pairs:
        convolution, norm = (network.get_submodule(name) for name in pair)
        if _can_fold(convolution, norm):
            assert isinstance(convolution, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            _fold_pair(convolution, norm, stack)


def _fold_pair(convolution: nn.Conv2d, norm: nn.BatchNorm2d, stack: ExitStack) -> None:
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
