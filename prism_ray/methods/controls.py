"""The control that every comparison needs: real images, chosen at random, under the same labels."""

from prism_ray.methods.base import Method


class RandomReal(Method):
    """Random training images of each class."""

    name = "random-real"
    title = "random real images"
    source = "a control"
    preset = {"init": "random"}  # noqa: RUF012 - never changed
    optimises = False
