"""Each method's settings, all of them, as a run resolves them: pinned to the public code they come from."""

from typing import Any

import pytest

from prism_ray.config import Config, RecoverConfig, SelectConfig, parse_config
from prism_ray.methods import find_method, method_names

# Where nothing else is said, a value is what the public code runs for ImageNet-1K with a ResNet-18 at IPC 10.

# What a user sets, or leaves alone: no method has an opinion.
FREE: dict[str, Any] = {
    "ipc": 10,
    "primary": "t0",
    "ipc_indices_per_batch": None,
    "replicate": 0,
}
# Adam's betas, and crop, flip and roll of the whole batch, are common to all public codes; so are the first
# layer's weight of 10 and the plain sum over layers.
COMMON: dict[str, Any] = {
    "betas": (0.5, 0.9),
    "flip": True,
    "options": {},
}
COMMON_STATISTICS: dict[str, Any] = {
    "first_weight": 10.0,
    "scale": "sum",
    "teacher_weights": {},
}
COMMON_SELECTION: dict[str, Any] = {
    "bn_teachers": None,
    "weights": {},
    "priors": {},
    "prior_temperature": 5.0,  # CV-DD: softmax(prior in percent / 5); nobody else votes
}
BATCH_NORM: dict[str, Any] = {"layers": "bn", "momentum": 0.0, "class_share": 0.0}
ONE_LOGIT_TEACHER: dict[str, Any] = {"include_primary": True, "logits": "primary", "votes": "equal"}
# G-VBSM and EDC: the teacher of an iteration is its number modulo the pool, and gives logits and statistics.
IN_TURN: dict[str, Any] = {
    "include_primary": False,
    "slots": 1,
    "inclusion_probability": 1.0,
    "redraw": 1,
    "order": "round-robin",
    "logits": "drawn",
    "votes": "equal",
}

