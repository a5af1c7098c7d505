"""Files of tensors: what is written comes back, what is no such file is refused."""

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
import safetensors.torch
import torch

from prism_ray.collect.tensors import class_key, decode, encode

TENSORS = {
    "layer1.0.conv/mean": torch.tensor([1.5, -2.0, 3.25]),
    "/var": torch.zeros(0),
    class_key(7, "place"): torch.arange(6).reshape(2, 3).T,
}
PLACE = "00007/place"


def test_what_is_written_comes_back() -> None:
    """Values in the wrong type or shape, or a file that only we can read."""
    for found in (decode(encode(TENSORS)), safetensors.torch.load(encode(TENSORS))):
        assert found.keys() == {"layer1.0.conv/mean", "/var", PLACE}
        assert all(torch.equal(found[key], values) for key, values in TENSORS.items())
        assert all(found[key].dtype == values.dtype for key, values in TENSORS.items())


def test_the_bytes_do_not_depend_on_the_order_of_the_keys() -> None:
    """A retried unit that does not find its own bytes."""
    assert encode(dict(reversed(TENSORS.items()))) == encode(TENSORS)


def with_header(change: Callable[[dict[str, Any]], object], more: bytes = b"") -> bytes:
    """Return the file with another header."""
    data = encode(TENSORS)
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + length :] + more


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
        with_header(lambda header: header[PLACE].update(dtype="F64x")),
        with_header(lambda header: header[PLACE].update(dtype="F8_E8M0", shape=[48])),
        with_header(lambda header: header[PLACE].update(dtype=["F32"])),
        with_header(lambda header: header[PLACE].update(shape=[2, 4])),
        with_header(lambda header: header[PLACE].update(shape=[-2, -3])),
        with_header(lambda header: header[PLACE].update(shape=[10**12, 10**12])),
        with_header(lambda header: header["/var"].update(shape=[0, 2**63])),
        with_header(lambda header: header[PLACE].update(shape="x")),
        with_header(lambda header: header[PLACE].update(data_offsets=[0, 48, 96])),
        with_header(lambda header: header[PLACE].update(data_offsets=[-48, 0])),
        with_header(lambda header: header[PLACE].pop("shape")),
        with_header(lambda header: header.update({PLACE: 5})),
        # one tensor's bytes as those of many: each would be a copy
        with_header(lambda header: header.update({class_key(k, "x"): header[PLACE] for k in range(100)})),
    ],
)
def test_what_is_no_such_file_is_refused(data: bytes) -> None:
    """Catches an error of the library's or of torch's, and bytes that stand for many times."""
    with pytest.raises(ValueError, match=r"^not a complete safetensors file: ") as caught:
        decode(data)
    assert type(caught.value) is ValueError


def test_the_changed_files_of_these_tests_are_else_whole() -> None:
    """Catches all of them refused for their form."""
    assert decode(with_header(lambda header: header.update(__metadata__={"a": "b"}))).keys() == TENSORS.keys()


def test_whatever_the_bytes_are_nothing_but_value_errors_come_out() -> None:
    """Catches one damaged byte that ends a command with another error than the one that names the file."""
    rng = random.Random(20261126)
    whole = encode(TENSORS)
    for _ in range(2000):
        data = bytearray(whole)
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            decode(bytes(data))
        except ValueError:
            continue
