"""Weights in files: read without trust in them, and matched to a network by name or by position."""

import argparse
import hashlib
import io
import json
import math
import re
import shlex
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
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
from prism_ray.teachers.state_dicts import COUNTER, choose_network
from prism_ray.teachers.teacher import Triple, triple
from prism_ray.teachers.weight_files import (
    check_format,
    is_safetensors,
    open_weights,
    split_network,
    unreadable,
)
from prism_ray.wording import first_of

METADATA = "prism_ray"  # key in the metadata of safetensors
_CLASS_NAMES = ("class_to_idx", "idx_to_class", "classes", "class_names")  # beside the weights
_VARIANCE = "running_var"  # of BatchNorm
_SAFETENSORS = re.compile(r"\.safetensors(#|$)")
_DAMAGED = (SafetensorError, RuntimeError, ValueError, EOFError, OSError, LookupError, TypeError, BadZipFile)

_Shapes = dict[str, tuple[int, ...]]

# Mean and std of the input, which prism-ray writes into the weights of teachers that it squeezes.
InputFigures = tuple[Triple, Triple]


# Keeps the state dicts of a file that is trusted, and nothing else.
_KEEP_STATE_DICTS = (
    'import sys, torch; c = torch.load(sys.argv[1], "cpu", weights_only=False); '
    'c = c if isinstance(c, dict) else {"state_dict": c}; '
    'c = {k: getattr(v, "state_dict", lambda: v)() for k, v in c.items()}; '
    "is_state = lambda v: all(map(torch.is_tensor, v.values() if isinstance(v, dict) else [v])); "
    "torch.save({k: v for k, v in c.items() if is_state(v)}, sys.argv[2])"
)
_TORCH_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # at the start of files of torch.save until torch 1.5


@dataclass(frozen=True)
class FileWeights:
    """The weights of one network in a file."""

    state: dict[str, Tensor]  # under the network's names, or those of another library; in the file's order
    sha256: str  # of the file
    figures: InputFigures | None  # mean and std of the network's input, if the file has them
    network: str  # key of the network in the file; "" if the file as a whole is the network
    other_networks: tuple[str, ...]  # keys of the others in the file
    class_names: tuple[str, ...]  # of the outputs, if the file has them


def read_weights(config: TeacherConfig, names: Collection[str], key: str) -> FileWeights:
    """Return the weights in a teacher's file; `names` are the entries of the state dict of its network.

    Only tensors are unpickled. Raises ConfigError if the file cannot be read, has no weights, or does not
    have the network that the config chooses.
    """
    path = config.weights_path
    assert path is not None
    where = f"{key}.arch = {config.arch!r}"
    try:
        path, network = split_network(path)
        with open_weights(path) as file:
            data: bytes = file.read()
        check_format(data, path)
    except (OSError, ValueError, UsageError) as error:
        raise unreadable(config, key, path, error) from error
    figures = None
    try:
        if is_safetensors(data):
            contents: Any = safetensors.torch.load(data)
            figures = _input_figures(data)
        else:
            contents = _load_tensors(data)
    except UnpicklingError as error:
        raise ConfigError(f"{where}: {_more_than_tensors(path, data)}") from error
    except _DAMAGED as error:
        cause = str(error).partition("\n")[0]
        raise ConfigError(f"{where}: {path} is damaged or not a file of weights: {cause}") from error
    try:
        chosen = choose_network(contents, names, network)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error
    state = drop_auxiliary_heads(chosen.state)
    digest, classes = hashlib.sha256(data).hexdigest(), _class_names(contents)
    return FileWeights(state, digest, figures, chosen.key, chosen.others, classes)


def _class_names(contents: Any) -> tuple[str, ...]:
    """Return the names of the outputs that a training script has put beside the weights; () if it has not."""
    values = [contents.get(name) for name in _CLASS_NAMES] if isinstance(contents, Mapping) else []
    for value in values:
        names = value
        if isinstance(value, Mapping):  # of names to numbers, or of numbers to names
            pairs = [
                (index, name) if isinstance(name, str) else (name, index) for index, name in value.items()
            ]
            by_index = dict(pairs)
            names = [by_index.get(index) for index in range(len(pairs))]
        if isinstance(names, list | tuple) and names and all(isinstance(name, str) for name in names):
            return tuple(names)
    return ()


