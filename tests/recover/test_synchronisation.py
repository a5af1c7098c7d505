"""The loop of recover does not wait for the device."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from torch.utils._python_dispatch import TorchDispatchMode

from prism_ray.teachers.teacher import Teacher
from tests.recover.test_engine import (
    SIZE,
    MakeDepthwise,
    MakeStriding,
    configure,
    recover,
    set_up,
    unit_of,
)

# On a GPU each of these waits until the device has done all that it was given.
WAITING = {"_local_scalar_dense", "nonzero", "is_nonzero", "_unique2", "unique_dim", "masked_select", "equal"}


class Calls(TorchDispatchMode):
    """Counts the operations that reach the device."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        self.counts[func.__name__.split(".")[0]] += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture
def teachers(striding: MakeStriding, depthwise: MakeDepthwise) -> dict[str, Teacher]:
    return {"striding": striding(), "depthwise": depthwise(SIZE)}


def calls_of(num_iterations: int, teachers: dict[str, Teacher], **values: Any) -> Counter[str]:
    setting = set_up(teachers, unit_of(num_iterations), configure(**values))
    with Calls() as calls:
        recover(setting)
    return calls.counts


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"precision": "bf16"},
        {"densification_weight": 1e-3, "crop_curriculum": "cosine"},
        {"statistics": {"momentum": 0.8, "scale": "relative"}},
    ],
)
def test_no_iteration_waits_for_the_device(values: dict[str, Any], teachers: dict[str, Teacher]) -> None:
    """Catches a loss or an index that is read on the host: the device then idles in each iteration.

    33 points of a curve and the first and last iteration are not more with more iterations.
    """
    few, many = calls_of(3, teachers, **values), calls_of(23, teachers, **values)
    assert many["convolution"] > 7 * few["convolution"]
    assert {name: few[name] for name in WAITING} == {name: many[name] for name in WAITING}
