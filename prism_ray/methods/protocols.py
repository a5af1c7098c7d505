"""The evaluation protocols by name: published values of `relabel` and `evaluate`. No torch here.

A comparison needs one protocol: the accuracy of the same images differs by up to 20 points between protocols.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Protocol:
    """A protocol: the values that differ from the defaults, which are those of protocol prism."""

    source: str
    relabel: Mapping[str, Any] = field(default_factory=dict)
    evaluate: Mapping[str, Any] = field(default_factory=dict)


_SOFT_KL = {"loss": "kl", "temperature": 20.0, "ce_weight": 0.0, "linear_tail": False}

PROTOCOLS: Mapping[str, Protocol] = {
    "prism": Protocol(source="arXiv 2511.09905 and its public code"),
    "sre2l": Protocol(
        source="arXiv 2306.13092 and its public code",
        relabel={"teachers": "primary", "crop_scale": [0.08, 1.0]},
        evaluate={**_SOFT_KL, "batch_size": 1024, "cosine_stretch": 1.0},
    ),
    "g-vbsm": Protocol(
        source="arXiv 2311.17950 and its public code",
        relabel={"crop_scale": [0.08, 1.0]},
        evaluate={"batch_size": 1024, "cosine_stretch": 1.0, "linear_tail": False},
    ),
    "edc": Protocol(
        source="arXiv 2404.13733 and its public code",
        relabel={"ensemble": "mean", "crop_scale": [0.5, 1.0]},
        evaluate={
            "batch_size": 100,
            "ce_weight": 0.025,
            "cosine_stretch": 2.0,
            "linear_tail": False,
            "ema_decay": 0.99,
        },
    ),
    "delt": Protocol(
        source="arXiv 2411.19946 and its public code",
        relabel={"teachers": "primary", "crop_scale": [0.25, 1.0], "rand_augment": True},
        evaluate={**_SOFT_KL, "batch_size": 100, "cosine_stretch": 2.0},
    ),
    "cv-dd": Protocol(
        source="arXiv 2501.07575 and its public code",
        relabel={
            "ensemble": "mean",
            "teacher_batch_norm": "batch",
            "teacher_batch_size": 16,
            "crop_scale": [0.08, 1.0],
        },
        evaluate={**_SOFT_KL, "batch_size": 16, "cosine_stretch": 2.0},
    ),
    "lpld": Protocol(
        source="arXiv 2410.15919 and its public code",
        relabel={"teachers": "primary", "crop_scale": [0.08, 1.0], "prune_ratio": 0.975},
        evaluate={**_SOFT_KL, "batch_size": 128, "cosine_stretch": 1.0},
    ),
    "lpqld": Protocol(
        source="arXiv 2604.18135 and its public code (without its search for the student's temperature)",
        relabel={
            "teachers": "primary",
            "crop_scale": [0.08, 1.0],
            "prune_ratio": 0.9,
            "encoding": "top-100",
        },
        evaluate={
            **_SOFT_KL,
            "batch_size": 128,
            "cosine_stretch": 1.0,
            "temperature_schedule": "step",
            "marginal": "renormalise",
        },
    ),
    "rded": Protocol(
        source="arXiv 2312.03526 and its public code",
        relabel={"teachers": "primary", "crop_scale": [0.5, 1.0], "patch_shuffle": True},
        evaluate={**_SOFT_KL, "batch_size": 100, "cosine_stretch": 2.0},
    ),
}
