"""Adaptive average pooling as two matrix products, whose gradient is the same in every run on every device.

torch has no deterministic backward pass on CUDA for adaptive pooling to more than one value. VGG and similar
networks use it; its windows overlap if the map of a small image is enlarged.
"""

from timm.models.vgg import ConvMlp
from torch import Tensor, nn

from prism_ray.geometry import apply_matrices, pool_matrix


class MatrixAdaptiveAvgPool2d(nn.Module):
    """`nn.AdaptiveAvgPool2d`: x (B, F, H, W) -> (B, F, *size); None in `size` keeps that side."""

    def __init__(self, size: tuple[int | None, int | None]) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return adaptive_average(x, self.size)

    def extra_repr(self) -> str:
        return f"size={self.size}"


def adaptive_average(x: Tensor, size: tuple[int | None, int | None]) -> Tensor:
    """Return x (B, F, H, W) pooled to (B, F, *size) as `torch.nn.functional.adaptive_avg_pool2d` does."""
    height, width = x.shape[2:]
    rows, columns = size[0] or height, size[1] or width
    if (rows, columns) == (height, width):
        return x
    return apply_matrices(x, pool_matrix(height, rows, x), pool_matrix(width, columns, x))


def make_pooling_deterministic(network: nn.Module) -> None:
    """Replace adaptive average pooling to more than one value; no name of a parameter changes."""
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.AdaptiveAvgPool2d):
            size = module.output_size
            pair = size if isinstance(size, tuple) else (size, size)
            if pair != (1, 1):
                network.set_submodule(name, MatrixAdaptiveAvgPool2d(pair))
        elif isinstance(module, ConvMlp):  # timm's VGG pools inside a function, if its map is too small
            module.register_forward_pre_hook(_enlarge)


def _enlarge(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Enlarge a map that is smaller than the kernel of ConvMlp, as ConvMlp would do next."""
    smallest = module.input_kernel_size
    assert isinstance(smallest, int)
    height, width = inputs[0].shape[2:]
    return (adaptive_average(inputs[0], (max(height, smallest), max(width, smallest))), *inputs[1:])
