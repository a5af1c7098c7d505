"""The built-in methods by name: values of `recover` that differ from the defaults, which are PRISM's.

Adding a method is adding a row. A method with code of its own is a class instead (base.py). No torch here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """A method without code of its own; the fields are the attributes of `Method`."""

    title: str
    source: str
    protocol: str = "prism"
    preset: Mapping[str, Any] = field(default_factory=dict)
    optimises: bool = True


# The teacher of iteration i is number i modulo the pool, for logits and statistics.
_IN_TURN = {
    "include_primary": False,
    "slots": 1,
    "inclusion_probability": 1.0,
    "redraw": 1,
    "order": "round-robin",
    "logits": "drawn",
}

# The loop of SRe2L, which others kept.
_LOOP = {"iterations": 4000, "iterations_step": 0, "bn_weight": 0.01, "jitter": 32, "crop_scale": [0.08, 1.0]}

PRESETS: Mapping[str, Row] = {
    # One teacher gives the logits, a random subset of the pool the BN alignment.
    "prism": Row(title="PRISM", source="arXiv 2511.09905"),
    # Cross-class batches of 100 from noise; one teacher gives the logits and the BN statistics.
    "sre2l": Row(
        title="SRe2L",
        source="arXiv 2306.13092 and its public code",
        protocol="sre2l",
        preset={**_LOOP, "selection": {"slots": 0}, "init": "noise", "learning_rate": 0.25},
    ),
    # Joint batches of 80, one teacher after the other; BN and convolution statistics with a moving average;
    # densification.
    "g-vbsm": Row(
        title="G-VBSM",
        source="arXiv 2311.17950 and its public code",
        protocol="g-vbsm",
        preset={
            **_LOOP,
            "formation": "joint",
            "images_per_batch": 80,
            "selection": _IN_TURN,
            "statistics": {"layers": "bn+conv", "momentum": 0.4},
            "init": "noise",
            "learning_rate": 0.1,
            "densification_weight": 1.0,
        },
    ),
    # As G-VBSM, from RDED's collages in a quarter of the iterations; half of the matching is against the
    # batch's own classes.
    "edc": Row(
        title="EDC",
        source="arXiv 2404.13733 and its public code",
        protocol="edc",
        preset={
            "formation": "joint",
            "images_per_batch": 80,
            "selection": _IN_TURN,
            "statistics": {"layers": "bn+conv", "momentum": 0.8, "class_share": 0.5},
            "init": "rded",
            "init_patch_shuffle": True,
            "iterations": 1000,
            "iterations_step": 0,
            "learning_rate": 0.05,
            "bn_weight": 0.1,
            "jitter": 0,
            "crop_scale": [0.5, 1.0],
        },
    ),
    # Joint batches of 100 in class order, one teacher, real images of median probability. Sub-batches of a
    # class join one after the other, so that its images get unequal iterations.
    "delt": Row(
        title="DELT",
        source="arXiv 2411.19946 and its public code",
        protocol="delt",
        preset={
            "formation": "joint",
            "images_per_batch": 100,
            "selection": {"slots": 0},
            "init": "median",
            "iterations": 4000,
            "iterations_step": 500,
            "iterations_cycle": 8,
            "learning_rate": 0.25,
            "bn_weight": 0.01,
            "jitter": 0,
            "crop_scale": [0.08, 1.0],
            "crop_curriculum": "cosine",
        },
    ),
    # Cross-class batches of 100 from RDED-like patches. Two teachers of the pool per IPC index vote on logits
    # and statistics, by prior accuracy.
    "cv-dd": Row(
        title="CV-DD",
        source="arXiv 2501.07575 and its public code",
        protocol="cv-dd",
        preset={
            **_LOOP,
            "selection": {
                "include_primary": False,
                "slots": 2,
                "inclusion_probability": 1.0,
                "logits": "drawn",
                "votes": "prior",
            },
            "init": "rded",
            "learning_rate": 0.25,
        },
    ),
    # As SRe2L, but a batch holds the images of one class and is matched with the statistics of that class.
    "lpld": Row(
        title="LPLD",
        source="arXiv 2410.15919 and its public code",
        protocol="lpld",
        preset={
            **_LOOP,
            "formation": "class-wise",
            "images_per_batch": 200,  # all images of a class, up to the largest published IPC
            "selection": {"slots": 0},
            "statistics": {"class_share": 1.0},
            "init": "noise",
            "learning_rate": 0.25,
        },
    ),
    # Collages of the real patches that a teacher classifies best; nothing is optimised.
    "rded": Row(
        title="RDED",
        source="arXiv 2312.03526 and its public code",
        protocol="rded",
        preset={"init": "rded"},
        optimises=False,
    ),
    # The control that every comparison needs: real images, chosen at random, under the same labels.
    "random-real": Row(
        title="random real images", source="a control", preset={"init": "random"}, optimises=False
    ),
}
