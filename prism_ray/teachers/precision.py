"""The precision of networks' passes; weights that are trained, statistics, losses and pixels are float32.

fp32: exact up to the rounding of float32. tf32: products of 10 bits on GPUs that have them. bf16: activations
and weights of convolutions and linear layers in bfloat16, by torch's autocast.
"""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from prism_ray.config.base import Precision
from prism_ray.device import PRODUCTS

# Autocast would convert their frozen weights again in each pass. Classes derived from them may do more.
_CONVERTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


@contextmanager
def prepared(networks: Iterable[nn.Module], precision: Precision) -> Iterator[None]:
    """Prepare networks for passes inside `passes`; afterwards they are as they were.

    Weights that are trained stay as they are, and the backward passes belong inside too.
    """
    with ExitStack() as stack:
        _allow_tf32(precision == "tf32", stack)
        if precision == "bf16":
            for network in networks:
                for module in network.modules():
                    if type(module) in _CONVERTED:
                        _convert(module, stack)
        yield


def passes(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Return the context of the networks' forward passes."""
    if precision != "bf16":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)


def logits_of(network: nn.Module, x: Tensor, precision: Precision) -> Tensor:
    """Return the network's output for its input x; in bf16 it is converted to float32."""
    with passes(precision, x.device):
        logits: Tensor = network(x)
    return logits.float() if precision == "bf16" else logits


def _convert(module: nn.Module, stack: ExitStack) -> None:
    for parameter in module.parameters(recurse=False):
        if parameter.dtype == torch.float32 and not parameter.requires_grad:
            stack.callback(setattr, parameter, "data", parameter.data)
            parameter.data = parameter.data.bfloat16()


def _allow_tf32(allow: bool, stack: ExitStack) -> None:
    """Set whether convolutions and products on CUDA may round to TF32; torch allows it for convolutions."""
    wanted = "tf32" if allow else "ieee"
    for products in PRODUCTS:
        stack.callback(setattr, products, "fp32_precision", products.fp32_precision)
        products.fp32_precision = wanted