def _load_tensors(data: bytes) -> Any:
    if data.startswith(b"PK"):
        with ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
            num_bytes = sum(entry.file_size for entry in archive.infolist())
        if any(name.endswith("/constants.pkl") for name in names):
            remedy = "save torch.jit.load(path).state_dict() with torch.save"
            raise ValueError(f"it is a TorchScript archive; {remedy}")
        if not any(name.endswith("/data.pkl") for name in names):
            raise ValueError("it is a zip archive, and not one of torch.save")
        if num_bytes > len(data):
            raise ValueError("its entries are packed, which torch never does; save it with torch.save")
    elif _TORCH_MAGIC not in data[:32]:
        raise ValueError("it is neither a file of torch.save nor safetensors")
    # timm allows the arguments of its training script, too; they are plain values.
    with torch.serialization.safe_globals([argparse.Namespace]):
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _more_than_tensors(path: str, data: bytes) -> str:
    """Return what is wrong with a file that cannot be loaded without running code, and the remedy."""
    found: list[str] = []
    with suppress(*_DAMAGED, UnpicklingError):  # known only for files of torch's present format
        found = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(io.BytesIO(data)))
    names = f" ({first_of(found, 3)})" if found else ""
    target = f"{path.rpartition('/')[2].rpartition('.')[0] or 'weights'}-weights.pth"
    command = shlex.join(["python", "-c", _KEEP_STATE_DICTS, path, target])
    return (
        f"{path} has more than tensors in it{names}, and is not loaded: such a file can run code. If you "
        "trust it, save its state dicts alone, with the packages that it was written with, and give the new "
        f"file: {command}"
    )


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

    Raises ConfigError, which names the first entry without a partner, with another shape, or with values
    that no trained network has.
    """
    expected = network.state_dict()
    ours, theirs = shapes_of(expected), shapes_of(state)
    partners = _partners(config, theirs, ours, key)
    hint = _other_order(config, theirs, ours)
    for name, shape in ours.items():
        partner = partners.get(name)
        if partner is None and not name.endswith(COUNTER):
            raise _misfit(config, f"the file has no {name!r}{hint}", key)
        if partner is not None and theirs[partner] != shape:
            problem = (
                f"{partner!r} has the shape {theirs[partner]} in the file, and {name!r} the shape {shape}"
            )
            raise _misfit(config, f"{problem} in the network", key)
    extra = next((name for name in _without_counters(theirs) if name not in partners.values()), None)
    if extra is not None:
        raise _misfit(config, f"the file has {extra!r}, and the network does not{hint}", key)
    for name, partner in partners.items():
        bad = _bad_values(name, state[partner], expected[name].is_floating_point())
        if bad is not None:
            raise ConfigError(
                f"{key}.arch = {config.arch!r}: entry {partner!r} of the weights {bad}; take another file or "
                "checkpoint of this network"
            )
    zero = torch.zeros((), dtype=torch.int64)
    return {name: state[partners[name]] if name in partners else zero for name in ours}


def _bad_values(name: str, value: Tensor, is_floating_point: bool) -> str | None:
    """Return what is wrong with the values for the entry `name` of a network; None if nothing."""
    if is_floating_point and not value.is_floating_point():
        return f"is {str(value.dtype).removeprefix('torch.')}: quantised weights are not read"
    if not torch.isfinite(value).all():
        return "has values that are not finite"
    if name.endswith(_VARIANCE) and value.numel() > 0:
        if value.min() < 0:
            return f"has negative variances (down to {value.min().item():.3g})"
        if value.max() == 0:
            return "is 0 throughout, and the variances of a trained network are not"
    return None


def shapes_of(state: Mapping[str, Tensor]) -> _Shapes:
    """Return the shape of each tensor of a state dict."""
    return {name: tuple(value.shape) for name, value in state.items()}


def _partners(config: TeacherConfig, theirs: _Shapes, ours: _Shapes, key: str) -> dict[str, str]:
    """Return the file's entry for each entry of the network that has one."""
    if config.weights_by == "name":
        return {name: name for name in ours if name in theirs}
    if _SAFETENSORS.search(str(config.weights_path)):
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
    return [name for name in shapes if not name.endswith(COUNTER)]


def _other_order(config: TeacherConfig, theirs: _Shapes, ours: _Shapes) -> str:
    """Suggest weights_by: position if it would work; an empty shape in `ours` matches any."""
    left = [ours[name] for name in _without_counters(ours)]
    right = [theirs[name] for name in _without_counters(theirs)]
    in_order = len(left) == len(right) and all(a in (b, ()) for a, b in zip(left, right, strict=True))
    if not in_order or _SAFETENSORS.search(str(config.weights_path)):
        return ""
    return "; its tensors have the right shapes in the right order, so weights_by: position would take them"


def _misfit(config: TeacherConfig, problem: str, key: str) -> ConfigError:
    return ConfigError(
        f"{key}.arch = {config.arch!r}: the weights do not fit {config.architecture} (matched by "
        f"{config.weights_by}): {problem}; correct the architecture, its kwargs or the file"
    )
