"""The folders of a sweep's points: readable, safe for every file system, never the same for two points. Pure.

A folder depends on the point alone, so a file can get more points without moving the stores of the others.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

_MAX_LENGTH = 100  # of a folder; file systems allow 255 bytes
_CLEAR = re.compile(r"[a-z0-9][a-z0-9.-]*")  # text that stands for itself
_UNSAFE = re.compile(r"[^A-Za-z0-9.-]+")
_HASH_DIGITS = 8


def short_keys(keys: Iterable[str]) -> dict[str, str]:
    """Return for each key its last words, as many as it takes to tell it from the others.

    >>> short_keys(["recover.selection.slots", "evaluate.loss", "recover.loss"])
    {'recover.selection.slots': 'slots', 'evaluate.loss': 'evaluate.loss', 'recover.loss': 'recover.loss'}
    """
    distinct = list(dict.fromkeys(keys))
    found = {}
    for key in distinct:
        words = key.split(".")
        for number in range(1, len(words) + 1):
            end = words[-number:]
            if number == len(words) or not any(
                other != key and other.split(".")[-number:] == end for other in distinct
            ):
                found[key] = ".".join(end)
                break
    return found


def point_folder(changes: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """Return the folder of a point; `names` has the short form of each key, see `short_keys`.

    A value that cannot be written as it is, or a folder that is too long, brings a hash of all changes.

    >>> point_folder({"a.ipc": 1, "b.loss": "kl"}, {"a.ipc": "ipc", "b.loss": "loss"})
    'ipc=1,loss=kl'
    """
    texts, is_clear = [], True
    for key, value in changes.items():
        text, clear = _text_of(value)
        name, clear_name = _safe(names[key]), _UNSAFE.sub("_", names[key]) == names[key]
        texts.append(f"{name}={text}")
        is_clear = is_clear and clear and (clear_name or _is_plain_key(names[key]))
    folder = ",".join(texts) or "base"
    if is_clear and len(folder) <= _MAX_LENGTH:
        return folder
    data = json.dumps(dict(changes), sort_keys=True, default=str)
    digest = hashlib.sha256(data.encode()).hexdigest()[:_HASH_DIGITS]
    return f"{folder[: _MAX_LENGTH - _HASH_DIGITS - 1].rstrip(',=')}-{digest}"


def _is_plain_key(name: str) -> bool:
    return re.fullmatch(r"[a-z0-9._-]+", name) is not None


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)


def _text_of(value: Any) -> tuple[str, bool]:
    """Return a value as a piece of a folder's name, and whether no other value looks the same."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value], True
    if isinstance(value, int | float):
        text = str(int(value)) if isinstance(value, int) else repr(float(value))
        return _UNSAFE.sub("-", text), _UNSAFE.search(text) is None
    if isinstance(value, str):
        looks_like_text = not re.fullmatch(r"[-+.0-9e]+|null|true|false|inf|nan", value)
        return _UNSAFE.sub("-", value), _CLEAR.fullmatch(value) is not None and looks_like_text
    if isinstance(value, list):
        return "-".join(_text_of(part)[0] for part in value) or "none", False
    return "values", False
