"""EDC: as G-VBSM, with category-aware matching, from RDED's collages, in a quarter of the iterations."""

from prism_ray.methods.base import Method


class Edc(Method):
    """Joint batches of 80; half of the matching is against the batch's own classes."""

    name = "edc"
    title = "EDC"
    source = "arXiv 2404.13733 and its public code"
    protocol = "edc"
    preset = {  # noqa: RUF012 - never changed
        "formation": "joint",
        "images_per_batch": 80,
        "selection": {
            "include_primary": False,
            "slots": 1,
            "inclusion_probability": 1.0,
            "redraw": 1,
            "order": "round-robin",
            "logits": "drawn",
        },
        "statistics": {"layers": "bn+conv", "momentum": 0.8, "class_share": 0.5},
        "init": "rded",
        "init_patch_shuffle": True,
        "iterations": 1000,
        "iterations_step": 0,
        "learning_rate": 0.05,
        "bn_weight": 0.1,
        "jitter": 0,
        "crop_scale": [0.5, 1.0],
    }
