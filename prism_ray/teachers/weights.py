"""Weights in files: read without trusting them, and matched to a network by name or by position."""

import hashlib
import io
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile, ZipFile

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from prism_ray.config import TeacherConfig
from prism_ray.errors import ConfigError
from prism_ray.teachers.library import drop_auxiliary_heads
from prism_ray.teachers.teacher import Triple, triple
from prism_ray.teachers.weight_files import open_weights

METADATA = "prism_ray"  # key in the metadata of safetensors
_WRAPPERS = ("state_dict", "model", "model_state_dict")
_PREFIXES = ("module.", "_orig_mod.")  # of nn.DataParallel, of torch.compile
_COUNTER = "num_batches_tracked"  # kept by BatchNorm, without meaning in use, absent from old files


@dataclass(frozen=True)
class InputFigures:
    """Mean and std of the input, which prism-ray writes into the weights of teachers that it squeezes."""

    mean: Triple
    std: Triple


def read_weights(config: TeacherConfig, key: str) -> tuple[dict[str, Tensor], str, InputFigures | None]:
    """Return the tensors of a teacher's file of weights, in its order, the SHA-256 of the file, and mean and
    std of the network's input if the file says them.

    Nothing but tensors is unpickled. Raises ConfigError if the file cannot be read, or is none of weights.
    """
    path = config.weights_path
    assert path is not None
    where = f"{key}.arch = {config.arch!r}"
    try:
        with open_weights(path) as file:
            data: bytes = file.read()
    except (OSError, ImportError, ValueError) as error:
        raise ConfigError(
            f"{where}: {path} cannot be read: {error}; the path must lead to the file on every machine of "
            "the cluster, or be a URL"
        ) from error
    figures = None
    try:
        if path.endswith(".safetensors"):
            values: Any = safetensors.torch.load(data)
            figures = _input_figures(data)
        else:
            _check_not_packed(data)
            values = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise ConfigError(
            f"{where}: {path} holds more than tensors, or is no file of weights, and is not loaded: such a "
            "file can run code. Save the state dict alone: torch.save(network.state_dict(), path)"
        ) from error
    except (
        SafetensorError,
        RuntimeError,
        ValueError,
        EOFError,
        OSError,
        LookupError,
        TypeError,
        BadZipFile,
    ) as error:
        raise ConfigError(f"{where}: {path} is damaged or no file of weights: {error}") from error
    return _unwrap(values, where), hashlib.sha256(data).hexdigest(), figures


def _input_figures(data: bytes) -> InputFigures | None:
    """Read the metadata of a safetensors file: 8 bytes with the header's length, the header as JSON."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    text = header.get("__metadata__", {}).get(METADATA)
    if text is None:
        return None
    values = json.loads(text)
    mean, std = triple(values["mean"]), triple(values["std"])
    if not all(map(math.isfinite, mean + std)) or min(std) <= 0.0:
        raise ValueError(f"its metadata have mean = {mean} and std = {std}")
    return InputFigures(mean, std)


def _check_not_packed(data: bytes) -> None:
    """Raise ValueError for an archive that unpacks to more than it is; torch saves none of these."""
    if data.startswith(b"PK"):
        with ZipFile(io.BytesIO(data)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > len(data):
                raise ValueError("its entries are packed; save it with torch.save")


def _unwrap(values: Any, where: str) -> dict[str, Tensor]:
    """Return the state dict inside of what a file holds, under the network's own names."""
    for _ in _WRAPPERS:  # as deep as that, and not for ever: a mapping may hold itself
        if isinstance(values, Mapping):
            inner = (values[name] for name in _WRAPPERS if isinstance(values.get(name), Mapping))
            values = next(inner, values)
    if not isinstance(values, Mapping) or not values:
        raise ConfigError(
            f"{where}: the file holds {type(values).__name__}, expected a state dict, a mapping of names to "
            "tensors"
        )
    for name, value in values.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ConfigError(
                f"{where}: entry {name!r} of the file is {type(value).__name__}, expected a state dict, a "
                f"mapping of names to tensors; one may stand under {' or '.join(map(repr, _WRAPPERS))}"
            )
        if not _is_whole(value):
            raise ConfigError(
                f"{where}: entry {name!r} of the file is no plain tensor, or has more values than the file "
                "holds; save network.state_dict() of a network on the CPU"
            )
    state = dict(values)
    while prefix := next((p for p in _PREFIXES if all(name.startswith(p) for name in state)), None):
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    return drop_auxiliary_heads(state)


