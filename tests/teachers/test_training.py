"""Cutting into batches, and measuring accuracy."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from prism_ray.config import DataConfig
from prism_ray.data import RealImages, open_data
from prism_ray.teachers.teacher import Preprocessing
from prism_ray.teachers.training import measure_accuracy, split_evenly

CPU = torch.device("cpu")
PREPROCESSING = Preprocessing((0.3, 0.3, 0.3), (0.4, 0.4, 0.4), 16)


@pytest.fixture(scope="module")
def digits() -> RealImages:
    return open_data(DataConfig(source="digits", image_size=16))


@given(count=st.integers(0, 5000), batch_size=st.integers(1, 600))
def test_split_covers_everything_evenly(count: int, batch_size: int) -> None:
    """Would catch a dropped or repeated image, a batch that is too large, or a rump at the end."""
    batches = split_evenly(count, batch_size)
    places = [place for batch in batches for place in range(count)[batch]]
    assert places == list(range(count))
    sizes = [len(range(count)[batch]) for batch in batches]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    assert len(batches) == max(1, -(-count // batch_size))


@given(count=st.integers(2, 5000), batch_size=st.integers(3, 600))
def test_no_batch_of_a_single_image(count: int, batch_size: int) -> None:
    """Would catch a last batch of one image, on which BatchNorm cannot train."""
    assert all(batch.stop - batch.start >= 2 for batch in split_evenly(count, batch_size))


class OneClass(nn.Module):
    """Calls every image a `label`; refuses images that are not prepared, or training mode."""

    def __init__(self, label: int) -> None:
        super().__init__()
        self.label = label

    def forward(self, x: Tensor) -> Tensor:
        assert not self.training
        assert x.shape[1:] == (3, 16, 16)
        logits = torch.zeros(len(x), 10)
        logits[:, self.label] = 1.0
        return logits


def test_accuracy_is_a_share_of_the_whole_test_set(digits: RealImages) -> None:
    """Would catch an average over unequal batches, a dropped batch, or training data in the test."""
    test_labels = digits.labels["test"]
    assert len(test_labels) > 256  # more than one batch
    shares = [measure_accuracy(OneClass(label), digits, PREPROCESSING, CPU) for label in range(10)]
    assert shares == [np.count_nonzero(test_labels == label) / len(test_labels) for label in range(10)]
    assert sum(shares) == pytest.approx(1.0)


class ManyClasses(nn.Module):
    """Knows classes of its own best of all, and among the data's, which stand backwards, the 3."""

    def forward(self, x: Tensor) -> Tensor:
        logits = torch.zeros(len(x), 30)
        logits[:, 0] = 9.0
        logits[:, 25 - 3] = 1.0
        return logits


def test_accuracy_compares_the_datas_classes_alone(digits: RealImages) -> None:
    """Would catch outputs of other classes counting as answers, or indices taken the wrong way round."""
    indices = torch.arange(25, 15, -1)
    accuracy = measure_accuracy(ManyClasses(), digits, PREPROCESSING, CPU, class_indices=indices)
    assert accuracy == (digits.labels["test"] == 3).mean()


def test_accuracy_is_measured_in_evaluation_mode(digits: RealImages) -> None:
    """Would catch BatchNorm that uses, or worse updates, statistics of the test images."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 10),
    )
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    accuracy = measure_accuracy(network, digits, PREPROCESSING, CPU)
    assert accuracy == measure_accuracy(network, digits, PREPROCESSING, CPU)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    images = torch.from_numpy(digits.read("test", np.arange(len(digits.labels["test"]))))
    with torch.no_grad():
        logits = network((images.expand(-1, 3, -1, -1) / 255.0 - 0.3) / 0.4)
    right = (logits.argmax(1).numpy() == digits.labels["test"]).mean()
    assert accuracy == pytest.approx(right, abs=1.5 / len(images))  # one image may stand on the border