SELECTION: dict[str, dict[str, Any]] = {
    # arXiv 2511.09905 and Brian-Moser/prism: three slots, each with probability 0.5, drawn per IPC index.
    "prism": {
        **ONE_LOGIT_TEACHER,
        "slots": 3,
        "inclusion_probability": 0.5,
        "redraw": "round",
        "order": "random",
    },
    # VILA-Lab/SRe2L: one network. Without slots the probability means nothing.
    "sre2l": {
        **ONE_LOGIT_TEACHER,
        "slots": 0,
        "inclusion_probability": 0.5,
        "redraw": "round",
        "order": "random",
    },
    "g-vbsm": IN_TURN,  # shaoshitong/G_VBSM_Dataset_Condensation, 4 networks
    "edc": IN_TURN,  # shaoshitong/EDC, 5 networks
    # VILA-Lab/DELT: one network.
    "delt": {
        **ONE_LOGIT_TEACHER,
        "slots": 0,
        "inclusion_probability": 0.5,
        "redraw": "round",
        "order": "random",
    },
    # arXiv 2501.07575 and Jiacheng8/CV-DD: two of five per IPC index, which weigh in CE and statistics alike.
    "cv-dd": {
        "include_primary": False,
        "slots": 2,
        "inclusion_probability": 1.0,
        "redraw": "round",
        "order": "random",
        "logits": "drawn",
        "votes": "prior",
    },
    # he-y/soft-label-pruning-for-dataset-distillation: one network.
    "lpld": {
        **ONE_LOGIT_TEACHER,
        "slots": 0,
        "inclusion_probability": 0.5,
        "redraw": "round",
        "order": "random",
    },
}
STATISTICS: dict[str, dict[str, Any]] = {
    "prism": BATCH_NORM,
    "sre2l": BATCH_NORM,
    # ema alpha 0.4 for ImageNet (0.8 for the small sets); no drop (0.4 for the small sets).
    "g-vbsm": {"layers": "bn+conv", "momentum": 0.4, "class_share": 0.0},
    # ema alpha 0.8; category-aware "global": 0.5 + 0.5.
    "edc": {"layers": "bn+conv", "momentum": 0.8, "class_share": 0.5},
    "delt": BATCH_NORM,
    "cv-dd": BATCH_NORM,
    # class_stats_training: the statistics of the class alone.
    "lpld": {"layers": "bn", "momentum": 0.0, "class_share": 1.0},
}
RECOVER: dict[str, dict[str, Any]] = {
    # Batch 100 of one IPC index; 4000 - 500 (k mod 8); real images; lr 0.05, r_bn 0.01, jitter 32.
    "prism": {
        "formation": "cross-class",
        "images_per_batch": 100,
        "init": "real",
        "iterations": 4000,
        "iterations_step": 500,
        "iterations_cycle": 8,
        "learning_rate": 0.05,
        "bn_weight": 0.01,
        "densification_weight": 0.0,
        "crop_scale": (0.08, 1.0),
        "crop_curriculum": "none",
        "jitter": 32,
        "init_patch_shuffle": False,
        "precision": "fp32",
    },
    # recover.sh: batch 100, lr 0.25, r_bn 0.01, 4000 iterations for all, jitter 32, noise.
    "sre2l": {
        "formation": "cross-class",
        "images_per_batch": 100,
        "init": "noise",
        "iterations": 4000,
        "iterations_step": 0,
        "iterations_cycle": 8,
        "learning_rate": 0.25,
        "bn_weight": 0.01,
        "densification_weight": 0.0,
        "crop_scale": (0.08, 1.0),
        "crop_curriculum": "none",
        "jitter": 32,
        "init_patch_shuffle": False,
        "precision": "fp32",
    },
    # Batch 80 in class order, lr 0.1, r 0.01, densification 1, 4000 iterations, jitter 32, noise.
    "g-vbsm": {
        "formation": "joint",
        "images_per_batch": 80,
        "init": "noise",
        "iterations": 4000,
        "iterations_step": 0,
        "iterations_cycle": 8,
        "learning_rate": 0.1,
        "bn_weight": 0.01,
        "densification_weight": 1.0,
        "crop_scale": (0.08, 1.0),
        "crop_curriculum": "none",
        "jitter": 32,
        "init_patch_shuffle": False,
        "precision": "fp32",
    },
    # Batch 80, lr 0.05, r 0.1, 1000 iterations, crop (0.5, 1), no roll, no densification; RDED collages. The
    # patch shuffle is the paper's: the public code computes one and then does not use it.
    "edc": {
        "formation": "joint",
        "images_per_batch": 80,
        "init": "rded",
        "iterations": 1000,
        "iterations_step": 0,
        "iterations_cycle": 8,
        "learning_rate": 0.05,
        "bn_weight": 0.1,
        "densification_weight": 0.0,
        "crop_scale": (0.5, 1.0),
        "crop_curriculum": "none",
        "jitter": 0,
        "init_patch_shuffle": True,
        "precision": "fp32",
    },
    # Batch 100, class-sorted; lr 0.25, r_bn 0.01, jitter 0; 4000 iterations in 8 rounds of 500; median
    # probability; smallest crop from 1 to 0.08 on a cosine over all iterations (milestone 1).
    "delt": {
        "formation": "joint",
        "images_per_batch": 100,
        "init": "median",
        "iterations": 4000,
        "iterations_step": 500,
        "iterations_cycle": 8,
        "learning_rate": 0.25,
        "bn_weight": 0.01,
        "densification_weight": 0.0,
        "crop_scale": (0.08, 1.0),
        "crop_curriculum": "cosine",
        "jitter": 0,
        "init_patch_shuffle": False,
        "precision": "fp32",
    },
    # lr 0.25, r_bn 0.01, 4000 iterations, jitter 32; the batch of 100 is the sibling codes'.
    "cv-dd": {
        "formation": "cross-class",
        "images_per_batch": 100,
        "init": "rded",
        "iterations": 4000,
        "iterations_step": 0,
        "iterations_cycle": 8,
        "learning_rate": 0.25,
        "bn_weight": 0.01,
        "densification_weight": 0.0,
        "crop_scale": (0.08, 1.0),
        "crop_curriculum": "none",
        "jitter": 32,
        "init_patch_shuffle": False,
        "precision": "fp32",
    },
    # imagenet1k_recover.sh: batch IPC (10 to 200) of one class, lr 0.25, r_bn 0.01, 4000 iterations, jitter
    # 32, noise.
    "lpld": {
        "formation": "class-wise",
        "images_per_batch": 200,
        "init": "noise",
        "iterations": 4000,
        "iterations_step": 0,
        "iterations_cycle": 8,
        "learning_rate": 0.25,
        "bn_weight": 0.01,
        "densification_weight": 0.0,
        "crop_scale": (0.08, 1.0),
        "crop_curriculum": "none",
        "jitter": 32,
        "init_patch_shuffle": False,
        "precision": "fp32",
    },
}
SELECT: dict[str, dict[str, Any]] = {
    "rded": {"init": "rded"},  # arXiv 2312.03526 and LINs-lab/RDED
    "random-real": {"init": "random"},  # the control
}
# Batches of a selection only cut the work into units.
SELECT_COMMON: dict[str, Any] = {"formation": "cross-class", "images_per_batch": 100}

