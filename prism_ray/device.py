"""The memory of a unit's device: how to free it after it has run out, and who else uses it."""

import gc
import traceback

import torch


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


def bytes_of_others(device: torch.device) -> int:
    """Return the bytes of a CUDA device that are neither free nor reserved by this process; 0 on the CPU.

    They include what CUDA itself needs for this process, some hundred MiB.
    """
    if device.type != "cuda":
        return 0
    free, total = torch.cuda.mem_get_info(device)
    return int(total - free - torch.cuda.memory_reserved(device))
