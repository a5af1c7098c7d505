"""The memory of the device that a unit works on: letting go of it when it has run out, and who holds it."""

import gc
import traceback

import torch


def let_go(error: BaseException) -> None:
    """Free what a failed computation has left in memory; `error` keeps its traceback, without the locals.

    A traceback holds the frames of the calls that failed, and with them the graph that did not fit.
    """
    cause: BaseException | None = error
    while cause is not None:
        traceback.clear_frames(cause.__traceback__)
        cause = cause.__cause__ or cause.__context__
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def describe_device(device: torch.device) -> str:
    """Return a device's name and the size of its memory, as far as it has its own."""
    if device.type != "cuda":
        return str(device)
    properties = torch.cuda.get_device_properties(device)
    return f"{properties.name} with {properties.total_memory / 2**30:.1f} GiB"


def bytes_of_others(device: torch.device) -> int:
    """Return the bytes of a CUDA device that are neither free nor held by this process's tensors; else 0.

    What CUDA itself needs for this process, some hundred MiB, is among them.
    """
    if device.type != "cuda":
        return 0
    free, total = torch.cuda.mem_get_info(device)
    return int(total - free - torch.cuda.memory_reserved(device))
