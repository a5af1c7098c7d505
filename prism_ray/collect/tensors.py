"""The files of this room, in safetensors; statistics.py and scores.py describe their contents."""

from collections.abc import Mapping

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor


def class_key(label: int, name: str) -> str:
    """Return the key of a tensor of one class, for example `00012/loss`."""
    return f"{label:05d}/{name}"


def encode(tensors: Mapping[str, Tensor]) -> bytes:
    """Return tensors as safetensors; the bytes do not depend on the order of the keys."""
    return safetensors.torch.save({key: value.contiguous() for key, value in tensors.items()})


def decode(data: bytes) -> dict[str, Tensor]:
    """Return the tensors of a file, in the order of their keys.

    Raises ValueError if `data` is not such a file, or is incomplete.
    """
    try:
        return dict(sorted(safetensors.torch.load(data).items()))
    # safetensors' own errors, a dtype that torch does not have, and empty shapes too large for torch.
    except (SafetensorError, LookupError, RuntimeError, TypeError) as error:
        raise ValueError(f"not a complete safetensors file: {error}") from None
