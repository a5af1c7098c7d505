"""The checkpoint of a squeeze after an epoch, as bytes, from which an interrupted training resumes.

All randomness of an epoch derives from the seed and the epoch's number, so a checkpoint has the weights,
AdamW's moments and the number of epochs done; a resumed training ends with the same bytes as any other.
"""

import torch
from torch import Tensor, nn

from prism_ray.sealed import MOMENTS, fits, seal, unseal

_EPOCH = "num_epochs"
_NAMES_BYTES = 2**24


def encode_checkpoint(
    network: nn.Module, optimizer: torch.optim.AdamW, num_epochs: int, identity: str
) -> bytes:
    """Return the checkpoint as safetensors; `identity` names the training that it belongs to."""
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": state[name] for name in MOMENTS}
    return seal(tensors | {_EPOCH: torch.tensor(num_epochs)}, identity)


def max_checkpoint_bytes(network: nn.Module) -> int:
    """Return the largest size of a checkpoint: the network, and two moments of each parameter."""
    return 4 * sum(int(value.nbytes) for value in network.state_dict().values()) + _NAMES_BYTES


def restore_checkpoint(
    data: bytes, network: nn.Module, optimizer: torch.optim.AdamW, identity: str, num_epochs: int
) -> int:
    """Load a checkpoint into network and optimizer; return how many of the `num_epochs` are done.

    Returns 0 and changes nothing if `data` is damaged, of another training, or not finite.
    """
    tensors = unseal(data, identity)
    if tensors is None or not _fits(tensors, network) or not 0 < int(tensors[_EPOCH]) < num_epochs:
        return 0
    network.load_state_dict({name: tensors[f"network.{name}"] for name in network.state_dict()})
    moments: dict[int, dict[str, Tensor]] = {}
    for number, parameter in enumerate(network.parameters()):
        for name in MOMENTS:
            value = tensors.get(f"optimizer.{number}.{name}")
            if value is not None:
                # Moments get the memory layout of the parameter, so that sums have the same order.
                laid_out = value if name == "step" else torch.empty_like(parameter).copy_(value)
                moments.setdefault(number, {})[name] = laid_out
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(tensors[_EPOCH])


def _fits(tensors: dict[str, Tensor], network: nn.Module) -> bool:
    """Return whether tensors are a checkpoint of the network, with finite parameters and moments."""
    expected = {_EPOCH: torch.tensor(0)}
    for number, (name, parameter) in enumerate(network.named_parameters()):
        expected[f"network.{name}"] = parameter
        for moment in MOMENTS:
            key = f"optimizer.{number}.{moment}"
            if key in tensors:  # a parameter without a gradient has no moments
                expected[key] = torch.zeros(()) if moment == "step" else parameter
    buffers = {f"network.{name}": value.shape for name, value in network.state_dict().items()}
    return fits(tensors, expected) and all(
        name in tensors and tensors[name].shape == shape for name, shape in buffers.items()
    )
