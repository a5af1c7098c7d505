"""DELT: sub-batches of a class join one after the other, so that its images get unequal iterations."""

from prism_ray.methods.base import Method


class Delt(Method):
    """Joint batches of 100 in class order, one teacher, real images of median probability."""

    name = "delt"
    title = "DELT"
    source = "arXiv 2411.19946 and its public code"
    protocol = "delt"
    preset = {  # noqa: RUF012 - never changed
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
    }
