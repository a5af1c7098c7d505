"""Seconds of an iteration of recover against the batch, the resolution and the number of BN teachers."""

from collections.abc import Sequence

import torch
from laws import Series
from measure import Took, deterministic, in_turn
from setups import Job, first_pixels, make_networks, make_setting, recover_with_engine


def measure(
    arch: str,
    batches: Sequence[int],
    sizes: Sequence[int],
    teachers: Sequence[int],
    rounds: int,
    iterations: int,
    device: torch.device,
) -> list[Series]:
    """Return the series: the batch at 64 pixels, the side with 8 images, and the teachers with 8 of 64.

    With n teachers, all n are matched in each iteration; they have one architecture and different weights.
    """
    image = 64
    jobs = {
        "batch": {count: Job((arch,), count, image, device) for count in batches},
        "size": {size: Job((arch,), 8, size, device) for size in sizes},
        "teachers": {count: Job((arch,) * count, 8, image, device) for count in teachers},
    }
    series = []
    for name, by_number in jobs.items():
        took = in_turn([_Way(job, iterations) for job in by_number.values()], rounds)
        for unit in Took._fields:
            values = {
                x: [getattr(each, unit) for each in of_x] for x, of_x in zip(by_number, took, strict=True)
            }
            series.append(Series.of(f"{name}, {unit}", "s", values))
            print(
                series[-1].name, {point.x: f"{point.median:.4f}" for point in series[-1].points}, flush=True
            )
    return series


class _Way:
    """Iterations of one job; the first of them does not count."""

    def __init__(self, job: Job, iterations: int) -> None:
        self._setting = make_setting(job, make_networks(job), iterations + 1)
        self._pixels = first_pixels(job)

    def __call__(self) -> Took:
        with deterministic(True):
            return recover_with_engine(self._setting, self._pixels, warmup=1)
