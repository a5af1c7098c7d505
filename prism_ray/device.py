"""A unit's device: the settings under which it repeats its bytes, and its memory."""

import gc
import os
import traceback
from contextlib import suppress
from pathlib import Path

import psutil
import torch

from prism_ray.machine import peak_resident_bytes

# torch lets convolutions on CUDA round to TF32; here only where a `precision` of the config says so.
PRODUCTS = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)  # type: ignore[attr-defined]


def repeat_bytes() -> None:
    """Make torch compute the same bytes each time, in this process from now on."""
    # cuBLAS reads this when it starts; without it, matrix products on CUDA are not reproducible.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Like use_deterministic_algorithms(True), which also loads the compiler, for a second: nothing compiles.
    torch.set_deterministic_debug_mode("error")
    # Each new tensor would be filled first: no operation here reads what it has not written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    for products in PRODUCTS:
        products.fp32_precision = "ieee"


def let_go(error: BaseException) -> None:
    """Free the memory of a computation that failed with `error`, which keeps its traceback without locals.

    The frames in a traceback refer to the graph that did not fit.
    """
    cause: BaseException | None = error
    while cause is not None:
        traceback.clear_frames(cause.__traceback__)
        cause = cause.__cause__ or cause.__context__
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def describe_device(device: torch.device) -> str:
    """Return a device's name, of a CUDA device with the size of its memory."""
    if device.type != "cuda":
        return str(device)
    properties = torch.cuda.get_device_properties(device)
    return f"{properties.name} with {properties.total_memory / 2**30:.1f} GiB"


def used_bytes(device: torch.device) -> int:
    """Return the bytes of a CUDA device that this process has reserved; for the CPU its resident memory."""
    if device.type != "cuda":
        return int(psutil.Process().memory_info().rss)
    return int(torch.cuda.memory_reserved(device))


def reset_peak(device: torch.device) -> None:
    """Let the peak of `peak_bytes` begin now; Linux permits that to a process itself."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_bytes(device: torch.device) -> int:
    """Return the peak of `used_bytes` since `reset_peak`; on another system than Linux what is used now."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved(device))
    peak = peak_resident_bytes()
    return used_bytes(device) if peak is None else peak


def bytes_of_others(device: torch.device) -> int:
    """Return the bytes of a CUDA device that are neither free nor reserved by this process; 0 on the CPU.

    They include what CUDA itself needs for this process, some hundred MiB.
    """
    if device.type != "cuda":
        return 0
    free, total = torch.cuda.mem_get_info(device)
    return int(total - free - torch.cuda.memory_reserved(device))
