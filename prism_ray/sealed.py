"""The checkpoint of a unit as bytes, which are trusted only if they are complete and belong to the unit."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Protocol

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # what Adam and AdamW keep of a parameter
_DIGEST = "digest"


class Checkpoints(Protocol):
    """The place of one unit's checkpoint between attempts; only the last one saved is kept."""

    @property
    def identity(self) -> str:
        """The settings and weights that a checkpoint must have been made with to resume from it."""

    def report(self, num_done: int, total: int, values: Callable[[], Mapping[str, float]]) -> None:
        """Tell how many of a unit's `total` steps are done.

        `values` returns what is known of the last ones, such as a loss. It may wait for the device, so it is
        called seldom.
        """

    def due(self) -> bool:
        """Return whether it is time to save."""

    def save(self, data: bytes) -> None:
        """Store a checkpoint; may raise to end the unit here."""

    def load(self, max_bytes: int) -> bytes | None:
        """Return the last checkpoint; None if there is none or if it has more than `max_bytes`."""


def seal(tensors: dict[str, Tensor], identity: str) -> bytes:
    """Return tensors as safetensors with a digest of them and of `identity`."""
    # safetensors refuses two tensors that share memory
    copies = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    return safetensors.torch.save(copies | {_DIGEST: _digest(copies, identity)})


def unseal(data: bytes, identity: str) -> dict[str, Tensor] | None:
    """Return what was sealed, on the CPU; None if `data` is damaged or has another identity."""
    try:
        tensors = safetensors.torch.load(data)
        digest = tensors.pop(_DIGEST)
        return tensors if torch.equal(digest, _digest(tensors, identity)) else None
    except (SafetensorError, ValueError, LookupError, RuntimeError):
        return None


def fits(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> bool:
    """Return whether `found` has each tensor of `expected` with its shape and dtype, and finite values."""
    return all(
        (value := found.get(name)) is not None
        and value.shape == like.shape
        and value.dtype == like.dtype
        and bool(torch.isfinite(value).all())
        for name, like in expected.items()
    )


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix, by their names without it."""
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _digest(tensors: dict[str, Tensor], identity: str) -> Tensor:
    """Hash the identity and all tensors."""
    digest = hashlib.sha256(identity.encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    return torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8)
