"""The cost and the accuracy of each network of the teacher pool: size, operations, time, memory."""

import statistics
import time
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from prism_ray.analyze.pool_table import NetworkFigures, PoolFigures
from prism_ray.config import Config, TeacherConfig
from prism_ray.store import StoreFiles, layout, read_commit
from prism_ray.teachers.batchnorm import find_batchnorm
from prism_ray.teachers.build import build_network, count_parameters, input_size
from prism_ray.teachers.cards import TeacherCard, load_teacher, read_card
from prism_ray.teachers.layers import measure_channels
from prism_ray.teachers.library import describe, network_of
from prism_ray.teachers.pretrained import load_pretrained
from prism_ray.teachers.teacher import freeze


def best_device() -> torch.device:
    """Return the first GPU, or the CPU if there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def measure_pool(
    config: Config,
    num_classes: int,
    files: StoreFiles | None,
    device: torch.device,
    batch_size: int = 16,
    num_repeats: int = 3,
) -> PoolFigures:
    """Measure every network of the pool on `device`; `files` is the run's store, if there is one.

    Costs do not depend on the weights: a network that is not in the store yet is measured with its initial
    ones, without a download. Raises ConfigError for networks that cannot be built, StoreError for damaged
    teachers in the store.
    """
    networks = []
    for number, teacher in enumerate(config.teachers.pool):
        key, image_size = f"teachers.pool.{number}", config.data.image_size
        network, card = _obtain(teacher, num_classes, image_size, files, device, key)
        size = card.preprocessing.size if card else input_size(teacher, image_size, key)
        images = torch.rand(
            (batch_size, 3, size, size), generator=torch.Generator().manual_seed(0), dtype=torch.float32
        ).to(device, torch.get_default_dtype(), memory_format=torch.channels_last)
        networks.append(
            NetworkFigures(
                name=teacher.name,
                arch=teacher.arch,
                num_parameters=count_parameters(network),
                num_bn_layers=len(find_batchnorm(network)),
                size=size,
                flops=count_flops(network, images[:1]),
                step_seconds=time_step(network, images, num_repeats) / batch_size,
                step_bytes=round(measure_step_bytes(network, images) / batch_size),
                test_accuracy=card.test_accuracy if card else None,
                weights_sha256=card.weights_sha256 if card else None,
            )
        )
    return PoolFigures(str(device), batch_size, torch.get_num_threads(), tuple(networks))


def _obtain(
    config: TeacherConfig,
    num_classes: int,
    image_size: int,
    files: StoreFiles | None,
    device: torch.device,
    key: str,
) -> tuple[nn.Module, TeacherCard | None]:
    """Return a teacher's network, frozen, and its card if the store has the config's network."""
    if files is not None and files.exists(layout.commit(f"squeeze/{config.name}")):
        commit = read_commit(files, f"squeeze/{config.name}")
        card = read_card(files, commit)
        if card.network == network_of(config).model_dump(mode="json"):
            return load_teacher(files, commit, device).network, card
    if config.weights_path:
        loaded = load_pretrained(config, num_classes, image_size, key)
        return freeze(loaded.network, device), None
    num_outputs = describe(config, key).num_classes if config.weights else num_classes
    with torch.random.fork_rng(devices=[]):
        return freeze(build_network(network_of(config), num_outputs, key), device), None


def count_flops(network: nn.Module, images: Tensor) -> int:
    """Return the floating point operations of one forward pass."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(images)
    return int(counter.get_total_flops())


def time_step(network: nn.Module, images: Tensor, num_repeats: int) -> float:
    """Return the median seconds of a step, after one step that is not counted."""
    seconds = []
    for _ in range(num_repeats + 1):
        started = time.perf_counter()
        _step(network, images)
        if images.is_cuda:
            torch.cuda.synchronize(images.device)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])


def measure_step_bytes(network: nn.Module, images: Tensor) -> int:
    """Return the peak bytes of all tensors in a step, its images included.

    On CUDA these are the bytes from the allocator, with the workspaces of kernels; on the CPU the storages
    of tensors, without the memory that a kernel uses itself.
    """
    if images.is_cuda:
        torch.cuda.reset_peak_memory_stats(images.device)
        before = torch.cuda.memory_allocated(images.device)
        _step(network, images)
        torch.cuda.synchronize(images.device)
        return int(torch.cuda.max_memory_allocated(images.device)) - before
    live = LiveStorages()
    with live:
        _step(network, images)
    return live.peak_bytes


def _step(network: nn.Module, images: Tensor) -> None:
    """Do a step as recover does with a BN teacher: logits and batch statistics, gradient of the pixels."""
    terms: list[Tensor] = []  # of variance and mean of the input of every BatchNorm layer that runs

    def collect(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        mean, var = measure_channels(inputs[0])
        terms.append(torch.linalg.vector_norm(var) + torch.linalg.vector_norm(mean))

    handles = [layer.register_forward_pre_hook(collect) for layer in find_batchnorm(network)]
    pixels = images.clone().requires_grad_(True)  # B, 3, H, W
    try:
        logits = network(pixels)
    finally:
        for handle in handles:
            handle.remove()
    loss = F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64, device=logits.device))
    if terms:
        loss = loss + torch.stack(terms).sum()
    torch.autograd.grad(loss, pixels)


class LiveStorages(TorchDispatchMode):
    """Sums the storages of tensors made inside of it, while they exist; views count once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live_bytes = 0
        self.peak_bytes = 0
        self._known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()
        self._outside: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        for value in tree_leaves((args, kwargs)):
            if isinstance(value, Tensor) and value.untyped_storage() not in self._known:
                self._outside.add(value.untyped_storage())  # made before, for example the weights
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                self._note(value.untyped_storage())
        return result

    def _note(self, storage: torch.UntypedStorage) -> None:
        if storage not in self._known and storage not in self._outside:
            self._known.add(storage)
            self.live_bytes += storage.nbytes()
            self.peak_bytes = max(self.peak_bytes, self.live_bytes)
            weakref.finalize(storage, self._release, storage.nbytes())

    def _release(self, num_bytes: int) -> None:
        self.live_bytes -= num_bytes
