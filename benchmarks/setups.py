"""What the benchmarks of recover run on: teachers with random weights, and the setting of one batch.

Nothing is downloaded. The statistics of a network's BatchNorm layers are those of noise that it was shown, so
that its activations have the usual sizes.
"""

import copy
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import click
import torch
from measure import Took, Watch
from torch import Tensor, nn

from prism_ray.config import NetworkConfig, RecoverConfig
from prism_ray.config.recover import Precision
from prism_ray.recover.engine import recover_batch
from prism_ray.recover.setting import RecoverSetting
from prism_ray.recover.space import ReferenceSpace
from prism_ray.stages.formation import Slot
from prism_ray.stages.recover import RecoverUnit
from prism_ray.teachers.batchnorm import find_batchnorm
from prism_ray.teachers.build import build_network
from prism_ray.teachers.library import IMAGENET_MEAN, IMAGENET_STD
from prism_ray.teachers.teacher import Preprocessing, Teacher, freeze

PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@dataclass(frozen=True)
class Job:
    """One batch to recover; the first teacher is the primary, and all of them are matched."""

    archs: tuple[str, ...]
    batch: int
    size: int
    device: torch.device
    classes: int = 1000
    precision: str = "fp32"
    recompute: bool = False
    values: Mapping[str, Any] = field(default_factory=dict)  # other keys of `recover`


def make_network(arch: str, classes: int, size: int, seed: int = 0) -> nn.Module:
    """Return a network on the CPU with random weights, its BatchNorm layers filled with some statistics."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(NetworkConfig(arch=arch), classes, "--arch")
        layers = find_batchnorm(network)
        for layer in layers:
            if isinstance(layer.weight, nn.Parameter):
                nn.init.uniform_(layer.weight, 0.5, 1.5)
                nn.init.normal_(layer.bias, 0.0, 0.2)
        momenta = [getattr(layer, "momentum", None) for layer in layers]
        for layer in layers:
            layer.momentum = 1.0  # type: ignore[assignment]
        with torch.no_grad():
            network.train()(torch.randn(8, 3, size, size))
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum  # type: ignore[assignment]
    return network.eval().requires_grad_(False)


def make_networks(job: Job) -> dict[str, nn.Module]:
    """Return the networks of a job by name, as their library lays them out."""
    names = [arch.partition(":")[2] for arch in job.archs]
    return {
        f"{number}-{name}": make_network(arch, job.classes, job.size, number)
        for number, (name, arch) in enumerate(zip(names, job.archs, strict=True))
    }


def make_setting(job: Job, networks: Mapping[str, nn.Module], iterations: int) -> RecoverSetting:
    """Return the setting of a batch with copies of the networks, as an actor would load them."""
    preprocessing = Preprocessing(IMAGENET_MEAN, IMAGENET_STD, job.size)
    names = tuple(networks)
    slots = tuple(Slot(number % job.classes, number // job.classes) for number in range(job.batch))
    config = {
        "ipc": 1 + job.batch // job.classes,
        "primary": names[0],
        "iterations": iterations,
        "iterations_step": 0,
        "precision": job.precision,
        **job.values,
    }
    return RecoverSetting(
        unit=RecoverUnit("benchmark", "b", slots, (iterations,) * len(slots), (names,), seed=0),
        config=RecoverConfig.model_validate(config),
        teachers={
            name: Teacher(name, freeze(copy.deepcopy(network), job.device), preprocessing)
            for name, network in networks.items()
        },
        labels=torch.tensor([slot.label for slot in slots], device=job.device),
        space=ReferenceSpace.of(preprocessing, 3, job.device),
        image_size=job.size,
        device=job.device,
        recompute=job.recompute,
    )


def first_pixels(job: Job) -> Tensor:
    """Return pixels to begin with, (B, 3, size, size) in the space of the primary."""
    drawn = torch.Generator().manual_seed(1)
    return torch.randn(job.batch, 3, job.size, job.size, generator=drawn).to(job.device)


class Clock:
    """The place of checkpoints of a unit that saves none: it only takes the time of the iterations."""

    identity = "benchmark"

    def __init__(self, device: torch.device, warmup: int) -> None:
        """The time of the first `warmup` iterations does not count."""
        self._device, self._warmup = device, warmup
        self.took: Took | None = None  # by an iteration

    def load(self, max_bytes: int) -> bytes | None:
        if self._warmup == 0:
            self._watch = Watch(self._device)
        return None

    def report(self, num_done: int, total: int, values: Callable[[], Mapping[str, float]]) -> None:
        if num_done == total:
            self.took = self._watch.stop().per(total - self._warmup)
        elif num_done == self._warmup:
            self._watch = Watch(self._device)

    def due(self) -> bool:
        return False

    def save(self, data: bytes) -> None:
        raise AssertionError("nothing is saved")


def with_iterations(setting: RecoverSetting, iterations: int) -> RecoverSetting:
    """Return a setting with the same teachers and another number of iterations."""
    unit = replace(setting.unit, iterations=(iterations,) * len(setting.unit.slots))
    return replace(setting, unit=unit)


def recover_with_engine(setting: RecoverSetting, x: Tensor, warmup: int = 0) -> Took:
    """Recover the batch with the engine; return the time of an iteration after the first `warmup`."""
    clock = Clock(setting.device, warmup)
    recover_batch(setting, x.clone(), clock)
    assert clock.took is not None
    return clock.took


def job_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a batch as one argument `job` (Job), and set the CPU threads."""

    @functools.wraps(command)
    def with_job(
        *,
        device: str,
        precision: str,
        batch: int,
        size: int,
        arch: str,
        teachers: str,
        threads: int,
        **options: Any,
    ) -> None:
        torch.set_num_threads(threads)
        others = [name for name in teachers.split(",") if name and name != arch]
        job = Job((arch, *others), batch, size, torch.device(device), precision=precision)
        command(job=job, **options)

    wrapped: Callable[..., None] = with_job
    for option in (
        click.option("--threads", default=2, show_default=True, help="CPU threads."),
        click.option(
            "--teachers",
            default="torchvision:mobilenet_v2",
            show_default=True,
            help="BN teachers besides the primary, with commas between them; may be empty.",
        ),
        click.option("--arch", default="torchvision:resnet18", show_default=True, help="The primary."),
        click.option("--size", default=224, show_default=True, help="Height and width of the images."),
        click.option("--batch", default=10, show_default=True, help="Images per batch."),
        click.option("--precision", default="fp32", show_default=True, type=click.Choice(PRECISIONS)),
        click.option("--device", default="cpu", show_default=True),
    ):
        wrapped = option(wrapped)
    return wrapped
