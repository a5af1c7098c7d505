"""CV-DD: a committee of two teachers per IPC index votes on logits and statistics, by prior accuracy."""

from prism_ray.methods.base import Method


class CvDd(Method):
    """Cross-class batches of 100, two teachers of the pool, from RDED-like patches."""

    name = "cv-dd"
    title = "CV-DD"
    source = "arXiv 2501.07575 and its public code"
    protocol = "cv-dd"
    preset = {  # noqa: RUF012 - never changed
        "selection": {
            "include_primary": False,
            "slots": 2,
            "inclusion_probability": 1.0,
            "logits": "drawn",
            "votes": "prior",
        },
        "init": "rded",
        "iterations": 4000,
        "iterations_step": 0,
        "learning_rate": 0.25,
        "bn_weight": 0.01,
        "jitter": 32,
        "crop_scale": [0.08, 1.0],
    }
