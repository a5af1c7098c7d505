"""The reference pixel space in which images are optimised, and its conversion to each teacher's input."""

from dataclasses import dataclass

import torch
from torch import Tensor

from prism_ray.geometry import resize
from prism_ray.teachers.teacher import Preprocessing, Teacher, to_pixels


@dataclass(frozen=True)
class ReferenceSpace:
    """Pixels in [0, 1] minus `mean`, over `std`; both are (channels, 1, 1), channels 1 (grey) or 3."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, preprocessing: Preprocessing, channels: int, device: torch.device) -> "ReferenceSpace":
        """Return the space of the primary's input; for grey images, of the average of its channels."""
        mean, std = preprocessing.mean_std(torch.empty(0, device=device))
        if channels == 1:
            mean, std = mean.mean(0, keepdim=True), std.mean(0, keepdim=True)
        return cls(mean, std)

    def from_images(self, images: Tensor) -> Tensor:
        """Return uint8 images (B, channels, H, W) in this space."""
        return (to_pixels(images) - self.mean) / self.std

    def to_images(self, x: Tensor) -> Tensor:
        """Return x as uint8 images, rounded and clipped."""
        return ((x * self.std + self.mean) * 255.0).round_().clamp_(0.0, 255.0).to(torch.uint8)

    def clamp_(self, x: Tensor) -> Tensor:
        """Clip x in place to the values of pixels in [0, 1]."""
        return x.clamp_(min=-self.mean / self.std, max=(1.0 - self.mean) / self.std)

    def to_teacher(self, x: Tensor, teacher: Teacher) -> Tensor:
        """Return x (B, channels, H, W) as the teacher's input (B, 3, size, size): one affine map."""
        mean, std = teacher.preprocessing.mean_std(x)
        scale, shift = self.std / std, (self.mean - mean) / std
        z = resize(x, teacher.preprocessing.size) * scale + shift
        return z.contiguous(memory_format=torch.channels_last)
