"""`collect`: one pass over the real images, which some methods need before recover."""

from typing import Annotated

from pydantic import AfterValidator, Field

from prism_ray.config.base import BatchSize, CropScale, PositiveInt, Section, check_crop_scale


class CollectConfig(Section):
    """One pass over the real images, for statistics of layers and classes and for scores of images."""

    classes_per_unit: PositiveInt = Field(
        default=50,
        description="Number of classes per collect unit. A unit passes their images through one teacher.",
    )
    batch_size: BatchSize = Field(default=100, description="Images per forward pass.")
    images_per_class: PositiveInt | None = Field(
        default=None, description="Maximum number of real images per class in the pass. Default: all images."
    )
    crop_scale: Annotated[CropScale, AfterValidator(check_crop_scale)] = Field(
        default=(0.08, 1.0),
        description="For statistics, which use one random crop per image: range of the crop's share of the "
        "image area, for example [0.08, 1.0].",
    )
    flip: bool = Field(default=True, description="For statistics: mirror a random half of the images.")
    patch_size: PositiveInt = Field(
        default=16,
        description="For patch statistics: side of a patch of a convolution's input, in pixels. Use 4 for "
        "images of at most 64 pixels.",
    )
    rded_images_per_class: PositiveInt = Field(
        default=300, description="For init rded: number of real images per class from which patches are cut."
    )
    rded_crops_per_image: PositiveInt = Field(
        default=5, description="For init rded: number of random crops scored per image. The best one is kept."
    )
    rded_crop_scale: Annotated[CropScale, AfterValidator(check_crop_scale)] = Field(
        default=(0.08, 1.0), description="For init rded: range of a crop's share of the image area."
    )
    rded_patches_per_side: PositiveInt = Field(
        default=2,
        description="For init rded: number of patches across and down in one image, for example 2 for a "
        "collage of 2 x 2 patches. Use 1 for images of at most 64 pixels: the image is then one enlarged "
        "crop.",
    )
