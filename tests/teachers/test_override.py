"""Layers that compute in another way for a while."""

from contextlib import ExitStack
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prism_ray.teachers.override import CallOf, take_over


@pytest.mark.parametrize("fails", [False, True])
def test_the_forward_pass_before_comes_back(fails: bool) -> None:
    """Catches a second one that takes the first away with itself, and a cached layer that stays changed."""
    layer = nn.ReLU()
    with ExitStack() as outer:
        take_over(layer, lambda x: x + 1.0, outer)
        with ExitStack() as inner:
            if fails:
                inner.enter_context(pytest.raises(ValueError, match="inside"))
            take_over(layer, lambda x: x + 2.0, inner)
            assert layer(torch.zeros(())) == 2.0
            if fails:
                raise ValueError("inside")
        assert layer(torch.zeros(())) == 1.0
    assert "forward" not in vars(layer)


class Doubled(CallOf):
    function = staticmethod(torch.relu)

    def instead(self, input: Tensor) -> Any:
        return 2.0 * torch.relu(input)  # torch's own


def test_only_calls_of_the_function_are_answered() -> None:
    """Catches an answer that asks itself, and other functions that change."""
    x = torch.tensor([-1.0, 3.0])
    with Doubled():
        assert torch.relu(x).tolist() == [0.0, 6.0]
        assert torch.relu(input=x).tolist() == [0.0, 6.0]
        assert torch.abs(x).tolist() == [1.0, 3.0]
    assert torch.relu(x).tolist() == [0.0, 3.0]
