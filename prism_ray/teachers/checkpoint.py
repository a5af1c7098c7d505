"""The state of a squeeze after an epoch, as bytes: a training that was cut off goes on from there.

All randomness of an epoch derives from the seed and the epoch's number, so the state is weights, AdamW's
moments and the number of epochs done, and a resumed training ends in the very bytes of an undisturbed one.
"""

import hashlib
from typing import Protocol

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

_EPOCH = "num_epochs"
_DIGEST = "digest"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class Checkpoints(Protocol):
    """Where the state of one squeeze is kept between attempts; the last one saved is enough."""

    def save(self, num_epochs: int, data: bytes) -> None:
        """Keep the state after `num_epochs` epochs."""

    def load(self) -> bytes | None:
        """Return what was saved last, None if nothing was."""


def encode_state(network: nn.Module, optimizer: torch.optim.AdamW, num_epochs: int, identity: str) -> bytes:
    """Return the state as safetensors; `identity` says of which training it is."""
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": state[name] for name in _MOMENTS}
    tensors = {name: value.detach().contiguous().cpu() for name, value in tensors.items()}
    tensors[_EPOCH] = torch.tensor(num_epochs)
    tensors[_DIGEST] = _digest(tensors, identity)
    return safetensors.torch.save(tensors)


def restore_state(data: bytes, network: nn.Module, optimizer: torch.optim.AdamW, identity: str) -> int:
    """Put a state back in place; return the number of epochs done.

    Returns 0 and changes nothing if `data` is damaged or of another training: it starts anew then.
    """
    try:
        tensors = safetensors.torch.load(data)
    except (SafetensorError, ValueError):
        return 0
    digest = tensors.pop(_DIGEST, None)
    if digest is None or not torch.equal(digest, _digest(tensors, identity)):
        return 0
    weights = {name: tensors[f"network.{name}"] for name in network.state_dict()}
    network.load_state_dict(weights)
    moments: dict[int, dict[str, Tensor]] = {}
    for number, parameter in enumerate(network.parameters()):
        state = {name: tensors.get(f"optimizer.{number}.{name}") for name in _MOMENTS}
        moments[number] = {
            # laid out in memory as the parameter, so that the sums are taken in the same way
            name: value if name == "step" else torch.empty_like(parameter).copy_(value)
            for name, value in state.items()
            if value is not None
        }
    groups = optimizer.state_dict()["param_groups"]
    held = {number: state for number, state in moments.items() if state}
    optimizer.load_state_dict({"state": held, "param_groups": groups})
    return int(tensors[_EPOCH])


def _digest(tensors: dict[str, Tensor], identity: str) -> Tensor:
    """Hash everything but the digest, and what the state belongs to."""
    digest = hashlib.sha256(identity.encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    return torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8)
