"""How near a step comes to what the card could do at best: the roofline of the teachers' convolutions.

A convolution needs at least the time of its multiplications at the card's peak in bfloat16, and at least the
time of its bytes at the bandwidth of its memory; the larger of the two counts. A step has each of them twice,
forward and for the gradient of the input; weights have no gradient.
"""

from collections.abc import Iterable
from typing import Any

import torch
from setups import Job
from torch import Tensor, nn

# Dense bfloat16 FLOP/s and bytes/s of the data sheets, by a part of the device's name, the longest first.
CARDS = {
    "H100 PCIe": (756e12, 2.0e12),
    "H100": (989e12, 3.35e12),
    "H200": (989e12, 4.8e12),
    "GH200": (989e12, 4.0e12),
    "B200": (2250e12, 8.0e12),
    "A100-SXM4-80GB": (312e12, 2.04e12),
    "A100": (312e12, 1.56e12),
    "L40S": (362e12, 0.86e12),
    "L4": (121e12, 0.3e12),
}
_BYTES = 2  # of a bfloat16


def convolutions(networks: Iterable[nn.Module], batch: int, size: int) -> list[tuple[float, float]]:
    """Return FLOPs and bytes of each convolution in a forward pass of `batch` images."""
    found: list[tuple[float, float]] = []

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weight = layer.weight
        assert isinstance(weight, Tensor)
        flops = 2.0 * output.numel() * weight[0].numel()
        found.append(
            (flops * batch, _BYTES * (batch * (inputs[0].numel() + output.numel()) + weight.numel()))
        )

    for network in networks:
        layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
        handles = [layer.register_forward_hook(note) for layer in layers]
        parameter = next(network.parameters())
        with torch.no_grad():
            network(torch.zeros(1, 3, size, size, device=parameter.device, dtype=parameter.dtype))
        for handle in handles:
            handle.remove()
    return found


def roofline_of(job: Job, networks: Iterable[nn.Module], seconds: float) -> dict[str, Any]:
    """Return the share of the card's peak that a step of `seconds` reaches, and that of the roofline."""
    layers = convolutions(networks, job.batch, job.size)
    flops = 2.0 * sum(flops for flops, _ in layers)
    name = torch.cuda.get_device_name(job.device)
    known = next((card for card in CARDS if card in name), None)
    found: dict[str, Any] = {"tflop_of_a_step": flops / 1e12, "tflop_per_s": flops / seconds / 1e12}
    measured = matmul_rate(job.device)
    found |= {"matmul_tflop_per_s": measured / 1e12, "share_of_matmul": flops / seconds / measured}
    if known is not None:
        peak, bandwidth = CARDS[known]
        bound = 2.0 * sum(max(flops / peak, num_bytes / bandwidth) for flops, num_bytes in layers)
        found |= {
            "card": known,
            "share_of_peak": flops / seconds / peak,
            "share_of_roofline": bound / seconds,
        }
    return found


def matmul_rate(device: torch.device, size: int = 8192, count: int = 20) -> float:
    """Return the FLOP/s of a large product of matrices in bfloat16."""
    a = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    for _ in range(3):
        a @ a
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for _ in range(count):
        a @ a
    end.record()
    torch.cuda.synchronize()
    return 2.0 * size**3 * count / (begin.elapsed_time(end) / 1e3)
