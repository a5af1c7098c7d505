"""Which network of a file is taken, and under which names."""

from typing import Any

import pytest
import torch
from torch import Tensor

from prism_ray.teachers.state_dicts import choose_network

NAMES = ("conv1.weight", "bn1.running_var", "bn1.num_batches_tracked", "fc.bias")


def network(value: float, prefix: str = "") -> dict[str, Tensor]:
    """Return a state dict that is known by its value; without the counter, as old files are."""
    return {prefix + name: torch.full((3,), value) for name in NAMES if "num_batches" not in name}


def choose(contents: Any, key: str | None = None) -> tuple[float, str]:
    """Return the value of the network that is taken, and its key."""
    chosen = choose_network(contents, NAMES, key)
    assert list(chosen.state) == list(network(0.0))
    return chosen.state["fc.bias"][0].item(), chosen.key


OPTIMIZER = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        ({"state_dict": network(1), "state_dict_ema": network(2), "optimizer": OPTIMIZER}, "state_dict_ema"),
        ({"model": network(1), "model_ema": network(2), "epoch": 3}, "model_ema"),
        ({"model_ema": network(2)}, "model_ema"),
        ({"state_dict_ema": None, "state_dict": network(2)}, "state_dict"),
        ({"model": network(1), "state_dict": network(2)}, "state_dict"),
        ({"ema": network(1), "model": network(2)}, "model"),
        ({"net": network(2), "acc": 95.1, "loss": torch.tensor(0.3)}, "net"),
        ({"teacher": network(2), "head": {"weight": torch.zeros(3)}}, "teacher"),
        ({"state_dict": network(2, "model.") | {"criterion.weight": torch.ones(3)}}, "state_dict.model"),
        ({"state_dict": network(2, "net.module.")}, "state_dict.net.module"),
        ({"n_averaged": torch.tensor(3)} | network(2, "module."), "module"),
        (network(2) | network(1, "ema."), ""),
    ],
)
def test_the_network_of_timms_order_is_taken(contents: Any, expected: str) -> None:
    """Would catch the last weights of a training being taken although their average is in the file."""
    assert choose(contents) == (2.0, expected)


@pytest.mark.parametrize(
    ("contents", "key", "taken"),
    [
        ({"state_dict": network(2), "state_dict_ema": network(1)}, "state_dict", "state_dict"),
        ({"student": network(1), "teacher": network(2, "module.")}, "teacher", "teacher.module"),
        ({"state_dict": network(1, "model.") | network(2, "ema.")}, "ema", "state_dict.ema"),
        ({"state_dict": network(1, "model.") | network(2, "ema.")}, "state_dict.ema", "state_dict.ema"),
        ({"state_dict": network(1, "m.") | network(2, "ema.module.")}, "ema", "state_dict.ema.module"),
        ({"ema": {"state_dict": network(2)}, "model": network(1)}, "ema", "ema.state_dict"),
        (network(1, "model.") | network(2, "ema."), "ema", "ema"),
    ],
)
def test_a_key_chooses_a_network(contents: Any, key: str, taken: str) -> None:
    """Would catch a key that is ignored, or that reaches mappings and not the parts of a Lightning module."""
    assert choose(contents, key) == (2.0, taken)


@pytest.mark.parametrize(
    ("contents", "key", "message"),
    [
        ({"model": network(1), "model_ema": network(2)}, "modle", r"no network 'modle': it has 'model', 'mo"),
        (network(1), "model", "no network 'model': it has one network; leave out # and the key"),
        (
            {"model": network(1), "optimizer": OPTIMIZER},
            "optimizer",
            "no network 'optimizer': it has 'model'",
        ),
        ({"student": network(1), "teacher": network(2)}, None, r"several networks \('student', 'teacher'\)"),
        ({"state_dict": network(1, "a.") | network(1, "b.")}, None, r"\('state_dict\.a', 'state_dict\.b'\)"),
        ({"x": network(1, "a."), "y": network(1, "a.")}, "a", r"several networks \('x\.a', 'y\.a'\)"),
        (OPTIMIZER, None, "the state of an optimiser"),
        ({"optimizer": OPTIMIZER, "epoch": 3}, None, "no tensors in 'optimizer', 'epoch'"),
        ({"model": network(1) | {"extra": 3}}, None, "entry 'extra' of the file is int"),
        ([network(1)], None, "contains list"),
        ({}, None, "contains dict"),
    ],
)
def test_no_network_is_taken_by_guess(contents: Any, key: str | None, message: str) -> None:
    """Would catch one of two teachers being taken silently, or an unknown key without the known ones."""
    with pytest.raises(ValueError, match=message):
        choose_network(contents, NAMES, key)


def test_other_networks_are_named() -> None:
    """Would catch a log that does not tell that there was a choice."""
    contents = {"model": network(1), "model_ema": network(2), "optimizer": OPTIMIZER}
    assert choose_network(contents, NAMES, None).others == ("model",)
    assert choose_network(contents, NAMES, "model").others == ("model_ema",)
    assert choose_network(network(1), NAMES, None).others == ()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_float32(dtype: torch.dtype) -> None:
    """Would catch statistics computed in half precision, or counters that become floating point."""
    state = {name: value.to(dtype) for name, value in network(0.5).items()}
    state["bn1.num_batches_tracked"] = torch.tensor(7)
    chosen = choose_network({"model": state}, NAMES, None).state
    assert [str(value.dtype) for value in chosen.values()] == ["torch.float32"] * 3 + ["torch.int64"]


def test_names_of_another_library_lose_only_a_wrapper() -> None:
    """Would catch names that say nothing any more in the complaint about weights that do not fit."""
    state = {"model.block.weight": torch.ones(1), "model.head.weight": torch.ones(1)}
    assert list(choose_network(state, NAMES, None).state) == ["block.weight", "head.weight"]
