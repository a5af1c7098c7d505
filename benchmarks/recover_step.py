"""Where a recover step's time goes: ratios between ways to do the same, measured in turn in one process.

    python benchmarks/recover_step.py [--device cuda] [--size 224] [--batch 100] [--arch timm:resnet18]

Prints, for each pair, the median seconds of both ways and their ratio. Nothing is asserted: a ratio belongs
to the machine it was measured on.
"""

import platform
import statistics
import time
from collections.abc import Callable

import click
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as TF

from prism_ray.config import NetworkConfig, RecoverConfig, SelectionConfig, StatisticsConfig
from prism_ray.recover.augment import Augmentation
from prism_ray.recover.objective import Objective
from prism_ray.recover.setting import RecoverSetting
from prism_ray.recover.space import ReferenceSpace
from prism_ray.recover.statistics import StatisticsAlignment
from prism_ray.stages.formation import Slot
from prism_ray.stages.recover import RecoverUnit
from prism_ray.teachers.build import build_network
from prism_ray.teachers.layers import TeacherReference
from prism_ray.teachers.teacher import Preprocessing, Teacher, freeze

Step = Callable[[], None]


@click.command()
@click.option("--device", default="cpu", show_default=True)
@click.option("--size", default=32, show_default=True, help="Height and width of the images.")
@click.option("--batch", default=20, show_default=True, help="Images per batch.")
@click.option("--arch", default="timm:test_resnet", show_default=True)
@click.option("--threads", default=1, show_default=True, help="CPU threads.")
@click.option("--rounds", default=15, show_default=True, help="Measurements of each way.")
def main(device: str, size: int, batch: int, arch: str, threads: int, rounds: int) -> None:
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(device == "cpu")  # interpolation has no deterministic gradient on CUDA
    torch.manual_seed(0)
    place = torch.device(device)
    name = (
        torch.cuda.get_device_name() if place.type == "cuda" else platform.processor() or platform.machine()
    )
    click.echo(f"{name}, torch {torch.__version__}, {threads} threads, {batch} images of {size}, {arch}")
    network = freeze(build_network(NetworkConfig(arch=arch), 10, "--arch"), place)
    teacher = Teacher("primary", network, Preprocessing((0.5, 0.5, 0.5), (0.25, 0.25, 0.25), size))
    space = ReferenceSpace.of(teacher.preprocessing, 3, place)
    x = torch.randn(batch, 3, size, size, device=place).requires_grad_(True)
    labels = torch.arange(batch, device=place) % 10
    compare("primary's forward pass", shared(teacher, space, x, labels), twice(teacher, x, labels), rounds)
    compare("crop, flip and roll", matrices(x, size, place), kernels(x, size), rounds)


def shared(teacher: Teacher, space: ReferenceSpace, x: Tensor, labels: Tensor) -> tuple[str, Step]:
    """Logits and statistics from one pass, as the engine does it."""
    draw = (teacher.name,)
    slots = tuple(Slot(int(label), 0) for label in labels)
    setting = RecoverSetting(
        unit=RecoverUnit("benchmark", "b", slots, (1,) * len(slots), (draw,), seed=0),
        config=RecoverConfig(ipc=1, primary=teacher.name, selection=SelectionConfig(slots=0)),
        teachers={teacher.name: teacher},
        labels=labels,
        space=space,
        image_size=x.shape[-1],
        device=x.device,
    )
    objective = Objective(setting)

    def step() -> None:
        with objective:
            objective(x, draw).total.backward()  # type: ignore[no-untyped-call]

    return "once, shared", step


def twice(teacher: Teacher, x: Tensor, labels: Tensor) -> tuple[str, Step]:
    """One pass for the logits and another for the statistics, as public code does it."""
    alignment = StatisticsAlignment(teacher.network, StatisticsConfig(), TeacherReference(), patch_size=16)

    def step() -> None:
        z = x.contiguous(memory_format=torch.channels_last)
        ce = F.cross_entropy(teacher.network(z), labels)
        with alignment:
            teacher.network(z)
            (ce + 0.01 * alignment.pop()).backward()  # type: ignore[no-untyped-call]

    return "twice", step


def matrices(x: Tensor, size: int, place: torch.device) -> tuple[str, Step]:
    """As the engine does it: two matrix products, deterministic everywhere."""
    augment = Augmentation(RecoverConfig(ipc=1, primary="primary"), 1, size, 0, place)

    def step() -> None:
        augment(x, 0).square().sum().backward()

    return "matrix products", step


def kernels(x: Tensor, size: int) -> tuple[str, Step]:
    """torchvision's kernels, with a crop of about the same size."""

    def step() -> None:
        side = int(size * 0.7)
        crop = TF.resized_crop(x, 1, 1, side, side, [size, size], antialias=True)
        torch.roll(TF.horizontal_flip(crop), (3, 3), dims=(2, 3)).square().sum().backward()

    return "interpolation kernels", step


def compare(title: str, ours: tuple[str, Step], other: tuple[str, Step], rounds: int) -> None:
    """Measure both ways in turn, so that a drift of the machine's speed hits both."""
    seconds: dict[str, list[float]] = {ours[0]: [], other[0]: []}
    for number in range(rounds + 2):
        for way, step in (ours, other):
            started = time.perf_counter()
            for _ in range(5):
                step()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if number >= 2:  # the first rounds warm up
                seconds[way].append((time.perf_counter() - started) / 5)
    ratios = [b / a for a, b in zip(seconds[ours[0]], seconds[other[0]], strict=True)]
    medians = ", ".join(f"{way} {1e3 * statistics.median(values):.2f} ms" for way, values in seconds.items())
    low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
    click.echo(f"{title}: {medians}; ratio {middle:.2f} ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
