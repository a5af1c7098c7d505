"""BatchNorm and the statistics of its input in one function, with one backward pass for both.

A frozen BatchNorm is y = s x + t per channel, with s = weight / sqrt(running_var + eps). The gradients of a
channel's mean and biased variance over M values are 1 / M and 2 (x - mean) / M. So the gradient of all three
is s g_y + a + b x, with b = 2 g_var / M and a = g_mean / M - b mean: one pass over the activations, where
three separate operations and the sum of their gradients take eight.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

from prism_ray.recover.channels import measure_values
from prism_ray.teachers.override import CallOf


class BatchNormCall(CallOf):
    """The call of a BatchNorm layer with `features`; inside the context its statistics are measured with it.

    Layers of any class have this: torch's own, and those that do more after the normalisation. `found` is the
    mean and the biased variance of the channels of `features`, both (F,), or None if the layer does not call
    torch's function for frozen statistics with just these features and its own, frozen parameters.
    """

    function = staticmethod(F.batch_norm)

    def __init__(self, layer: nn.Module, features: Tensor) -> None:
        super().__init__()
        self._layer = layer
        self._features = features
        self.found: tuple[Tensor, Tensor] | None = None

    def instead(
        self,
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Any:
        """Return the normalised features."""
        is_known = (
            self.found is None
            and input is self._features
            and running_mean is self._layer.running_mean
            and running_var is self._layer.running_var
            and not training
            and input.numel() > 0
            and not any(value is not None and value.requires_grad for value in (weight, bias))
        )
        statistics = running_mean, running_var, weight, bias
        if not is_known:
            return F.batch_norm(input, *statistics, training, momentum, eps)
        output, *found = _BatchNormWithStatistics.apply(input, *statistics, eps)
        self.found = (found[0], found[1])
        return output


class _BatchNormWithStatistics(torch.autograd.Function):
    """(y, mean, var) of x (N, F, ...) for frozen statistics; mean and var are (F,), var is biased."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        mean, var = _measured(ctx, x)
        ctx.save_for_backward(x, mean, running_var, weight)
        ctx.eps = eps
        return F.batch_norm(x, running_mean, running_var, weight, bias, eps=eps), mean, var

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        x, mean, running_var, weight = ctx.saved_tensors
        scale = torch.rsqrt(running_var + ctx.eps)
        scale = scale if weight is None else scale * weight
        return _gradient(x, mean, grads, scale), None, None, None, None, None


class _WithStatistics(torch.autograd.Function):
    """(x, mean, var) of x (N, F, ...); mean and var are (F,), var is biased."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, var = _measured(ctx, x)
        ctx.save_for_backward(x, mean)
        return x.view_as(x), mean, var

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> Tensor | None:
        x, mean = ctx.saved_tensors
        return _gradient(x, mean, grads, None)


def with_statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return features (N, F, ...) that are to be used from here on, and their channels' mean and variance.

    Mean and biased variance are (F,). Their gradients join that of the features in one pass.
    """
    features, mean, var = _WithStatistics.apply(x)
    return features, mean, var


def _measured(ctx: FunctionCtx, x: Tensor) -> tuple[Tensor, Tensor]:
    ctx.set_materialize_grads(False)
    return measure_values(x)


def _gradient(
    x: Tensor, mean: Tensor, grads: tuple[Tensor | None, ...], scale: Tensor | None
) -> Tensor | None:
    """Return the gradient of x from those of (s x + t, mean, var); s is `scale` (F,), None: 1."""
    grad, grad_mean, grad_var = grads
    shape = (1, -1, *[1] * (x.dim() - 2))

    def per_channel(values: Tensor) -> Tensor:
        return values.to(x.dtype).view(shape)

    count = x.numel() // x.shape[1]
    if grad_var is None and grad_mean is None:
        return grad if grad is None or scale is None else grad * per_channel(scale)
    slope = torch.zeros_like(mean) if grad_var is None else grad_var * (2.0 / count)
    offset = -slope * mean
    if grad_mean is not None:
        offset = offset + grad_mean / count
    result = torch.addcmul(per_channel(offset), x, per_channel(slope))
    if grad is None:
        return result
    return result.add_(grad) if scale is None else result.addcmul_(grad, per_channel(scale))
