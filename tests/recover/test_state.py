"""A batch that is cut off goes on from its last state, to the very bytes of an undisturbed one."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from prism_ray.config import RecoverConfig
from prism_ray.errors import EngineError
from prism_ray.recover.engine import RecoveredBatch, recover_batch
from prism_ray.recover.setting import RecoverSetting
from prism_ray.recover.space import ReferenceSpace
from prism_ray.stages.formation import Slot
from prism_ray.stages.recover import RecoverUnit
from prism_ray.teachers.layers import TeacherReference
from prism_ray.teachers.teacher import Teacher
from tests.kept import Kept

CPU = torch.device("cpu")
SIZE = 12
TOTAL = 12
SLOTS = tuple(Slot(label, ipc_index) for ipc_index in (4, 1) for label in (2, 0, 3))
BOTH = ("striding", "depthwise")

# What leaves something behind from iteration to iteration: draws, averages, late images, own terms.
CONFIGS: dict[str, dict[str, Any]] = {
    "prism": {},
    "redrawn": {"selection": {"include_primary": False, "slots": 1, "redraw": 5, "logits": "drawn"}},
    "averaged": {"statistics": {"momentum": 0.8}, "formation": "joint", "densification_weight": 1e-3},
    "late": {"formation": "joint"},
}


@pytest.fixture
def setting_of(
    striding: Callable[[], Teacher], depthwise: Callable[[int], Teacher]
) -> Callable[..., RecoverSetting]:
    """Make the setting of a batch under one of CONFIGS."""
    teachers = {"striding": striding(), "depthwise": depthwise(SIZE)}

    def make(name: str, seed: int = 1234, **values: Any) -> RecoverSetting:
        config = RecoverConfig.model_validate(
            {"ipc": 5, "primary": "striding", "jitter": 3, "bn_weight": 0.1, **CONFIGS[name], **values}
        )
        draws: tuple[tuple[str, ...], ...] = (BOTH,)
        if name == "redrawn":
            draws = (("striding",), ("depthwise",), ("striding",))
        iterations = (TOTAL,) * len(SLOTS) if name != "late" else (8, 12, 4, 12, 8, 12)
        return RecoverSetting(
            unit=RecoverUnit("distilled", "i00001-c00000", SLOTS, iterations, draws, seed),
            config=config,
            teachers=teachers,
            labels=torch.tensor([slot.label for slot in SLOTS]),
            space=ReferenceSpace.of(teachers["striding"].preprocessing, 3, CPU),
            image_size=SIZE,
            device=CPU,
            references={teacher: TeacherReference() for teacher in BOTH},
        )

    return make


def recover(setting: RecoverSetting, kept: Kept | None = None) -> RecoveredBatch:
    """Recover the batch, torch's generator being somewhere else each time."""
    torch.rand(kept.num_saved + 3 if kept else 1)
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (len(SLOTS), 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)
    return recover_batch(setting, setting.space.from_images(images), kept)


def same(one: RecoveredBatch, other: RecoveredBatch) -> bool:
    """True if images and losses are the same to the last bit."""
    given = {"images": other.images, "resumed_at": other.resumed_at}
    return np.array_equal(one.images, other.images) and replace(one, **given) == other


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("interrupt_at", [1, 4, 5, 6, 8, TOTAL - 1])
def test_a_resumed_batch_ends_in_the_same_bytes(
    name: str, interrupt_at: int, setting_of: Callable[..., RecoverSetting]
) -> None:
    """Would catch moments, schedule, moving averages, draws, late images or noted losses being lost."""
    setting = setting_of(name)
    expected = recover(setting)
    cut_off = Kept(interrupt_at)
    with pytest.raises(KeyboardInterrupt):
        recover(setting, cut_off)
    resumed = Kept(data=cut_off.data)
    batch = recover(setting, resumed)
    assert same(batch, expected)
    assert batch.resumed_at == interrupt_at
    assert resumed.num_saved == TOTAL - 1 - interrupt_at  # no iteration was done again, none left out


def test_saving_changes_nothing(setting_of: Callable[..., RecoverSetting]) -> None:
    """Would catch a state that shares its memory with the loop, or a save after the last iteration."""
    setting = setting_of("averaged")
    kept = Kept(every=5)
    assert same(recover(setting, kept), recover(setting))
    assert kept.num_saved == 2


