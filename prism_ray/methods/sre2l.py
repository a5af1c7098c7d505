"""SRe2L: one teacher gives the logits and the BN statistics; images start from noise."""

from prism_ray.methods.base import Method


class Sre2l(Method):
    """Cross-class batches of 100, one teacher."""

    name = "sre2l"
    title = "SRe2L"
    source = "arXiv 2306.13092 and its public code"
    protocol = "sre2l"
    preset = {  # noqa: RUF012 - never changed
        "selection": {"slots": 0},
        "init": "noise",
        "iterations": 4000,
        "iterations_step": 0,
        "learning_rate": 0.25,
        "bn_weight": 0.01,
        "jitter": 32,
        "crop_scale": [0.08, 1.0],
    }
