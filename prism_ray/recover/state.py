"""Where the loop of recover stands between two iterations, and the same as bytes.

What an iteration draws at random is drawn before the loop, so the state is the pixels, Adam's moments, the
moving averages, the losses noted and the iteration. Torch's generators are kept for methods from elsewhere
whose terms may draw from them.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from prism_ray.recover.objective import Losses, Objective
from prism_ray.sealed import MOMENTS, fits, seal, under, unseal

_ITERATION = "iteration"
_AVERAGES_BYTES = 2**28
_SCALARS = ("total", "ce", "bn")


@dataclass
class LoopState:
    """The optimisation of one batch after `iteration` iterations."""

    x: Tensor  # B, channels, H, W in the reference space
    optimizer: torch.optim.Adam
    objective: Objective
    iteration: int = 0
    first: Losses | None = None
    first_seen: dict[str, Tensor] = field(default_factory=dict)  # teacher -> R_m when it was drawn first
    last_seen: dict[str, Tensor] = field(default_factory=dict)  # and when it was drawn last

    def _fits(self, held: dict[str, Tensor]) -> bool:
        like = self.x.detach()
        others = {name: value for name, value in held.items() if value.is_floating_point()}
        pixels = {"x": like, "adam/exp_avg": like, "adam/exp_avg_sq": like}
        return fits(held, pixels | _figures()) and fits(others, others)

    def note(self, losses: Losses) -> None:
        """Count an iteration and keep its losses."""
        self.first = self.first or losses
        self.first_seen = losses.alignments | self.first_seen
        self.last_seen |= losses.alignments
        self.iteration += 1

    def encode(self, identity: str) -> bytes:
        """Return the state as bytes; `identity` says of which batch it is. Waits for the device."""
        assert self.first is not None
        (moments,) = self.optimizer.state_dict()["state"].values()
        tensors = {"x": self.x, _ITERATION: torch.tensor(self.iteration)}
        for prefix, values in (
            ("adam/", {name: moments[name] for name in MOMENTS}),
            ("objective/", self.objective.state()),
            ("first/", {name: getattr(self.first, name) for name in _SCALARS}),
            ("first_alignments/", self.first.alignments),
            ("first_terms/", self.first.terms),
            ("first_seen/", self.first_seen),
            ("last_seen/", self.last_seen),
            ("generator/", _generators(self.x)),
        ):
            tensors |= {f"{prefix}{name}": value for name, value in values.items()}
        return seal(tensors, identity)

    @property
    def max_bytes(self) -> int:
        """Bytes of a state at most: the pixels, their moments, and averages of the teachers' layers."""
        return 4 * self.x.nbytes + _AVERAGES_BYTES

    def restore(self, data: bytes, identity: str, num_iterations: int) -> None:
        """Go on from what `encode` returned, in a batch of `num_iterations`.

        Nothing changes if `data` is damaged, of another batch, or not finite.
        """
        held = unseal(data, identity)
        if held is None or not self._fits(held) or not 0 < int(held[_ITERATION]) < num_iterations:
            return
        self.iteration = int(held[_ITERATION])
        with torch.no_grad():
            self.x.copy_(held["x"])
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": {0: under(held, "adam/")}, "param_groups": groups})
        _set_generators(self.x, under(held, "generator/"))
        here = {name: value.to(self.x.device) for name, value in held.items()}
        self.objective.restore(under(here, "objective/"))
        self.first = Losses(
            **under(here, "first/"),
            alignments=under(here, "first_alignments/"),
            terms=under(here, "first_terms/"),
        )
        self.first_seen, self.last_seen = under(here, "first_seen/"), under(here, "last_seen/")


def _figures() -> dict[str, Tensor]:
    """Return what every state has beside the pixels and their moments."""
    one = torch.zeros(())
    first = {f"first/{name}": one for name in _SCALARS}
    return {_ITERATION: torch.tensor(0), "adam/step": one, **first, "generator/cpu": torch.get_rng_state()}


def _generators(x: Tensor) -> dict[str, Tensor]:
    """Return the states of torch's global generators, as far as work on x may draw from them."""
    states = {"cpu": torch.get_rng_state()}
    return states | ({"cuda": torch.cuda.get_rng_state(x.device)} if x.is_cuda else {})


def _set_generators(x: Tensor, states: dict[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if x.is_cuda and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], x.device)
