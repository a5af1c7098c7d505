"""Passes of frozen networks that keep less for their gradient.

Only the pixels have a gradient. So a convolution needs its weights for it and not its input, which torch
keeps in case the weights are trained; and a ReLU6 that works in place needs its result and not the copy of
its input that torch makes. The operations of both passes are torch's own with the same arguments, so the
numbers are the same to the last bit.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from prism_ray.teachers.override import CallOf, Forward, take_over

MIN_VALUES = 2**18  # of an input; with fewer the calls from Python would cost more than they save


@contextmanager
def lean(networks: Iterable[nn.Module]) -> Iterator[None]:
    """Make the networks' forward passes inside keep less; the backward passes belong inside too."""
    with ExitStack() as stack:
        for network in networks:
            for module in network.modules():
                around = _around(module)
                if around is not None:
                    take_over(module, partial(around, module.forward), stack)
        yield


def _around(module: nn.Module) -> Callable[[Forward, Tensor], Any] | None:
    """Return what calls a module's own forward pass in another way, if it can keep less."""
    if isinstance(module, nn.Conv2d):
        return _convolve
    # Classes derived from it may do more.
    if isinstance(module, nn.Hardtanh) and type(module) in (nn.ReLU6, nn.Hardtanh) and module.inplace:
        return partial(_clip, module.min_val, module.max_val)
    return None


def _convolve(forward: Forward, x: Tensor) -> Any:
    if not _is_worth_it(x):
        return forward(x)
    with _ConvolutionCall():
        return forward(x)


def _clip(low: float, high: float, forward: Forward, x: Tensor) -> Any:
    can_take = _is_worth_it(x) and x.is_floating_point() and not x._is_view() and not x.is_leaf
    return _ClippedInPlace.apply(x, low, high) if can_take else forward(x)


def _is_worth_it(x: Tensor) -> bool:
    return x.requires_grad and x.numel() >= MIN_VALUES and torch.is_grad_enabled()


class _ConvolutionCall(CallOf):
    """The call of a convolution; layers that pad or scale before it have this too."""

    function = staticmethod(torch.conv2d)

    def instead(
        self,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Any:
        """Return the convolution."""
        is_frozen = (
            input.requires_grad
            and input.dim() == 4
            and not isinstance(padding, str)
            and not any(value is not None and value.requires_grad for value in (weight, bias))
        )
        if not is_frozen:
            return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)
        how = _pair(stride), _pair(padding), _pair(dilation)
        return _FrozenConvolution.apply(input, weight, bias, *how, groups)


def _pair(value: Any) -> Any:
    return [value, value] if isinstance(value, int) else value


class _FrozenConvolution(torch.autograd.Function):
    """torch.conv2d of x (N, F, H, W) with weights that have no gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        groups: int,
    ) -> Tensor:
        y = torch.conv2d(x, weight, bias, stride, padding, dilation, groups)
        ctx.save_for_backward(weight)
        ctx.like = x.shape, x.stride(), x.dtype
        ctx.how = stride, padding, dilation, False, [0, 0], groups
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        shape, stride, dtype = ctx.like
        # Its values are not read: torch takes size and layout from it, and with them the same kernel.
        x = torch.empty_strided(shape, stride, dtype=grad.dtype, device=grad.device)
        weight = weight.to(grad.dtype)  # of autocast
        found = torch.ops.aten.convolution_backward(grad, x, weight, None, *ctx.how, [True, False, False])
        return found[0].to(dtype), None, None, None, None, None, None


class _ClippedInPlace(torch.autograd.Function):
    """x (any shape) clipped in place to [low, high]; as of hardtanh, the gradient is 0 at both ends."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float) -> Tensor:
        y = F.hardtanh_(x, low, high)
        ctx.mark_dirty(x)
        ctx.save_for_backward(y)
        ctx.limits = low, high
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (y,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(grad, y, *ctx.limits), None, None
