"""Files of tensors by class: what is written comes back, and no more than is asked for."""

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
