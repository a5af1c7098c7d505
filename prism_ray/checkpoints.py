"""The state of a unit that is not done yet, as bytes that are trusted only whole and in their place."""

import hashlib
from collections.abc import Mapping
from typing import Protocol

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # what Adam and AdamW keep of a parameter
_DIGEST = "digest"


class Checkpoints(Protocol):
    """Where the state of one unit is kept between attempts; the last one saved is enough."""

    @property
    def identity(self) -> str:
        """What the state must have been made with to be gone on from: settings, weights."""

    def due(self) -> bool:
        """Say whether it is time to save."""

    def save(self, data: bytes) -> None:
        """Keep the state; may raise to end the unit here."""

    def load(self) -> bytes | None:
        """Return what was saved last, None if nothing was."""


def seal(tensors: dict[str, Tensor], identity: str) -> bytes:
    """Return tensors as safetensors with a digest of them and of `identity`."""
    # safetensors takes no two tensors that share memory
    held = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    held[_DIGEST] = _digest(held, identity)
    return safetensors.torch.save(held)


def unseal(data: bytes, identity: str) -> dict[str, Tensor] | None:
    """Return what was sealed under `identity`, on the CPU; None if `data` is damaged or of another."""
    try:
        tensors = safetensors.torch.load(data)
    except (SafetensorError, ValueError):
        return None
    digest = tensors.pop(_DIGEST, None)
    if digest is None or not torch.equal(digest, _digest(tensors, identity)):
        return None
    return tensors


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return what stands under a prefix, without it."""
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _digest(tensors: dict[str, Tensor], identity: str) -> Tensor:
    """Hash everything but the digest, and what the state belongs to."""
    digest = hashlib.sha256(identity.encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    return torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8)
