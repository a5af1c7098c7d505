"""Networks of every kind that activation checkpointing must cut into segments."""

from collections.abc import Callable
from typing import Any

import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from prism_ray.teachers.batchnorm import find_batchnorm, running_statistics
from prism_ray.teachers.pooling import make_pooling_deterministic
from prism_ray.teachers.teacher import Preprocessing, Teacher

NUM_CLASSES = 5
SIZE = 32


def block(channels_in: int, channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    )


def head(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, NUM_CLASSES))


def plain() -> nn.Module:
    """One Sequential of layers, whose activations work in place."""
    layers = [layer for part in (block(3, 8), block(8, 8), block(8, 16, 2), block(16, 16)) for layer in part]
    return nn.Sequential(*layers, *head(16))


class Residual(nn.Module):
    """Basic blocks with a shortcut that is added in place, and a stem outside of any Sequential."""

    class Block(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.first = block(channels, channels)
            self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
            self.norm = nn.BatchNorm2d(channels)
            self.act = nn.ReLU(inplace=True)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.norm(self.conv(self.first(x)))
            out += x
            y: Tensor = self.act(out)
            return y

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.blocks = nn.Sequential(*(self.Block(8) for _ in range(5)))
        self.head = head(8)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.blocks(F.relu(self.norm(self.conv(x)), inplace=True)))
        return y


class Dropping(nn.Module):
    """Dropout between blocks, as a module and as a function; off in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Sequential(block(c, 8), nn.Dropout(0.5)) for c in (3, 8, 8, 8)])
        self.head = head(8)

    def forward(self, x: Tensor) -> Tensor:
        for part in self.blocks:
            x = F.dropout(part(x), 0.3, self.training)
        y: Tensor = self.head(x)
        return y


class Shared(nn.Module):
    """One block in several places: in a Sequential twice, and once more outside."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.same = block(3, 8), block(8, 8)
        self.chain = nn.Sequential(self.same, block(8, 8), self.same, block(8, 8))
        self.head = head(8)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.same(self.chain(self.stem(x))))
        return y


class InPlace(nn.Module):
    """Blocks that work in what they are given, and a parent that does so after the call.

    The activation is none that gives the same when it is done twice.
    """

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act, self.rest = nn.SiLU(inplace=True), block(8, 8)[:2]

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.rest(self.act(x))
            return y

    class Half(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 0.5 * x  # keeps nothing of x for the gradient

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.blocks = block(3, 8)[:2], nn.Sequential(*(self.Block() for _ in range(3)))
        self.branch, self.head = nn.Sequential(self.Half(), block(8, 8)), head(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.stem(x))
        x += self.branch(x)
        y: Tensor = self.head(x)
        return y


class Dense(nn.Module):
    """Layers that take a list that grows after they were called, by keyword."""

    class Layer(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.rest = block(channels, 4)

        def forward(self, *, maps: list[Tensor]) -> Tensor:
            y: Tensor = self.rest(torch.cat(maps, dim=1))
            return y

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([self.Layer(3 + 4 * number) for number in range(5)])
        self.head = head(23)

    def forward(self, x: Tensor) -> Tensor:
        maps = [x]
        for layer in self.layers:
            maps.append(layer(maps=maps))
        y: Tensor = self.head(torch.cat(maps, dim=1))
        return y


class Branching(nn.Module):
    """Modules that change the list they are given, as HRNet's do, and a parent that looks into it later."""

    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branches = nn.ModuleList([nn.Sequential(block(8, 8), block(8, 8)) for _ in range(2)])

        def forward(self, maps: list[Tensor]) -> Tensor:
            for place, branch in enumerate(self.branches):
                maps[place] = branch(maps[place])
            return maps[0] + maps[1]

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = block(3, 8), head(8)
        self.stages = nn.ModuleList([self.Branches() for _ in range(5)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        maps = [x, 2.0 * x]
        for stage in self.stages:
            maps[0] = stage(maps)
        y: Tensor = self.head(maps[0] + maps[1])
        return y


def of(library: Any, name: str, **values: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        if library is timm:
            network = timm.create_model(name, num_classes=NUM_CLASSES, **values)
        else:
            network = library.models.get_model(name, weights=None, num_classes=NUM_CLASSES, **values)
        assert isinstance(network, nn.Module)
        make_pooling_deterministic(network)
        return network

    return make


OWN: dict[str, Callable[[], nn.Module]] = {
    "plain": plain,
    "residual": Residual,
    "dropping": Dropping,
    "shared": Shared,
    "in-place": InPlace,
    "dense": Dense,
    "branching": Branching,
}
LIBRARY: dict[str, Callable[[], nn.Module]] = {
    "resnet18": of(torchvision, "resnet18"),
    "mobilenet_v3_small": of(torchvision, "mobilenet_v3_small"),
    "shufflenet_v2_x0_5": of(torchvision, "shufflenet_v2_x0_5"),
    "densenet121": of(torchvision, "densenet121"),
    "googlenet": of(torchvision, "googlenet", aux_logits=False, init_weights=False),
    "test_byobnet": of(timm, "test_byobnet"),
    "hrnet_w18_small": of(timm, "hrnet_w18_small"),
    "test_efficientnet": of(timm, "test_efficientnet"),
}


def teacher_of(name: str, make: Callable[[], nn.Module], size: int = SIZE) -> Teacher:
    """Return a frozen teacher in the dtype of the moment, whose statistics are some random ones."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        network = make().to(memory_format=torch.channels_last)
        for layer in find_batchnorm(network):
            mean, var = running_statistics(layer)
            mean.normal_(0.0, 0.3)
            var.uniform_(0.5, 1.5)
    return Teacher(name, network.eval().requires_grad_(False), Preprocessing((0.4,) * 3, (0.2,) * 3, size))
