"""The checkpoint of a training after an epoch, as bytes, from which an interrupted training resumes.

All randomness of an epoch derives from the seed and the epoch's number, so a checkpoint has the weights,
AdamW's moments, the number of epochs done, and what else the training adds; a resumed training ends with
the same bytes as any other.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from prism_ray.sealed import MOMENTS, fits, seal, under, unseal

_EPOCH = "num_epochs"
_MORE = "more."
_NAMES_BYTES = 2**24


@dataclass(frozen=True)
class Progress:
    """How far a training was when its checkpoint was made."""

    num_epochs: int = 0  # that are done
    more: dict[str, Tensor] = field(default_factory=dict)  # on the CPU


def encode_checkpoint(
    network: nn.Module,
    optimizer: torch.optim.AdamW,
    num_epochs: int,
    identity: str,
    more: Mapping[str, Tensor] | None = None,
) -> bytes:
    """Return the checkpoint as safetensors; `identity` names the training that it belongs to.

    `more` are tensors of the training itself, which `restore_checkpoint` returns.
    """
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": state[name] for name in MOMENTS}
    tensors |= {f"{_MORE}{name}": value for name, value in (more or {}).items()}
    return seal(tensors | {_EPOCH: torch.tensor(num_epochs)}, identity)


def max_checkpoint_bytes(network: nn.Module) -> int:
    """Return the largest size of a checkpoint: the network, two moments and an average of each parameter."""
    return 5 * sum(int(value.nbytes) for value in network.state_dict().values()) + _NAMES_BYTES


def restore_checkpoint(
    data: bytes | None, network: nn.Module, optimizer: torch.optim.AdamW, identity: str, num_epochs: int
) -> Progress:
    """Load a checkpoint into network and optimizer; return how many of the `num_epochs` are done.

    Changes nothing, and returns a Progress of 0 epochs, if `data` is None, damaged, of another training, or
    not finite.
    """
    tensors = None if data is None else unseal(data, identity)
    if tensors is None or not _fits(tensors, network, optimizer):
        return Progress()
    if not 0 < int(tensors[_EPOCH]) < num_epochs:
        return Progress()
    network.load_state_dict({name: tensors[f"network.{name}"] for name in network.state_dict()})
    moments: dict[int, dict[str, Tensor]] = {}
    for number, parameter in enumerate(_parameters(optimizer)):
        for name in MOMENTS:
            value = tensors.get(f"optimizer.{number}.{name}")
            if value is not None:
                # Moments get the memory layout of the parameter, so that sums have the same order.
                laid_out = value if name == "step" else torch.empty_like(parameter).copy_(value)
                moments.setdefault(number, {})[name] = laid_out
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return Progress(int(tensors[_EPOCH]), under(tensors, _MORE))


def _parameters(optimizer: torch.optim.AdamW) -> list[Tensor]:
    """Return the parameters in the order in which the optimiser counts them."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _fits(tensors: dict[str, Tensor], network: nn.Module, optimizer: torch.optim.AdamW) -> bool:
    """Return whether tensors are a checkpoint of the network, with finite parameters and moments."""
    expected: dict[str, Tensor] = {_EPOCH: torch.tensor(0)}
    expected |= {f"network.{name}": parameter for name, parameter in network.named_parameters()}
    for number, parameter in enumerate(_parameters(optimizer)):
        for moment in MOMENTS:
            key = f"optimizer.{number}.{moment}"
            if key in tensors:  # a parameter without a gradient has no moments
                expected[key] = torch.zeros(()) if moment == "step" else parameter
    buffers = {f"network.{name}": value.shape for name, value in network.state_dict().items()}
    return fits(tensors, expected) and all(
        name in tensors and tensors[name].shape == shape for name, shape in buffers.items()
    )
