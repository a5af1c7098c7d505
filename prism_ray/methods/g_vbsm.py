"""G-VBSM: one teacher after the other; BN and convolution statistics with a moving average; densification."""

from prism_ray.methods.base import Method


class GVbsm(Method):
    """Joint batches of 80; the teacher of iteration i is number i modulo the pool."""

    name = "g-vbsm"
    title = "G-VBSM"
    source = "arXiv 2311.17950 and its public code"
    protocol = "g-vbsm"
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
        "statistics": {"layers": "bn+conv", "momentum": 0.4},
        "init": "noise",
        "iterations": 4000,
        "iterations_step": 0,
        "learning_rate": 0.1,
        "bn_weight": 0.01,
        "densification_weight": 1.0,
        "jitter": 32,
        "crop_scale": [0.08, 1.0],
    }