def test_a_batch_cut_off_again_and_again_comes_to_its_end(setting_of: Callable[..., RecoverSetting]) -> None:
    """Would catch a second resume that starts from the first state."""
    setting = setting_of("averaged")
    kept = Kept()
    for _ in range(TOTAL - 1):
        kept = Kept(1, kept.data)
        with pytest.raises(KeyboardInterrupt):
            recover(setting, kept)
    last = Kept(data=kept.data)
    assert same(recover(setting, last), recover(setting))
    assert last.num_saved == 0


def test_a_useless_state_starts_anew(setting_of: Callable[..., RecoverSetting]) -> None:
    """Would catch a damaged state that ends the batch, or one of other settings or weights gone on from."""
    setting = setting_of("prism")
    expected = recover(setting)
    cut_off = Kept(6)
    with pytest.raises(KeyboardInterrupt):
        recover(setting, cut_off)
    assert cut_off.data is not None
    flipped = bytearray(cut_off.data)
    flipped[-1000] ^= 1
    for data in (b"", cut_off.data[:-1], bytes(flipped)):
        again = Kept(data=data)
        assert same(recover(setting, again), expected)
        assert again.num_saved == TOTAL - 1
    for other in (setting_of("prism", seed=5), setting_of("prism", learning_rate=0.01)):
        again = Kept(data=cut_off.data)
        recover(other, again)
        assert again.num_saved == TOTAL - 1
    other_weights = Kept(data=cut_off.data, identity="other weights")
    recover(setting, other_weights)
    assert other_weights.num_saved == TOTAL - 1


def test_a_state_that_is_not_finite_is_not_kept(setting_of: Callable[..., RecoverSetting]) -> None:
    """Would catch a batch that diverged being resumed for ever from its NaN."""
    setting = setting_of("prism")
    with torch.no_grad():
        next(setting.teachers["depthwise"].network.parameters()).fill_(float("nan"))
    kept = Kept(every=3)
    with pytest.raises(EngineError, match="at iteration 2 of 12"):
        recover(setting, kept)
    assert kept.data is None


FORGED: dict[str, Callable[[dict[str, torch.Tensor]], object]] = {
    "a pixel of NaN": lambda held: held["x"][0, 0, 0].fill_(float("nan")),
    "a moment of infinity": lambda held: held["adam/exp_avg_sq"][0, 0].fill_(float("inf")),
    "one pixel for all": lambda held: held.update(x=held["x"][:1, :1, :1, :1].contiguous()),
    "fewer moments": lambda held: held.update({"adam/exp_avg": held["adam/exp_avg"][:1].contiguous()}),
    "other numbers": lambda held: held.update(x=held["x"].double()),
    "no pixels": lambda held: held.pop("x"),
    "no loss": lambda held: held.pop("first/ce"),
    "a loss of NaN": lambda held: held["first/bn"].fill_(float("nan")),
    "the last iteration": lambda held: held["iteration"].fill_(TOTAL),
    "a late iteration": lambda held: held["iteration"].fill_(10**9),
    "a negative iteration": lambda held: held["iteration"].fill_(-1),
    "half an iteration": lambda held: held.update(iteration=torch.tensor(1.5)),
    "another generator": lambda held: held.update({"generator/cpu": held["generator/cpu"][:7].clone()}),
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED.keys())
def test_a_forged_state_starts_anew(
    forge: Callable[[dict[str, torch.Tensor]], object],
    setting_of: Callable[..., RecoverSetting],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Catches NaN pixels gone on from, images committed unoptimised, and a batch that never ends."""
    monkeypatch.setattr(
        "prism_ray.sealed._digest", lambda tensors, identity: torch.zeros(32, dtype=torch.uint8)
    )
    setting = setting_of("averaged")
    cut_off = Kept(3)
    with pytest.raises(KeyboardInterrupt):
        recover(setting, cut_off)
    assert cut_off.data is not None
    held = safetensors.torch.load(cut_off.data)
    forge(held)
    again = Kept(data=safetensors.torch.save(held))
    assert same(recover(setting, again), recover(setting))
    assert again.num_saved == TOTAL - 1
