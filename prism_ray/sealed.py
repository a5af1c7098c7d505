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

    def load(self, max_bytes: int) -> bytes | None:
        """Return what was saved last, None if nothing was, or something too large to be a state."""


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
        digest = tensors.pop(_DIGEST)
        is_whole = torch.equal(digest, _digest(tensors, identity))
    except (SafetensorError, ValueError, LookupError, RuntimeError):
        return None
    return tensors if is_whole else None


def fits(held: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> bool:
    """True if `held` has each tensor of `expected`, with its shape and kind of number, and finite values."""
    return all(
        (value := held.get(name)) is not None
        and value.shape == like.shape
        and value.dtype == like.dtype
        and bool(torch.isfinite(value).all())
        for name, like in expected.items()
    )


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
