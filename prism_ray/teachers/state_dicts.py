"""The networks in the contents of a file of weights: which there are, and the one that is taken.

A file may be a bare state dict, or a checkpoint with several: of a training script, with its moving average,
or of Lightning, whose names begin with the attribute of the module. Each network has a key: the path of its
mapping, then the prefix of its names, joined by dots, for example `state_dict_ema` or `state_dict.model`.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from prism_ray.wording import first_of

COUNTER = "num_batches_tracked"  # kept by BatchNorm; has no effect in use, and old files do not have it

# In the order in which timm takes them (load_state_dict in timm/models/_helpers.py): averages come first.
_KNOWN_NAMES = ("state_dict_ema", "model_ema", "state_dict", "model", "model_state_dict")
_EXPECTED = "expected a state dict, a mapping of names to tensors"
_OPTIMIZER = {"state", "param_groups"}
_MAX_DEPTH = 4  # of mappings in each other; a mapping may contain itself
_LISTED = 8


@dataclass(frozen=True)
class ChosenNetwork:
    """The tensors of one network of a file, under the network's own names, in the file's order."""

    state: dict[str, Tensor]
    key: str  # "" if the file as a whole is the network
    others: tuple[str, ...]  # keys of the other networks in the file


def choose_network(contents: Any, names: Collection[str], key: str | None) -> ChosenNetwork:
    """Return the network `key` of a file's contents, by default the one that timm would take.

    `names` are the entries of the network's state dict, which show the prefix of the names in the file.
    Raises ValueError if there is no such network, several that fit and no `key`, or entries that are no
    tensors.
    """
    if not isinstance(contents, Mapping) or not contents:
        raise ValueError(f"the file contains {type(contents).__name__}, {_EXPECTED}")
    if contents.keys() >= _OPTIMIZER:
        raise ValueError("the file has the state of an optimiser (state, param_groups), and no network")
    networks = _Networks(contents, names)
    path, prefix = networks.default() if key is None else networks.named(key)
    state = networks.found[path]
    if prefix:
        state = {name.removeprefix(prefix): state[name] for name in state if _begins(name, prefix)}
    elif len(networks.prefixes[path]) > 1:  # the others are prefixes of other networks
        inner = [other for other in networks.prefixes[path] if other]
        state = {name: state[name] for name in state if not any(_begins(name, other) for other in inner)}
    chosen = _join(path, prefix)
    others = tuple(name for name in networks.keys(fitting=True) if name != chosen)
    return ChosenNetwork(_checked(state), chosen, others)


def _mappings(contents: Mapping[Any, Any], path: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield the mappings that have tensors, each with its path in the file."""
    if any(isinstance(value, Tensor) for value in contents.values()):
        yield path, contents
    for name, value in contents.items():
        is_inner = isinstance(name, str) and isinstance(value, Mapping) and depth < _MAX_DEPTH
        if is_inner and not value.keys() >= _OPTIMIZER:
            yield from _mappings(value, _join(path, name), depth + 1)


def _join(path: str, name: str) -> str:
    return ".".join(part for part in (path, name.removesuffix(".")) if part)


def _begins(name: Any, prefix: str) -> bool:
    return isinstance(name, str) and name.startswith(prefix)


