"""Weights in files: read without trust in them, and matched to a network by name or by position."""

import hashlib
import io
import json
import math
from collections.abc import Callable, Mapping
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile, ZipFile

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from prism_ray.config import TeacherConfig
from prism_ray.errors import ConfigError, UsageError
from prism_ray.teachers.library import drop_auxiliary_heads
from prism_ray.teachers.teacher import Triple, triple
from prism_ray.teachers.weight_files import open_weights

METADATA = "prism_ray"  # key in the metadata of safetensors
_WRAPPERS = ("state_dict", "model", "model_state_dict")
_PREFIXES = ("module.", "_orig_mod.")  # of nn.DataParallel, of torch.compile
_COUNTER = "num_batches_tracked"  # kept by BatchNorm; has no effect in use, and old files do not have it
_DAMAGED = (SafetensorError, RuntimeError, ValueError, EOFError, OSError, LookupError, TypeError, BadZipFile)

_Shapes = dict[str, tuple[int, ...]]

# Mean and std of the input, which prism-ray writes into the weights of teachers that it squeezes.
InputFigures = tuple[Triple, Triple]


def read_weights(config: TeacherConfig, key: str) -> tuple[dict[str, Tensor], str, InputFigures | None]:
    """Return the tensors of a teacher's file of weights in the file's order, the SHA-256 of the file, and
    mean and std of the network's input if the file has them.

    Only tensors are unpickled. Raises ConfigError if the file cannot be read, or has no weights.
    """
    path = config.weights_path
    assert path is not None
    where = f"{key}.arch = {config.arch!r}"
    try:
        with open_weights(path) as file:
            data: bytes = file.read()
    except UsageError as error:
        raise ConfigError(f"{where}: {error}") from None
    except (OSError, ValueError) as error:
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
            f"{where}: {path} has more than tensors in it, or is not a file of weights, and is not loaded: "
            "such a file can run code. Save the state dict alone: torch.save(network.state_dict(), path)"
        ) from error
    except _DAMAGED as error:
        raise ConfigError(f"{where}: {path} is damaged or not a file of weights: {error}") from error
    return _unwrap(values, where), hashlib.sha256(data).hexdigest(), figures


def _input_figures(data: bytes) -> InputFigures | None:
    # A safetensors file begins with the header's length (8 bytes) and the header as JSON.
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    text = header.get("__metadata__", {}).get(METADATA)
    if text is None:
        return None
    values = json.loads(text)
    mean, std = triple(values["mean"]), triple(values["std"])
    if not all(map(math.isfinite, mean + std)) or min(std) <= 0.0:
        raise ValueError(f"its metadata have mean = {mean} and std = {std}")
    return mean, std


