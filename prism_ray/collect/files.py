"""The files of this room, which are safetensors; statistics.py and scores.py say what they hold."""

from collections.abc import Mapping

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor


def class_key(label: int, name: str) -> str:
    """Return the key of a tensor that belongs to one class: `00012/loss`."""
    return f"{label:05d}/{name}"


def encode(tensors: Mapping[str, Tensor]) -> bytes:
    """Return tensors as safetensors; the bytes do not depend on the order of the keys."""
    return safetensors.torch.save({key: value.contiguous() for key, value in tensors.items()})


def decode(data: bytes) -> dict[str, Tensor]:
    """Return the tensors of a file, in the order of their keys.

    Raises ValueError if `data` is no such file, or was cut short.
    """
    try:
        return dict(sorted(safetensors.torch.load(data).items()))
    # The library's own, a dtype that torch has not, and empty shapes that are too large for torch.
    except (SafetensorError, LookupError, RuntimeError, TypeError) as error:
        raise ValueError(f"no whole file of safetensors: {error}") from None
