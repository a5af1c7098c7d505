"""PRISM: one teacher gives the logits, a random subset of the pool the BN alignment."""

from prism_ray.methods.base import Method


class Prism(Method):
    """Its settings are the defaults of `recover`."""

    name = "prism"
    title = "PRISM"
    source = "arXiv 2511.09905"
    protocol = "prism"