class _Networks:
    """The mappings with tensors in a file, and the prefixes under which they have a network's names."""

    def __init__(self, contents: Mapping[Any, Any], names: Collection[str]) -> None:
        self._contents, self._names = contents, names
        self.found = dict(_mappings(contents))
        self.prefixes = {path: _prefixes(state, names) for path, state in self.found.items()}

    def default(self) -> tuple[str, str]:
        """Return path and prefix of the network that is taken without a key."""
        path, inner = "", self._contents
        for _ in range(_MAX_DEPTH):
            names = (name for name in _KNOWN_NAMES if isinstance(inner.get(name), Mapping))
            name = next((name for name in names if self._inside(_join(path, name))), None)
            if name is None:
                break
            path, inner = _join(path, name), inner[name]
        inside = self._inside(path)
        if not inside:
            has = _listed([str(name) for name in self._contents])
            raise ValueError(f"the file has no tensors in {has}, {_EXPECTED}")
        inside = [name for name in inside if self.prefixes[name]] or inside
        if path not in inside and len(inside) > 1:
            raise ValueError(_ambiguous(inside))
        path = path if path in inside else inside[0]
        return path, self._prefix(path)

    def named(self, key: str) -> tuple[str, str]:
        """Return path and prefix of the network `key`: a mapping, or the names under a prefix in one."""
        if key in self.found:
            return key, self._prefix(key)
        inside = self._inside(key)
        if len(inside) == 1:
            return inside[0], self._prefix(inside[0])
        hits = [(path, f"{key.removeprefix(f'{path}.')}.") for path in self.found]
        hits = [(path, prefix) for path, prefix in hits if any(_begins(n, prefix) for n in self.found[path])]
        hits = [hit for hit in hits if _join(*hit) == key] or hits
        if len(hits) > 1:
            raise ValueError(_ambiguous([_join(*hit) for hit in hits]))
        if hits:
            return hits[0][0], self._prefix(*hits[0])
        known = self.keys()
        has = f"it has {_listed(known)}" if known else "it has one network; leave out # and the key"
        raise ValueError(f"the file has no network {key!r}: {has}")

    def keys(self, fitting: bool = False) -> list[str]:
        """Return the keys of all networks in the file, or of those that have the network's names."""
        paths = (path for path in self.found if self.prefixes[path] or not fitting)
        keys = [_join(path, prefix) for path in paths for prefix in self.prefixes[path] or [""]]
        return [key for key in keys if key]

    def _inside(self, path: str) -> list[str]:
        return [name for name in self.found if not path or name == path or name.startswith(f"{path}.")]

    def _prefix(self, path: str, within: str = "") -> str:
        """Return the prefix of the network's names in a mapping, below the prefix `within`."""
        prefixes = [prefix for prefix in self.prefixes[path] if prefix.startswith(within)]
        if within in prefixes:
            return within
        if len(prefixes) > 1:
            raise ValueError(_ambiguous([_join(path, prefix) for prefix in prefixes]))
        if prefixes:
            return prefixes[0]
        return _shared_prefix([n for n in self.found[path] if _begins(n, within)], self._names, within)


def _prefixes(state: Mapping[Any, Any], names: Collection[str]) -> list[str]:
    """Return the prefixes under which a mapping has all names of the network."""
    wanted = [name for name in names if not name.endswith(COUNTER)]
    if not wanted:
        return []
    ends = (name for name in state if isinstance(name, str) and name.endswith(wanted[0]))
    prefixes = (name.removesuffix(wanted[0]) for name in ends)
    whole = (prefix for prefix in prefixes if not prefix or prefix.endswith("."))
    return [prefix for prefix in whole if all(prefix + name in state for name in wanted)]


def _shared_prefix(entries: Collection[str], names: Collection[str], prefix: str) -> str:
    """Return `prefix` and the wrappers after it that all entries have, and the network itself does not."""
    own = {name.partition(".")[0] for name in names}
    while True:
        left = [entry.removeprefix(prefix) for entry in entries]
        firsts = {entry.partition(".")[0] for entry in left if "." in entry}
        if len(firsts) != 1 or firsts & own or not all("." in entry for entry in left):
            return prefix
        prefix += f"{firsts.pop()}."


def _ambiguous(keys: Collection[str]) -> str:
    return f"the file has several networks ({_listed(keys)}); choose one with #<key> after the path"


def _listed(keys: Collection[str]) -> str:
    return first_of([repr(key) for key in keys], _LISTED)


def _checked(state: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Return the state with float32 for half precision; raise ValueError if it is no state dict."""
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(f"entry {name!r} of the file is {type(value).__name__}, {_EXPECTED}")
        if not _is_whole(value):
            raise ValueError(
                f"entry {name!r} of the file is not a plain tensor, or has more values than the file; save "
                "network.state_dict() of a network on the CPU"
            )
    halves = [name for name, value in state.items() if value.is_floating_point() and value.element_size() < 4]
    return dict(state) | {name: state[name].float() for name in halves}


def _is_whole(value: Tensor) -> bool:
    """Return whether the file has all of a tensor's values: none on a meta device, none used repeatedly."""
    if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized or value.is_nested:
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()
