"""Activation checkpointing: forward passes that need less memory, and run again for their gradient.

A network is divided into segments: modules, and neighbours in an nn.Sequential, whose layers output at most a
quarter of the bytes that all layers of the network do. Only the input of a segment is kept; the rest is
computed again in the backward pass. torch.utils.checkpoint does that with the graph of a plain step: the
nodes and the order of the sums are the same, so the gradients are too, to the last bit if the operations
are deterministic.

The input of a segment must not change until the backward pass. A module whose input changes, because the
module or its parent works in place, is found by observing the forward pass of one image. It is not a segment,
but the modules inside it may be.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten
from torch.utils.checkpoint import checkpoint

from prism_ray.teachers.override import Forward, take_over

_SHARE = 4  # a segment's layers output at most 1/4; more and smaller segments keep more inputs

is_recomputing: ContextVar[bool] = ContextVar("is_recomputing", default=False)  # during a repeated pass


@contextmanager
def _recomputing() -> Iterator[None]:
    token = is_recomputing.set(True)
    try:
        yield
    finally:
        is_recomputing.reset(token)


def recomputed(forward: Forward, *args: Any, **kwargs: Any) -> Any:
    """Return forward(*args, **kwargs), which runs again in the backward pass.

    Tensors inside lists and other containers are passed to torch one by one: a list may have changed until
    the backward pass, and torch only checks tensors that it is given. Backward raises RuntimeError if one of
    them has changed.
    """
    leaves, spec = tree_flatten((args, kwargs))

    def run(*leaves: Any) -> Any:
        args, kwargs = tree_unflatten(leaves, spec)
        return forward(*args, **kwargs)

    return checkpoint(run, *leaves, use_reentrant=False, context_fn=lambda: (nullcontext(), _recomputing()))


@contextmanager
def segmented(network: nn.Module, image: Tensor) -> Iterator[None]:
    """Make forward passes inside this context run in segments; parameters are not touched.

    `image` (1, 3, H, W) has the size of the network's later inputs. The backward pass belongs inside too.
    """
    forwards = _Cut(network, observe(network, image)).forwards
    with ExitStack() as stack:
        for module, forward in forwards.items():
            take_over(module, forward, stack)
        yield


@dataclass
class Seen:
    """Observations of a module in the forward pass of one image, over all its calls."""

    num_bytes: int = 0  # output of the layers inside, or of the layer itself
    keeps_input: bool = True  # its arguments are unchanged after the call, and at the end of the pass


@torch.no_grad()
def observe(network: nn.Module, image: Tensor) -> dict[nn.Module, Seen]:
    """Pass an image (1, 3, H, W) through a network; return the observations of each module that is called."""
    seen: dict[nn.Module, Seen] = {}
    calls: list[tuple[nn.Module, list[Any]]] = []  # running, with their arguments
    given: list[tuple[nn.Module, Tensor, int]] = []  # every argument, with its version

    def before(module: nn.Module, args: Any, kwargs: Any) -> None:
        leaves = tree_leaves((args, kwargs))
        calls.append((module, leaves))
        given.extend((module, leaf, leaf._version) for leaf in leaves if isinstance(leaf, Tensor))
        seen.setdefault(module, Seen())

    def after(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if not _has_children(module):
            for inside in {caller for caller, _ in calls}:
                seen[inside].num_bytes += sum(map(_num_bytes, tree_leaves(output)))
        _, leaves = calls.pop()
        if [id(leaf) for leaf in tree_leaves((args, kwargs))] != [id(leaf) for leaf in leaves]:
            seen[module].keeps_input = False  # it changed a list

    with ExitStack() as stack:
        for module in network.modules():
            stack.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)
            stack.callback(module.register_forward_hook(after, with_kwargs=True).remove)
        network(image)
    for module, tensor, version in given:
        if tensor._version != version:
            seen[module].keeps_input = False
    return seen


class _Cut:
    """The division of a network into segments."""

    def __init__(self, network: nn.Module, seen: Mapping[nn.Module, Seen]) -> None:
        self._seen = seen
        self._limit = seen[network].num_bytes / _SHARE
        self.forwards: dict[nn.Module, Forward] = {}  # replacements of the modules' own
        self._divide(network)

    def _cut(self, module: nn.Module) -> bool:
        """Make a segment of a module, or of modules inside it; return whether there is one."""
        if module in self.forwards:  # a module that is registered more than once
            return True
        can_repeat = self._is_free(module) and self._seen[module].keeps_input and _has_children(module)
        is_small = can_repeat and self._seen[module].num_bytes <= self._limit
        if not is_small and self._divide(module):
            return True
        if can_repeat:
            self.forwards[module] = partial(recomputed, module.forward)
        return can_repeat

    def _divide(self, module: nn.Module) -> bool:
        if self._is_free(module) and type(module).forward is nn.Sequential.forward:
            assert isinstance(module, nn.Sequential)
            return self._divide_chain(module)
        return any([self._cut(child) for child in module.children()])

    def _divide_chain(self, chain: nn.Sequential) -> bool:
        """Make segments of neighbours, each as large as the limit allows."""
        runs: list[list[nn.Module]] = [[]]
        for module in chain:
            num_bytes = self._seen[module].num_bytes
            is_large = num_bytes > self._limit and _has_children(module)
            is_full = sum(self._seen[other].num_bytes for other in runs[-1]) + num_bytes > self._limit
            if is_large or (self._seen[module].keeps_input and (is_full or not self._can_repeat(runs[-1]))):
                runs.append([])
            runs[-1].append(module)
            if is_large:
                runs.append([])
        steps: list[Forward] = []
        is_cut = False
        for run in runs:
            if len(run) > 1 and self._can_repeat(run):
                steps.append(partial(recomputed, partial(_through, run)))
                is_cut = True
            else:
                steps.extend(run)
                is_cut |= any([self._cut(module) for module in run])
        if is_cut:
            self.forwards[chain] = partial(_through, steps)
        return is_cut

    def _can_repeat(self, run: Sequence[nn.Module]) -> bool:
        return not run or self._seen[run[0]].keeps_input

    def _is_free(self, module: nn.Module) -> bool:
        """Return whether the module is called, and has the forward pass of its class."""
        return module in self._seen and "forward" not in vars(module)


def _through(steps: Iterable[Forward], x: Any) -> Any:
    for step in steps:
        x = step(x)
    return x


def _num_bytes(value: Any) -> int:
    return value.numel() * value.element_size() if isinstance(value, Tensor) else 0


def _has_children(module: nn.Module) -> bool:
    return any(True for _ in module.children())
