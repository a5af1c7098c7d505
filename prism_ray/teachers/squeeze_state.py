"""The state of a squeeze after an epoch, as bytes: a training that was cut off goes on from there.

All randomness of an epoch derives from the seed and the epoch's number, so the state is weights, AdamW's
moments and the number of epochs done, and a resumed training ends in the very bytes of an undisturbed one.
"""

import torch
from torch import Tensor, nn

from prism_ray.sealed import MOMENTS, fits, seal, unseal

_EPOCH = "num_epochs"
_NAMES_BYTES = 2**24


def encode_state(network: nn.Module, optimizer: torch.optim.AdamW, num_epochs: int, identity: str) -> bytes:
    """Return the state as safetensors; `identity` says of which training it is."""
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": state[name] for name in MOMENTS}
    return seal(tensors | {_EPOCH: torch.tensor(num_epochs)}, identity)


def max_state_bytes(network: nn.Module) -> int:
    """Bytes of a state at most: the network, and two moments of each parameter."""
    return 4 * sum(int(value.nbytes) for value in network.state_dict().values()) + _NAMES_BYTES


def restore_state(
    data: bytes, network: nn.Module, optimizer: torch.optim.AdamW, identity: str, num_epochs: int
) -> int:
    """Put a state back in place; return how many of the `num_epochs` are done.

    Returns 0 and changes nothing if `data` is damaged, of another training, or not finite: it starts anew
    then.
    """
    tensors = unseal(data, identity)
    if tensors is None or not _fits(tensors, network) or not 0 < int(tensors[_EPOCH]) < num_epochs:
        return 0
    weights = {name: tensors[f"network.{name}"] for name in network.state_dict()}
    network.load_state_dict(weights)
    moments: dict[int, dict[str, Tensor]] = {}
    for number, parameter in enumerate(network.parameters()):
        state = {name: tensors.get(f"optimizer.{number}.{name}") for name in MOMENTS}
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


def _fits(tensors: dict[str, Tensor], network: nn.Module) -> bool:
    """True if tensors are a state of the network: those that were trained finite, moments like them."""
    expected = {_EPOCH: torch.tensor(0)}
    for number, (name, parameter) in enumerate(network.named_parameters()):
        expected[f"network.{name}"] = parameter
        for moment in MOMENTS:
            key = f"optimizer.{number}.{moment}"
            if key in tensors:  # a parameter without a gradient has none
                expected[key] = torch.zeros(()) if moment == "step" else parameter
    buffers = {f"network.{name}": value.shape for name, value in network.state_dict().items()}
    return fits(tensors, expected) and all(
        name in tensors and tensors[name].shape == shape for name, shape in buffers.items()
    )
