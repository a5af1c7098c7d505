"""A device with little memory, on the CPU."""

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from prism_ray.analyze.pool import LiveStorages


class Budget(LiveStorages):
    """Tensors made inside of it may take `num_bytes` at once; beyond that it raises what CUDA raises."""

    def __init__(self, num_bytes: int) -> None:
        super().__init__()
        self.num_bytes = num_bytes
        self.num_failures = 0
        self._is_clear = True

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if not self._is_clear and torch._C._current_graph_task_id() == -1:
            self._is_clear = True
            _clear_autograd()
        return super().__torch_dispatch__(func, types, args, kwargs)

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        _clear_autograd()

    def _note(self, storage: torch.UntypedStorage) -> None:
        super()._note(storage)
        if self.live_bytes > self.num_bytes:
            self.num_failures += 1
            self._is_clear = False
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate more than there is")


def _clear_autograd() -> None:
    """Let autograd drop what was queued in this thread for a backward pass that has failed.

    On the CPU it stays in the queue, and its graph in memory, until the thread ends; on CUDA a thread of
    autograd's own drops it at once. Nodes are taken in the order of their numbers, the last one first, and
    a thread counts from 0: one from a new thread is taken when all others are gone.
    """
    made: list[Tensor] = []
    thread = threading.Thread(target=lambda: made.append(torch.zeros((), requires_grad=True) * 1.0))
    thread.start()
    thread.join()
    made[0].backward()
