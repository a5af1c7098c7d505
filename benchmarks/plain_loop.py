"""A recover step of the engine against a plain loop: python benchmarks/plain_loop.py [--device cuda]

The plain loop is the method as its papers describe it (SRe2L, arXiv 2306.13092; PRISM, arXiv 2511.09905),
written down without a thought of speed: the primary runs once for the logits and once more for its
statistics; a hook takes the variance from a permuted copy; float32, contiguous; torchvision's crop; and the
loss is read on the host in each iteration. It knows nothing of the engine but the numbers that it is given.

Before anything is measured, both must give the same loss, pixel gradient and pixels in float64. Then the
engine runs with the settings of an actor, and the plain loop with those of torch.
"""

import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import click
import numpy as np
import torch
from measure import (
    NO_HEAP,
    Took,
    Watch,
    describe,
    deterministic,
    in_process,
    pair,
    peak_growth,
)
from setups import (
    Job,
    first_pixels,
    job_options,
    make_networks,
    make_setting,
    recover_with_engine,
    with_iterations,
)
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as TF

from prism_ray.crops import draw_crops
from prism_ray.recover.augment import Augmentation
from prism_ray.recover.engine import optimise
from prism_ray.recover.objective import Objective
from prism_ray.recover.setting import RecoverSetting
from prism_ray.seeds import derive_seed

_TOLERANCE = 1e-10


@dataclass(frozen=True)
class Draw:
    """What is drawn for an iteration."""

    top: int
    left: int
    height: int
    width: int
    flip: bool
    down: int
    right: int


