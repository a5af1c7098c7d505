"""Names of class folders that every operating system can hold: the class name, or the class's number."""

import json
import unicodedata
from collections import Counter
from collections.abc import Sequence

_FORBIDDEN = frozenset('<>:"/\\|?*')  # on Windows
_RESERVED = frozenset(
    {"con", "prn", "aux", "nul", "conin$", "conout$"}
    | {f"{device}{digit}" for device in ("com", "lpt") for digit in "0123456789¹²³"}
)
_MAX_BYTES = 200  # of a name in UTF-8; 255 is the limit, and tools add endings


def folder_names(class_names: Sequence[str]) -> tuple[str, ...]:
    """Return a folder name for each class: its name where that can be a folder's, else its number, 00007.

    A name is replaced by the number if it is empty or too long, has a sign that Windows or a terminal does
    not take, begins with a dot, a space or two underscores (loaders skip such folders), ends with a dot or a
    space, is a device of Windows, or differs from another only in case or in its Unicode form. If a class has
    the number of another as its name, it gets its own number. Names are in Unicode form NFC.
    """
    numbers = {f"{label:05d}": label for label in range(len(class_names))}
    keys = [_key(name) for name in class_names]
    count = Counter(keys)
    names = []
    for label, (name, key) in enumerate(zip(class_names, keys, strict=True)):
        is_free = count[key] == 1 and numbers.get(key, label) == label
        names.append(
            unicodedata.normalize("NFC", name) if is_free and _can_be_folder(name) else f"{label:05d}"
        )
    return tuple(names)


def describe_folders(class_names: Sequence[str], names: Sequence[str]) -> bytes:
    """Return classes.json: a list of label, class name and folder, in the order of the labels."""
    rows = [
        {"label": label, "class": name, "folder": folder}
        for label, (name, folder) in enumerate(zip(class_names, names, strict=True))
    ]
    return json.dumps(rows, indent=1, ensure_ascii=False).encode(errors="surrogatepass")


def _key(name: str) -> str:
    """Return what two names share that are one folder where case and Unicode form do not count."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def _can_be_folder(name: str) -> bool:
    shown = unicodedata.normalize("NFC", name)
    stem = _key(shown).partition(".")[0].strip()
    return (
        shown.isprintable()  # no control characters, and nothing that cannot be UTF-8
        and 0 < len(shown.encode()) <= _MAX_BYTES
        and _FORBIDDEN.isdisjoint(shown)
        and not shown.startswith((".", "__", " "))
        and not shown.endswith((".", " "))
        and stem not in _RESERVED
    )
