"""The encodings of soft labels by name: how the logits of a view become columns of a Parquet file, and back.

    fp16, int8, int4                 the logits of all classes
    top-100, top-100-int8, top-50-int4   the k largest logits, as float16 by default

An installed package registers an encoding by an entry point of the group `prism_ray.encodings`. The entry
point's name is the first word of the encoding, and its value a function that takes the other words, for
example vq = "prism_vq:encoding" for `relabel.encoding: vq-256`.
"""

from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import entry_points

from prism_ray.encodings.base import Decoded, LabelEncoding
from prism_ray.encodings.dense import Dense
from prism_ray.encodings.top_k import TopK
from prism_ray.encodings.values import VALUES

__all__ = ["ENTRY_POINTS", "Decoded", "LabelEncoding", "find_encoding"]

ENTRY_POINTS = "prism_ray.encodings"

Maker = Callable[..., LabelEncoding]  # takes the words after the first


@cache
def find_encoding(name: str) -> LabelEncoding:
    """Return the encoding with this name; raises ValueError that says what is wrong with the name."""
    first, *words = name.split("-")
    makers = _makers()
    if first not in makers:
        known = [*VALUES, "top-K", "top-K-int8", "top-K-int4", *sorted(set(makers) - _BUILT_IN)]
        raise ValueError(f"there is no encoding {name!r}; there are {', '.join(known)}")
    found = makers[first](*words)
    if not isinstance(found, LabelEncoding):
        raise TypeError(f"the entry point {first} of {ENTRY_POINTS} does not return a LabelEncoding")
    return found


def _dense(name: str) -> Maker:
    def make(*words: str) -> LabelEncoding:
        if words:
            raise ValueError(f"{name} takes no other words, but has {'-'.join(words)!r} after it")
        return Dense(VALUES[name])

    return make


def _top(*words: str) -> LabelEncoding:
    k, values = words[0] if words else "", "-".join(words[1:]) or "fp16"
    if not (k.isascii() and k.isdecimal() and int(k) > 0):
        raise ValueError(f"top-{k}: K must be a whole number above 0, for example top-100")
    if values not in VALUES:
        raise ValueError(f"top-{k} stores its logits as {', '.join(VALUES)}, not as {values!r}")
    return TopK(int(k), VALUES[values])


_BUILT_IN = frozenset({*VALUES, "top"})


@cache
def _makers() -> Mapping[str, Maker]:
    found: dict[str, Maker] = {name: _dense(name) for name in VALUES}
    found["top"] = _top
    for entry in entry_points(group=ENTRY_POINTS):
        if entry.name in found or not entry.name.isidentifier():
            raise TypeError(
                f"the entry point {entry.name} = {entry.value} of {ENTRY_POINTS} needs another name: one "
                "word that no other encoding has"
            )
        found[entry.name] = entry.load()
    return found
