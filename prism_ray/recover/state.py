"""The state of recover's loop between two iterations, and its checkpoint as bytes.

The random parameters of all iterations are drawn before the loop. So the state is the pixels, Adam's moments,
the moving averages, the recorded losses and the iteration. The states of torch's generators are added for
methods from elsewhere, whose terms may draw from them.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from prism_ray.recover.curve import CurveRecorder
from prism_ray.recover.objective import Losses, Objective
from prism_ray.sealed import MOMENTS, fits, seal, under, unseal

_ITERATION = "iteration"
_CURVE = "curve"
_AVERAGES_BYTES = 2**28
_SCALARS = ("total", "ce", "bn")


@dataclass
class LoopState:
    """The optimisation of one batch after `iteration` iterations."""

    x: Tensor  # B, channels, H, W in the reference space
    optimizer: torch.optim.Adam
    objective: Objective
    curve: CurveRecorder
    iteration: int = 0
    first: Losses | None = None
    first_seen: dict[str, Tensor] = field(default_factory=dict)  # teacher -> R_m when it was drawn first
    last_seen: dict[str, Tensor] = field(default_factory=dict)  # and when it was drawn last

    def record(self, losses: Losses) -> None:
        """Count an iteration and keep its losses."""
        self.first = self.first or losses
        self.first_seen = losses.alignments | self.first_seen
        self.last_seen |= losses.alignments
        self.curve.record(self.iteration, losses)
        self.iteration += 1

    def encode(self, identity: str) -> bytes:
        """Return the checkpoint of the batch that `identity` describes. Waits for the device."""
        assert self.first is not None
        (moments,) = self.optimizer.state_dict()["state"].values()
        generators = {"cpu": torch.get_rng_state()}
        if self.x.is_cuda:
            generators["cuda"] = torch.cuda.get_rng_state(self.x.device)
        tensors = {"x": self.x, _CURVE: self.curve.values, _ITERATION: torch.tensor(self.iteration)}
        for prefix, values in (
            ("adam/", {name: moments[name] for name in MOMENTS}),
            ("objective/", self.objective.state()),
            ("first/", {name: getattr(self.first, name) for name in _SCALARS}),
            ("first_alignments/", self.first.alignments),
            ("first_terms/", self.first.terms),
            ("first_seen/", self.first_seen),
            ("last_seen/", self.last_seen),
            ("generator/", generators),
        ):
            tensors |= {f"{prefix}{name}": value for name, value in values.items()}
        return seal(tensors, identity)

    @property
    def max_bytes(self) -> int:
        """Upper bound of a checkpoint's size: the pixels, their moments, averages of layers."""
        return 4 * self.x.nbytes + _AVERAGES_BYTES

    def restore(self, data: bytes, identity: str, num_iterations: int) -> None:
        """Resume from a checkpoint that `encode` returned, in a batch of `num_iterations`.

        Nothing changes if the checkpoint is damaged, of another batch, or not finite.
        """
        saved = unseal(data, identity)
        if saved is None or not self._accepts(saved) or not 0 < int(saved[_ITERATION]) < num_iterations:
            return
        self.iteration = int(saved[_ITERATION])
        with torch.no_grad():
            self.x.copy_(saved["x"])
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": {0: under(saved, "adam/")}, "param_groups": groups})
        torch.set_rng_state(saved["generator/cpu"])
        if self.x.is_cuda and "generator/cuda" in saved:
            torch.cuda.set_rng_state(saved["generator/cuda"], self.x.device)
        here = {name: value.to(self.x.device) for name, value in saved.items()}
        self.objective.restore(under(here, "objective/"))
        self.curve.restore(saved[_CURVE])
        self.first = Losses(
            **under(here, "first/"),
            alignments=under(here, "first_alignments/"),
            terms=under(here, "first_terms/"),
        )
        self.first_seen, self.last_seen = under(here, "first_seen/"), under(here, "last_seen/")

    def _accepts(self, saved: dict[str, Tensor]) -> bool:
        pixels, scalar = self.x.detach(), torch.zeros(())
        expected = dict.fromkeys(("x", "adam/exp_avg", "adam/exp_avg_sq"), pixels)
        expected |= dict.fromkeys(("adam/step", *(f"first/{name}" for name in _SCALARS)), scalar)
        expected |= {
            _CURVE: self.curve.values.cpu(),
            _ITERATION: torch.tensor(0),
            "generator/cpu": torch.get_rng_state(),
        }
        others = {name: value for name, value in saved.items() if value.is_floating_point()}
        return fits(saved, expected) and fits(others, others)
