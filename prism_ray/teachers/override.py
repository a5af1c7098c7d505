"""Layers that compute in another way for a while: their forward pass, or a function of torch inside it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from torch import nn
from torch.overrides import TorchFunctionMode

Forward = Callable[..., Any]


def take_over(module: nn.Module, forward: Forward, stack: ExitStack) -> None:
    """Make `forward` the forward pass of a module until `stack` is closed; then it is what it was before."""
    own = vars(module)
    if "forward" in own:  # taken over already
        stack.callback(own.__setitem__, "forward", own["forward"])
    else:
        stack.callback(own.pop, "forward", None)
    own["forward"] = forward


class CallOf(ABC, TorchFunctionMode):
    """A context in which `instead` answers the calls of one function of torch.

    So layers of any class are reached, also those that do more before or after the call. It is
    a method, not a function that is given: a mode that refers to itself would hold activations until Python
    looks for cycles.
    """

    function: Callable[..., Any]

    @abstractmethod
    def instead(self, *args: Any, **kwargs: Any) -> Any:
        """Return the result of a call; it has the parameters of the function, and may call it."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        answer = self.instead if func is self.function else func
        return answer(*args, **(kwargs or {}))
