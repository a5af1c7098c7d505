"""The order of classes: of the data's folders, other orders that weights are often trained with, and the
names of the outputs that library weights carry.

A network knows its classes by number alone, so weights trained with the same classes in another order answer
wrongly without an error.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import timm
import torchvision
from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

from prism_ray.config import TeacherConfig
from prism_ray.errors import ConfigError
from prism_ray.teachers.library import describe
from prism_ray.wording import first_of

_SYNSET = re.compile(r"n\d{8}")
_LISTED = 128  # numbers of class_indices in a message
_SHOWN_PAIRS = 3

Order = tuple[int, ...]  # for each class of the data, its index in the order


def known_orders(class_names: Sequence[str]) -> dict[str, Order]:
    """Return the orders that weights for these classes may have been trained with, by their names.

    The order that the data has is not among them.

    >>> known_orders(["0", "1", "10", "2"])
    {'the order of numbers': (0, 1, 3, 2)}
    """
    keys: dict[str, Callable[[str], Any]] = {
        "the order of numbers": _by_numbers,
        "the order of text": str,
        "alphabetical order without regard to capital letters": str.lower,
    }
    if all(map(_synset_of, class_names)):
        keys["the order of WordNet ids"] = _synset_of
    if all(map(_lemma_of, class_names)):
        keys["alphabetical order of readable names"] = _lemma_of
    present = tuple(range(len(class_names)))
    found: dict[Order, str] = {}
    for name, key in keys.items():
        ranked = sorted(present, key=lambda k: key(class_names[k]))
        order = tuple(int(index) for index in np.argsort(ranked))
        if order != present:
            found.setdefault(order, name)
    return {name: order for order, name in found.items()}


def _by_numbers(name: str) -> tuple[tuple[int, str], ...]:
    """Return a key that sorts the numbers in names as numbers: class2 comes before class10."""
    parts = re.split(r"(\d+)", name)
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in parts)


@cache
def _imagenet() -> tuple[dict[str, str], dict[str, str]]:
    """Return the synset of each readable name of ImageNet-1K, and the first name of each synset."""
    info: Any = ImageNetInfo("imagenet-1k")
    synset_of: dict[str, str] = {}
    for synset in info.label_names():
        for name in info.label_name_to_description(synset).split(", "):
            synset_of.setdefault(_plain(name), synset)
    first = {synset: info.label_name_to_description(synset).split(", ")[0] for synset in info.label_names()}
    return synset_of, first


def _synset_of(name: str) -> str:
    """Return the WordNet id of a readable name; an id itself and an unknown name have none."""
    return _imagenet()[0].get(_plain(name), "")


def _lemma_of(name: str) -> str:
    """Return the readable name of a WordNet id of ImageNet-1K, without capital letters; "" if unknown."""
    return _imagenet()[1].get(name, "").lower()


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().lower()


def _outputs_by_name(config: TeacherConfig) -> dict[str, set[int]]:
    """Return the outputs of library weights under each name that the library knows for them; {} if none."""
    assert config.weights is not None
    names: list[list[str]] = []
    subset = None
    if config.library == "torchvision":
        known_weights = torchvision.models.get_model_weights(config.architecture)
        categories = known_weights[config.weights].meta["categories"]
        names = [[name] for name in categories]
        subset = "imagenet-1k" if len(categories) == 1000 and categories[0] == "tench" else None
    else:
        tag = "" if config.weights == "pretrained" else f".{config.weights}"
        cfg = timm.get_pretrained_cfg(f"{config.architecture}{tag}")
        if cfg is not None:
            subset = infer_imagenet_subset(cfg)
    if subset is not None:
        info: Any = ImageNetInfo(subset)
        names = names or [[] for _ in range(info.num_classes())]
        for number, synset in enumerate(info.label_names()):
            names[number] += [synset, *info.label_name_to_description(synset).split(", ")]
    found: dict[str, set[int]] = {}
    for number, known in enumerate(names):
        for name in known:
            found.setdefault(_plain(name), set()).add(number)
    return found


def indices_by_name(config: TeacherConfig, class_names: Sequence[str]) -> tuple[set[int], ...] | None:
    """Return the outputs that have the name of each class of the data, in the weights of a library.

    None if a class is not known there.
    """
    return _find_all(_outputs_by_name(config), class_names)


def _find_all(outputs: Mapping[str, set[int]], class_names: Sequence[str]) -> tuple[set[int], ...] | None:
    found = tuple(outputs.get(_plain(name), set()) for name in class_names)
    return found if all(found) else None


def check_names(config: TeacherConfig, class_names: Sequence[str], key: str) -> None:
    """Raise ConfigError if library weights know all classes of the data by name, at other outputs.

    Also raises ConfigError if the library has no such weights. Weights in a file: `check_names_of_file`.
    """
    if config.weights is None or config.weights_path is not None:
        return
    num_outputs = describe(config, key).num_classes
    known = indices_by_name(config, class_names)
    if known is not None:
        _compare(config, known, num_outputs, class_names, key)


def check_names_of_file(
    config: TeacherConfig, names: Sequence[str], num_outputs: int, class_names: Sequence[str], key: str
) -> None:
    """Raise ConfigError if a file names its outputs, and the classes of the data are at others.

    `names` are those in the file; nothing is concluded if they are not one for each output.
    """
    if len(names) != num_outputs:
        return
    known = _find_all({_plain(name): {number} for number, name in enumerate(names)}, class_names)
    if known is not None:
        _compare(config, known, num_outputs, class_names, key)


def _compare(
    config: TeacherConfig,
    known: tuple[set[int], ...],
    num_outputs: int,
    class_names: Sequence[str],
    key: str,
) -> None:
    """Raise ConfigError if the outputs for the classes are not those that are `known` by name."""
    remedy = f"set {key}.class_indices to {shown_indices([min(named) for named in known])}"
    if config.class_indices is None and num_outputs != len(class_names):
        raise ConfigError(
            f"{key}.arch = {config.arch!r}: distinguishes {num_outputs} classes, among them by name the "
            f"{len(class_names)} of the data; {remedy}"
        )
    used = config.class_indices or range(len(class_names))
    wrong = [k for k, (output, named) in enumerate(zip(used, known, strict=False)) if output not in named]
    if wrong:
        k = wrong[0]
        raise ConfigError(
            f"{key}.arch = {config.arch!r}: its classes have another order than the data: class "
            f"{class_names[k]!r} is output {min(known[k])} by its name, and {used[k]} would be used "
            f"({len(wrong)} of {len(class_names)} classes differ); {remedy}, or teachers.check_accuracy to "
            "false to use the teacher as it is"
        )


def shown_indices(indices: Sequence[int]) -> str:
    """Return numbers as a list for a message, cut if it is long."""
    return f"[{first_of([str(index) for index in indices], _LISTED)}]"


def shown_pairs(class_names: Sequence[str], order: Sequence[int]) -> str:
    """Return the first classes that have another index in `order`, for a message."""
    moved = [k for k, index in enumerate(order) if index != k][:_SHOWN_PAIRS]
    return ", ".join(f"{class_names[k]!r} (class {k}) as class {order[k]}" for k in moved)
