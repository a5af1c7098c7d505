"""`collect`: the pass over the real images that some methods need before they begin."""

from typing import Annotated

from pydantic import AfterValidator, Field

from prism_ray.config.base import BatchSize, CropScale, PositiveInt, Section, check_crop_scale


class CollectConfig(Section):
    """Statistics of layers and classes, and scores of real images, from one pass in sharded units."""

    classes_per_unit: PositiveInt = Field(
        default=50, description="Classes whose real images one unit of work passes through a teacher."
    )
    batch_size: BatchSize = Field(default=100, description="Images per forward pass.")
    images_per_class: PositiveInt | None = Field(
        default=None, description="Real images of each class that are passed through, at most; default: all."
    )
    crop_scale: Annotated[CropScale, AfterValidator(check_crop_scale)] = Field(
        default=(0.08, 1.0),
        description="Statistics are taken of one random crop of each image; range of its share of the area.",
    )
    flip: bool = Field(default=True, description="Statistics: mirror half of the images.")
    patch_size: PositiveInt = Field(
        default=16,
        description="Statistics: side in pixels of the patches of a convolution's input that are pooled; 4 "
        "for images of 64 pixels and fewer.",
    )
    rded_images_per_class: PositiveInt = Field(
        default=300, description="init rded: real images of each class that patches are cut from."
    )
    rded_crops_per_image: PositiveInt = Field(
        default=5, description="init rded: random crops scored of each image, of which the best is kept."
    )
    rded_crop_scale: Annotated[CropScale, AfterValidator(check_crop_scale)] = Field(
        default=(0.08, 1.0), description="init rded: range of a crop's share of the image's area."
    )
    rded_patches_per_side: PositiveInt = Field(
        default=2,
        description="init rded: an image is a collage of so many patches across and down; 1, for images of "
        "64 pixels and fewer: one crop enlarged to the whole image.",
    )
