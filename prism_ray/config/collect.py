"""`collect`: one pass over the real images, which some methods need before recover."""

from typing import Literal

from prism_ray.config.base import BatchSize, CropScale, PositiveInt, Section

CropFrom = Literal["square", "original"]


class CollectConfig(Section):
    """One pass over the real images, for statistics of layers and classes and for scores of images."""

    classes_per_unit: PositiveInt = 50
    """Number of classes per collect unit. A unit passes their images through one teacher."""
    batch_size: BatchSize = 100
    """Images per forward pass."""
    images_per_class: PositiveInt | None = None
    """Maximum number of real images per class in the pass. Default: all images."""
    crop_from: CropFrom = "square"
    """What the crops for statistics and for init rded are cut from. original: the picture at its full size
    with its borders, as in the public code of RDED, EDC and CV-DD. square: the image of data.image_size."""
    crop_scale: CropScale = (0.08, 1.0)
    """For statistics, which use one random crop per image: range of the crop's share of the image area, for
    example [0.08, 1.0]."""
    flip: bool = True
    """For statistics: mirror a random half of the images."""
    patch_size: PositiveInt = 16
    """For patch statistics: side of a patch of a convolution's input, in pixels. Use 4 for images of at most
    64 pixels."""
    rded_images_per_class: PositiveInt = 300
    """For init rded: number of real images per class from which patches are cut."""
    rded_crops_per_image: PositiveInt = 5
    """For init rded: number of random crops scored per image. The best one is kept."""
    rded_crop_scale: CropScale = (0.08, 1.0)
    """For init rded: range of a crop's share of the image area."""
    rded_patches_per_side: PositiveInt = 2
    """For init rded: number of patches across and down in one image, for example 2 for a collage of 2 x 2
    patches. Use 1 for images of at most 64 pixels: the image is then one enlarged crop."""
