"""Statistics of channels: the fast way on the CPU against torch.var_mean."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prism_ray.recover import channels as room
from prism_ray.recover.channels import measure_values


@settings(deadline=None, max_examples=40)
@given(
    images=st.integers(1, 7),
    channels=st.integers(1, 5),
    size=st.integers(1, 6),
    rows=st.integers(1, 60),
    last=st.booleans(),
    grad=st.booleans(),
)
def test_blocks_of_any_size_give_the_same(
    images: int, channels: int, size: int, rows: int, last: bool, grad: bool
) -> None:
    """Catches a last block that weighs as much as the others, and a spread between blocks that is lost."""
    x = 3.0 + torch.randn(images, channels, size, size, dtype=torch.float64)
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    var, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "_ROWS_PER_BLOCK", rows)
        found = measure_values(x.requires_grad_(grad))
    assert not found[0].requires_grad
    assert not found[1].requires_grad
    torch.testing.assert_close(found, (mean, var), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mean", [0.0, 1.0, 100.0])
def test_a_million_values_are_added_up_as_exactly_as_float32_can(mean: float) -> None:
    """Catches one long sum: the variance of a batch of 100 images of 112 pixels was wrong by 7e-4."""
    x = mean + torch.randn(100, 4, 112, 112, generator=torch.Generator().manual_seed(0))
    x = x.contiguous(memory_format=torch.channels_last)
    var, average = torch.var_mean(x.double(), dim=(0, 2, 3), correction=0)
    found = measure_values(x)
    torch.testing.assert_close(found[0].double(), average, rtol=2e-6, atol=2e-6)
    torch.testing.assert_close(found[1].double(), var, rtol=5e-6, atol=0.0)


@pytest.mark.parametrize("last", [False, True])
def test_bfloat16_is_measured_in_float32(last: bool) -> None:
    """Catches statistics that are rounded to 8 bits, in which a gap of a hundredth disappears."""
    x = (0.5 + torch.randn(20, 3, 32, 32, generator=torch.Generator().manual_seed(0))).bfloat16()
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    var, average = torch.var_mean(x.double(), dim=(0, 2, 3), correction=0)
    found = measure_values(x)
    assert found[0].dtype == found[1].dtype == torch.float32
    torch.testing.assert_close(found[0].double(), average, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[1].double(), var, rtol=1e-4, atol=0.0)
