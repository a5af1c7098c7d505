"""Files of tensors by class: what is written comes back, and no more than is asked for."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from prism_ray.collect.files import ClassFile, class_key, encode

TENSORS = {
    class_key(12, "layer1.0.conv/mean"): torch.tensor([1.5, -2.0, 3.25]),
    class_key(12, "/var"): torch.zeros(0),
    class_key(7, "place"): torch.arange(6).reshape(2, 3).T,
}


def test_what_is_written_comes_back() -> None:
    """Values read at the wrong offset, in the wrong type or shape."""
    file = ClassFile(encode(TENSORS))
    found = file.read(12)
    assert found.keys() == {"layer1.0.conv/mean", "/var"}
    assert found["layer1.0.conv/mean"].tolist() == [1.5, -2.0, 3.25]
    assert found["layer1.0.conv/mean"].dtype == np.float32
    assert found["/var"].shape == (0,)
    assert file.read(7)["place"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert file.read(7)["place"].dtype == np.int64


def test_it_is_a_safetensors_file() -> None:
    """A file that only we can read."""
    tensors = safetensors.torch.load(encode(TENSORS))
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[key], values) for key, values in TENSORS.items())


def test_the_bytes_do_not_depend_on_the_order_of_the_keys() -> None:
    """A retried unit that does not find its own bytes."""
    assert encode(dict(reversed(TENSORS.items()))) == encode(TENSORS)


def test_arrays_are_copies_and_classes_are_known() -> None:
    """A view that keeps the file of all classes in memory, or a class that is not there read as empty."""
    file = ClassFile(encode(TENSORS))
    assert file.read(7)["place"].base is None
    assert (7 in file, 12 in file, 1 in file) == (True, True, False)
    with pytest.raises(KeyError):
        file.read(1)


def with_header(change: Callable[[dict[str, Any]], object], more: bytes = b"") -> bytes:
    """Return the file with another header."""
    data = encode(TENSORS)
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + length :] + more


PLACE = class_key(7, "place")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 8,
        b"\xff" * 100,
        (5).to_bytes(8, "little") + b"[1,2]",
        (10**5).to_bytes(8, "little") + b"[" * 10**5,
        encode(TENSORS)[:-1],
        with_header(lambda header: None, b"more"),
        with_header(lambda header: header[PLACE].update(dtype="F64")),
        with_header(lambda header: header[PLACE].update(dtype=["F32"])),
        with_header(lambda header: header[PLACE].update(shape=[2, 4])),
        with_header(lambda header: header[PLACE].update(shape=[-2, -3])),
        with_header(lambda header: header[PLACE].update(shape=[10**12, 10**12])),
        with_header(lambda header: header[PLACE].update(shape="x")),
        with_header(lambda header: header[PLACE].update(data_offsets=[0, 48, 96])),
        with_header(lambda header: header[PLACE].update(data_offsets=[-48, 0])),
        with_header(lambda header: header[PLACE].pop("shape")),
        with_header(lambda header: header.update({PLACE: 5})),
        with_header(lambda header: header.update(place=header.pop(PLACE))),
        # one tensor's bytes as those of many: every class would copy them
        with_header(lambda header: header.update({class_key(k, "x"): header[PLACE] for k in range(100)})),
    ],
)
def test_what_is_no_such_file_is_refused(data: bytes) -> None:
    """Catches a TypeError or a RecursionError from a store elsewhere, and bytes that stand for many times."""
    with pytest.raises(ValueError, match=r".") as caught:
        ClassFile(data)
    assert not isinstance(caught.value, UnicodeDecodeError)


def test_the_changed_files_of_these_tests_are_else_whole() -> None:
    """Catches all of them refused for their form."""
    assert ClassFile(with_header(lambda header: header.update(__metadata__={"a": "b"}))).read(7)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    """Catches NaN as what images are matched with."""
    file = ClassFile(encode(TENSORS | {class_key(12, "/var"): torch.tensor([1.0, value])}))
    assert file.read(7)
    with pytest.raises(ValueError, match=r"^/var has values that are not finite$"):
        file.read(12)