PROTOCOL = {
    "prism": "prism",
    "sre2l": "sre2l",
    "g-vbsm": "g-vbsm",
    "edc": "edc",
    "delt": "delt",
    "cv-dd": "cv-dd",
    "lpld": "lpld",
    "rded": "rded",
    "random-real": "prism",
}


def resolve(method: str, **more: Any) -> Config:
    return parse_config(
        {
            "store": "nowhere",
            "data": {"source": "digits", "image_size": 32},
            "teachers": {"pool": [{"name": f"t{k}", "arch": "timm:x"} for k in range(5)]},
            "recover": {"method": method, "ipc": 10, "primary": "t0"},
            "evaluate": {"student": {"arch": "timm:x"}},
            **more,
        },
        "test",
    )


def test_every_method_is_in_the_tables() -> None:
    """Would catch a method whose published settings nobody has written down."""
    assert {*RECOVER, *SELECT} == set(method_names()) == set(PROTOCOL)
    assert set(RECOVER) == set(SELECTION) == set(STATISTICS)


@pytest.mark.parametrize("method", list(RECOVER))
def test_every_setting_of_a_method_that_optimises(method: str) -> None:
    """Would catch a default that is changed for PRISM and changes the methods that rely on it, a preset with
    a slip, and a new setting whose value for this method nobody has thought of."""
    config = resolve(method).image_sets["distilled"]
    assert isinstance(config, RecoverConfig)
    assert config.selection.model_dump() == {**COMMON_SELECTION, **SELECTION[method]}
    assert config.statistics.model_dump() == {**COMMON_STATISTICS, **STATISTICS[method]}
    assert config.model_dump(exclude={"selection", "statistics"}) == {
        "method": method,
        **FREE,
        **COMMON,
        **RECOVER[method],
    }


@pytest.mark.parametrize("method", list(SELECT))
def test_every_setting_of_a_method_that_selects(method: str) -> None:
    """Would catch a selection from other images, or a setting that it has no use for."""
    config = resolve(method).image_sets["distilled"]
    assert isinstance(config, SelectConfig)
    assert config.model_dump() == {"method": method, **FREE, **SELECT_COMMON, **SELECT[method]}


@pytest.mark.parametrize("method", list(PROTOCOL))
def test_a_method_brings_its_evaluation_protocol(method: str) -> None:
    """Would catch a method that is evaluated in another way than it was published with."""
    known = find_method(method)
    assert known is not None
    assert known.protocol == PROTOCOL[method]
    assert resolve(method).evaluations["student"].protocol == PROTOCOL[method]


@pytest.mark.parametrize("method", list(RECOVER))
def test_sets_side_by_side_have_the_same_settings_as_alone(method: str) -> None:
    """Would catch presets that mix when methods are compared in one run."""
    sets = {name: {"method": name} for name in [*RECOVER, *SELECT]}
    together = resolve("prism", recover={"ipc": 10, "primary": "t0"}, image_sets=sets)
    assert together.image_sets[method] == resolve(method).image_sets["distilled"]