def draws_of(setting: RecoverSetting) -> list[Draw]:
    """Return the crops, flips and rolls of all iterations, as the engine draws them."""
    config, count = setting.config, setting.unit.num_iterations
    rng = np.random.default_rng(derive_seed(setting.unit.seed, "augment"))
    crops = draw_crops(rng, count, setting.image_size, config.crop_scale)
    flips = (rng.random(count) < 0.5) & config.flip
    shifts = (rng.random((2, count)) * (config.jitter + 1)).astype(np.int64)
    columns = (crops.top, crops.left, crops.height, crops.width, flips, *shifts)
    return [Draw(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


class FeatureHook:
    """The gap of one BatchNorm layer, from the input of its forward pass."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer
        self.gap: Tensor | None = None
        self.handle = layer.register_forward_hook(self.hook)

    def hook(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        features = inputs[0]  # N, F, H, W
        num_features = features.shape[1]
        mean = features.mean([0, 2, 3])
        rows = features.permute(1, 0, 2, 3).contiguous().view(num_features, -1)
        variance = rows.var(1, unbiased=False)
        running_mean, running_var = self.layer.running_mean, self.layer.running_var
        assert isinstance(running_mean, Tensor)
        assert isinstance(running_var, Tensor)
        self.gap = torch.norm(running_var - variance, 2) + torch.norm(running_mean - mean, 2)


class PlainLoop:
    """The optimisation of a batch; the first network is the primary, and all are matched."""

    def __init__(self, networks: Mapping[str, nn.Module], setting: RecoverSetting) -> None:
        config, space = setting.config, setting.space
        self.networks = [network.to(setting.device) for network in networks.values()]
        self._labels, self._device, self._size = setting.labels, setting.device, setting.image_size
        self._learning_rate, self._betas = config.learning_rate, config.betas
        self._bn_weight, self._first_weight = config.bn_weight, config.statistics.first_weight
        self._lowest, self._highest = -space.mean / space.std, (1.0 - space.mean) / space.std

    def loss(self, x: Tensor, draw: Draw) -> Tensor:
        """Return the loss of pixels x (B, 3, H, W)."""
        size = [self._size, self._size]
        seen = TF.resized_crop(x, draw.top, draw.left, draw.height, draw.width, size, antialias=True)
        if draw.flip:
            seen = TF.horizontal_flip(seen)
        seen = torch.roll(seen, shifts=(draw.down, draw.right), dims=(2, 3))
        cross_entropy = F.cross_entropy(self.networks[0](seen), self._labels)
        alignments = []
        for network in self.networks:
            hooks = [FeatureHook(layer) for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
            network(seen)
            weights = [self._first_weight] + [1.0] * (len(hooks) - 1)
            alignments.append(sum(w * hook.gap for w, hook in zip(weights, hooks, strict=True)))
            for hook in hooks:
                hook.handle.remove()
        return cross_entropy + self._bn_weight * sum(alignments) / len(alignments)

    def run(self, x: Tensor, draws: list[Draw], warmup: int = 0) -> tuple[Tensor, Took]:
        """Optimise pixels; return them, and the time of an iteration after the first `warmup`."""
        x = x.clone().requires_grad_(True)
        optimizer = torch.optim.Adam([x], lr=self._learning_rate, betas=self._betas, eps=1e-8)
        best, watch = math.inf, Watch(self._device)
        for iteration, draw in enumerate(draws):
            if iteration == warmup:
                watch = Watch(self._device)
            factor = 0.5 * (1.0 + math.cos(math.pi * iteration / len(draws)))
            for group in optimizer.param_groups:
                group["lr"] = self._learning_rate * factor
            optimizer.zero_grad()
            loss = self.loss(x, draw)
            loss.backward()
            optimizer.step()
            x.data = torch.maximum(torch.minimum(x.data, self._highest), self._lowest)
            best = min(best, loss.item())
        return x.detach(), watch.stop().per(len(draws) - warmup)


@contextmanager
def plain_float32(allow_tf32: bool = False) -> Iterator[None]:
    """Compute float32 in float32 on CUDA too: torch rounds convolutions to TF32 unless it is told not to."""
    settings = torch.backends.cudnn.conv, torch.backends.cuda.matmul
    before = [setting.fp32_precision for setting in settings]
    torch.backends.cudnn.conv.fp32_precision = "tf32" if allow_tf32 else "ieee"
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    try:
        yield
    finally:
        for setting, precision in zip(settings, before, strict=True):
            setting.fp32_precision = precision


@contextmanager
def float64() -> Iterator[None]:
    """Make float64 the default dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def differences(job: Job, iterations: int = 3) -> dict[str, float]:
    """Return how far the engine is from the plain loop in float64, relative to the largest value.

    `loss` and `gradient` are those of the first iteration, `pixels` those after `iterations`.
    """
    with float64(), deterministic(False):
        networks = make_networks(job)
        setting = make_setting(job, networks, iterations)
        draws = draws_of(setting)
        x = first_pixels(job)
        theirs = x.clone().requires_grad_(True)
        plain = PlainLoop(networks, setting)
        loss = plain.loss(theirs, draws[0])
        (gradient,) = torch.autograd.grad(loss, theirs)
        seed = derive_seed(setting.unit.seed, "augment")
        augment = Augmentation(setting.config, iterations, job.size, seed, job.device)
        ours = x.clone().requires_grad_(True)
        with Objective(setting) as objective:
            own_loss = objective(augment(ours, 0), setting.unit.draws[0]).total
            own_loss.backward()
        pixels = x.clone()
        with Objective(setting) as objective:
            optimise(pixels, setting, objective, augment)
        assert ours.grad is not None
        return {
            "loss": _difference(own_loss.detach(), loss.detach()),
            "gradient": _difference(ours.grad, gradient),
            "pixels": _difference(pixels.detach(), plain.run(x, draws)[0]),
        }


def _difference(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


@dataclass(frozen=True)
class Contest:
    """The two loops on the same batch, each measured by iteration."""

    setting: RecoverSetting
    plain: PlainLoop
    x: Tensor
    warmup: int

    @classmethod
    def of(cls, job: Job, iterations: int, warmup: int) -> "Contest":
        networks = make_networks(job)
        setting = make_setting(job, networks, warmup + iterations)
        return cls(setting, PlainLoop(networks, setting), first_pixels(job), warmup)

    def ours(self) -> Took:
        with deterministic(True):
            return recover_with_engine(self.setting, self.x, self.warmup)

    def theirs(self) -> Took:
        with plain_float32():
            return self.plain_seconds()

    def plain_seconds(self) -> Took:
        """Run the plain loop at the precision of the moment."""
        with deterministic(False):  # torchvision's crop has no deterministic gradient on CUDA
            return self.plain.run(self.x, draws_of(self.setting), self.warmup)[1]


def peak_of(way: str, job: Job) -> int:
    """Return the bytes by which two iterations of a way (plain, engine, recompute) raise the memory."""
    job = replace(job, recompute=way == "recompute")
    networks = make_networks(job)
    setting = make_setting(job, networks, 2)
    x = first_pixels(job)
    if way == "plain":
        plain, draws = PlainLoop(networks, setting), draws_of(setting)
        with deterministic(False):
            return peak_growth(lambda: plain.run(x, draws), job.device)
    del networks
    with deterministic(True):
        return peak_growth(lambda: recover_with_engine(with_iterations(setting, 2), x, 0), job.device)


@click.command(help=(__doc__ or "").partition("\n")[0])
@job_options
@click.option("--rounds", default=7, show_default=True, help="Paired measurements.")
@click.option("--iterations", help="Measured iterations of a round; default: 2, on CUDA 20.", type=int)
@click.option("--warmup", help="Iterations before them; default: 0, on CUDA 10.", type=int)
@click.option("--memory/--no-memory", default=True, help="Whether to measure the peak memory too.")
@click.option("--only", hidden=True, help="Print the peak memory of plain, engine or recompute.")
def main(
    job: Job, rounds: int, iterations: int | None, warmup: int | None, memory: bool, only: str | None
) -> None:
    if only:
        click.echo(peak_of(only, job))
        return
    on_cuda = job.device.type == "cuda"
    own = (iterations or (20 if on_cuda else 2), warmup if warmup is not None else (10 if on_cuda else 0))
    click.echo(describe(job.device))
    what = f"{job.batch} images of {job.size}, {' + '.join(job.archs)}"
    click.echo(f"{what}, engine in {job.precision}, plain loop in fp32")
    small = Job(job.archs, min(job.batch, 4), min(job.size, 32), job.device)
    found = differences(small)
    click.echo("float64, largest difference: " + ", ".join(f"{k} {v:.1e}" for k, v in found.items()))
    if max(found["loss"], found["gradient"]) > _TOLERANCE:
        sys.exit(f"the engine does not compute what the plain loop does (more than {_TOLERANCE})")
    contest = Contest.of(job, *own)
    pairs = pair(contest.ours, contest.theirs, rounds)
    engine, plain = pairs.seconds
    click.echo(f"seconds of an iteration: plain {plain:.4f}, engine {engine:.4f}; {pairs}")
    if memory:
        del contest
        _print_memory(job, on_cuda)


def _print_memory(job: Job, on_cuda: bool) -> None:
    peaks = {}
    for way in ("plain", "engine", "recompute"):
        peaks[way] = (
            peak_of(way, job) if on_cuda else int(in_process([*sys.argv[1:], "--only", way], **NO_HEAP))
        )
    for way, peak in peaks.items():
        share = peak / peaks["plain"]
        click.echo(f"peak memory, {way}: {peak / job.batch / 2**20:.1f} MiB an image, {share:.0%} of plain")


if __name__ == "__main__":
    main()