def _check_not_packed(data: bytes) -> None:
    """Raise ValueError for an archive with compressed entries, which torch never saves."""
    if data.startswith(b"PK"):
        with ZipFile(io.BytesIO(data)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > len(data):
                raise ValueError("its entries are packed; save it with torch.save")


def _unwrap(values: Any, where: str) -> dict[str, Tensor]:
    """Return the state dict in the contents of a file, under the network's own names."""
    for _ in _WRAPPERS:  # a limited depth, because a mapping may contain itself
        if isinstance(values, Mapping):
            inner = (values[name] for name in _WRAPPERS if isinstance(values.get(name), Mapping))
            values = next(inner, values)
    expected = "expected a state dict, a mapping of names to tensors"
    if not isinstance(values, Mapping) or not values:
        raise ConfigError(f"{where}: the file contains {type(values).__name__}, {expected}")
    for name, value in values.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ConfigError(
                f"{where}: entry {name!r} of the file is {type(value).__name__}, {expected}; it may be under "
                f"the key {' or '.join(map(repr, _WRAPPERS))}"
            )
        if not _is_whole(value):
            raise ConfigError(
                f"{where}: entry {name!r} of the file is not a plain tensor, or has more values than the "
                "file; save network.state_dict() of a network on the CPU"
            )
    state = dict(values)
    while prefix := next((p for p in _PREFIXES if all(name.startswith(p) for name in state)), None):
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    return drop_auxiliary_heads(state)


def _is_whole(value: Tensor) -> bool:
    """Return whether the file has all of a tensor's values: none on a meta device, none used repeatedly."""
    if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized or value.is_nested:
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def infer_num_classes(
    config: TeacherConfig, state: Mapping[str, Tensor], build: Callable[[int], nn.Module], key: str
) -> int:
    """Return the number of classes that weights from a file distinguish.

    `build` makes the network for a number of classes. Its entries whose shape depends on that number are the
    classifier; the shape of the matching entry of the file shows the number. Raises ConfigError without one.
    """
    few, more = (shapes_of(build(num_classes).state_dict()) for num_classes in (2, 3))
    theirs = shapes_of(state)
    partners = _partners(config, theirs, few, key)
    classifier = [name for name in few if few[name] != more[name]]
    for name in classifier:
        shape = theirs[partners[name]] if name in partners else ()
        for dim, (at_two, at_three) in enumerate(zip(few[name], more[name], strict=True)):
            if at_two != at_three and len(shape) > dim:
                return shape[dim] - (at_two - 2)
    hint = _other_order(config, theirs, few | dict.fromkeys(classifier, ()))
    raise _misfit(config, f"the file has no {' and no '.join(map(repr, classifier))}{hint}", key)


def match_weights(
    config: TeacherConfig, state: Mapping[str, Tensor], network: nn.Module, key: str
) -> dict[str, Tensor]:
    """Return the file's tensors under the network's names.

    Raises ConfigError, which names the first entry without a partner or with another shape.
    """
    ours, theirs = shapes_of(network.state_dict()), shapes_of(state)
    partners = _partners(config, theirs, ours, key)
    hint = _other_order(config, theirs, ours)
    for name, shape in ours.items():
        partner = partners.get(name)
        if partner is None and not name.endswith(_COUNTER):
            raise _misfit(config, f"the file has no {name!r}{hint}", key)
        if partner is not None and theirs[partner] != shape:
            problem = (
                f"{partner!r} has the shape {theirs[partner]} in the file, and {name!r} the shape {shape}"
            )
            raise _misfit(config, f"{problem} in the network", key)
    extra = next((name for name in _without_counters(theirs) if name not in partners.values()), None)
    if extra is not None:
        raise _misfit(config, f"the file has {extra!r}, and the network does not{hint}", key)
    zero = torch.zeros((), dtype=torch.int64)
    return {name: state[partners[name]] if name in partners else zero for name in ours}


def shapes_of(state: Mapping[str, Tensor]) -> _Shapes:
    """Return the shape of each tensor of a state dict."""
    return {name: tuple(value.shape) for name, value in state.items()}


def _partners(config: TeacherConfig, theirs: _Shapes, ours: _Shapes, key: str) -> dict[str, str]:
    """Return the file's entry for each entry of the network that has one."""
    if config.weights_by == "name":
        return {name: name for name in ours if name in theirs}
    if str(config.weights_path).endswith(".safetensors"):
        raise ConfigError(
            f"{key}.weights_by = 'position': {config.weights_path} is a safetensors file, which keeps no "
            "order of its tensors; give a state dict (.pth), or rename the tensors and match them by name"
        )
    left, right = _without_counters(ours), _without_counters(theirs)
    if len(left) != len(right):
        pairs = enumerate(zip(left, right, strict=False))
        index = next((i for i, (a, b) in pairs if ours[a] != theirs[b]), min(len(left), len(right)))
        a, b = (
            f"{names[index]!r} {shapes[names[index]]}" if index < len(names) else "nothing"
            for names, shapes in ((left, ours), (right, theirs))
        )
        problem = (
            f"the file has {len(right)} tensors and the network {len(left)}; they differ from index {index}"
        )
        raise _misfit(config, f"{problem} on, where the file has {b} and the network {a}", key)
    return dict(zip(left, right, strict=True))


def _without_counters(shapes: _Shapes) -> list[str]:
    return [name for name in shapes if not name.endswith(_COUNTER)]


def _other_order(config: TeacherConfig, theirs: _Shapes, ours: _Shapes) -> str:
    """Suggest weights_by: position if it would work; an empty shape in `ours` matches any."""
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
