"""Records of Thrift's compact protocol: the values come out, and damage ends in a ValueError."""

import random

import pytest

from prism_ray.parquet.thrift import CompactReader


def test_fields_come_out_by_number() -> None:
    """Catches numbers that are read without their sign, and fields numbered far from the last one."""
    data = (
        b"\x11\x15\x03"  # 1: true, 2: -2
        b"\x18\x02ab"  # 3: "ab"
        b"\x05\xc8\x01\x80\x01"  # 100: 64
        b"\x19\x25\x02\x04"  # 101: [1, 2]
        b"\x1c\x12\x00"  # 102: {1: false}
        b"\x00"
    )
    reader = CompactReader(data + b"behind")
    assert reader.record() == {1: True, 2: -2, 3: b"ab", 100: 64, 101: [1, 2], 102: {1: False}}
    assert reader.offset == len(data)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "ends too soon"),
        (b"\x18\xff\x01a", "ends too soon"),
        (b"\x15" + b"\xff" * 11, "number is too long"),
        (b"\x1c" * 50, "nested too deep"),
        (b"\x19" + b"\x19" * 50, "nested too deep"),
        (b"\x19\xf5\xff\xff\xff\xff\x0f", "list is too long"),
        (b"\x1b\x00\x00", "unknown type 11"),
    ],
)
def test_what_is_no_record_is_refused(data: bytes, problem: str) -> None:
    """Catches IndexError and RecursionError, and a list of 4,294,967,295 that is begun."""
    with pytest.raises(ValueError, match=problem):
        CompactReader(data).record()


def test_whatever_the_bytes_are_nothing_but_value_errors_come_out() -> None:
    """Catches a damaged footer that ends in another error than the one that names the file."""
    rng = random.Random(20261123)
    for _ in range(2000):
        data = rng.randbytes(rng.randrange(40))
        try:
            CompactReader(data).record()
        except ValueError:
            continue