def _is_whole(value: Tensor) -> bool:
    """True if all of a tensor's values are there: not on a device without memory, not said once for many."""
    if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized or value.is_nested:
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def infer_num_classes(
    config: TeacherConfig, state: Mapping[str, Tensor], build: Callable[[int], nn.Module], key: str
) -> int:
    """Return how many classes weights from a file tell apart.

    `build` makes the network for a number of classes. Its entries whose shape follows that number are the
    classifier, and the file's entry in its place has the answer. Raises ConfigError if there is none.
    """
    few, more, theirs = _shapes(build(2)), _shapes(build(3)), _shapes(state)
    partners = _partners(config, theirs, few, key)
    classifier = [name for name in few if few[name] != more[name]]
    for name in classifier:
        held = theirs[partners[name]] if name in partners else ()
        for dim, (at_two, at_three) in enumerate(zip(few[name], more[name], strict=True)):
            if at_two != at_three and len(held) > dim:
                return held[dim] - (at_two - 2)
    hint = _other_order(config, theirs, {**few, **dict.fromkeys(classifier, ())})
    raise _misfit(config, f"the file has no {' and no '.join(map(repr, classifier))}{hint}", key)


def match_weights(
    config: TeacherConfig, state: Mapping[str, Tensor], network: nn.Module, key: str
) -> dict[str, Tensor]:
    """Return the file's tensors under the network's names; every one has a place and the right shape.

    Raises ConfigError that names the first entry which differs.
    """
    ours, theirs = _shapes(network), _shapes(state)
    partners = _partners(config, theirs, ours, key)
    for name, shape in ours.items():
        if name not in partners:
            if not name.endswith(_COUNTER):
                raise _misfit(config, f"the file has no {name!r}{_other_order(config, theirs, ours)}", key)
        elif theirs[partners[name]] != shape:
            held = partners[name]
            raise _misfit(
                config,
                f"{held!r} has the shape {theirs[held]} in the file, and {name!r} the shape {shape} in the "
                "network",
                key,
            )
    taken = set(partners.values())
    for name in theirs:
        if name not in taken and not name.endswith(_COUNTER):
            raise _misfit(
                config,
                f"the file has {name!r}, which the network has not{_other_order(config, theirs, ours)}",
                key,
            )
    zero = torch.zeros((), dtype=torch.int64)
    return {name: state[partners[name]] if name in partners else zero for name in ours}


_Shapes = dict[str, tuple[int, ...]]


def _shapes(holder: nn.Module | Mapping[str, Tensor]) -> _Shapes:
    state = holder.state_dict() if isinstance(holder, nn.Module) else holder
    return {name: tuple(value.shape) for name, value in state.items()}


def _partners(config: TeacherConfig, theirs: _Shapes, ours: _Shapes, key: str) -> dict[str, str]:
    """Return for entries of the network the file's entry that is meant for it."""
    if config.weights_by == "name":
        return {name: name for name in ours if name in theirs}
    if str(config.weights_path).endswith(".safetensors"):
        raise ConfigError(
            f"{key}.weights_by = 'position': {config.weights_path} is a safetensors file, which keeps no "
            "order of its tensors; give a state dict (.pth), or rename the tensors and match them by name"
        )
    left, right = _without_counters(ours), _without_counters(theirs)
    if len(left) != len(right):
        shared = min(len(left), len(right))
        pairs = enumerate(zip(left, right, strict=False))
        place = next((place for place, (a, b) in pairs if ours[a] != theirs[b]), shared)
        a = f"{left[place]!r} {ours[left[place]]}" if place < len(left) else "nothing"
        b = f"{right[place]!r} {theirs[right[place]]}" if place < len(right) else "nothing"
        raise _misfit(
            config,
            f"the file has {len(right)} tensors and the network {len(left)}; they part at place {place}, "
            f"where the file has {b} and the network {a}",
            key,
        )
    return dict(zip(left, right, strict=True))


def _without_counters(shapes: _Shapes) -> list[str]:
    return [name for name in shapes if not name.endswith(_COUNTER)]


def _other_order(config: TeacherConfig, theirs: _Shapes, ours: _Shapes) -> str:
    """Suggest weights_by: position where it would do; an empty shape of `ours` stands for any."""
    left = [ours[name] for name in _without_counters(ours)]
    right = [theirs[name] for name in _without_counters(theirs)]
    in_order = len(left) == len(right) and all(a in (b, ()) for a, b in zip(left, right, strict=True))
    if not in_order or str(config.weights_path).endswith(".safetensors"):
        return ""
    return "; its tensors have the right shapes in the right order, so weights_by: position would take them"


def _misfit(config: TeacherConfig, problem: str, key: str) -> ConfigError:
    return ConfigError(
        f"{key}.arch = {config.arch!r}: the weights do not fit {config.architecture} (matched by "
        f"{config.weights_by}): {problem}; correct the architecture, its kwargs or the file"
    )
