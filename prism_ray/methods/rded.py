"""RDED: collages of the real patches that a teacher classifies best; nothing is optimised."""

from prism_ray.methods.base import Method


class Rded(Method):
    """Selection alone."""

    name = "rded"
    title = "RDED"
    source = "arXiv 2312.03526 and its public code"
    protocol = "rded"
    preset = {"init": "rded"}  # noqa: RUF012 - never changed
    optimises = False
