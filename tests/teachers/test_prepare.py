"""A member of the pool becomes a teacher in the store: squeezed or loaded, the same way."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from prism_ray.config import NetworkConfig, SqueezeConfig, TeacherConfig
from prism_ray.data import RealImages
from prism_ray.data.base import ArrayImages
from prism_ray.errors import ConfigError
from prism_ray.seeds import derive_seed
from prism_ray.store import Commit, StoreFiles, write_part
from prism_ray.teachers.build import build_network
from prism_ray.teachers.cards import encode_weights, load_teacher
from prism_ray.teachers.prepare import PreparedTeacher, prepare_teacher
from prism_ray.teachers.squeeze import measure_preprocessing, train
from prism_ray.teachers.teacher import Preprocessing, Teacher
from prism_ray.teachers.training import measure_accuracy

CPU = torch.device("cpu")
ONE_EPOCH = SqueezeConfig(epochs=1, flip=False)


def prepare(config: TeacherConfig, data: RealImages, check_accuracy: bool = True) -> PreparedTeacher:
    torch.manual_seed(3)
    return prepare_teacher(config, ONE_EPOCH, data, 32, 3, CPU, check_accuracy=check_accuracy)


def stored(prepared: PreparedTeacher, folder: Path) -> Teacher:
    """Store a teacher as a worker does, and load it again."""
    files = StoreFiles(str(folder))
    weights = write_part(files, lambda attempt: f"teachers/x/w-{attempt}.safetensors", prepared.weights)
    card = write_part(files, lambda attempt: f"teachers/x/t-{attempt}.json", prepared.card.to_json())
    assert prepared.card.weights_sha256 == weights.sha256
    return load_teacher(files, Commit("squeeze/x", "", (weights, card), {}, 0.0, "", ""), CPU)


def test_a_squeezed_teacher_is_trained_and_tested(digits: RealImages, tmp_path: Path) -> None:
    """Would catch a card of another network's figures, or weights of before the training."""
    prepared = prepare(TeacherConfig(name="x", arch="timm:test_resnet"), digits)
    torch.manual_seed(3)
    network = build_network(NetworkConfig(arch="timm:test_resnet"), 10, "key")
    preprocessing = measure_preprocessing(digits, 32)
    train(network, digits, preprocessing, ONE_EPOCH, derive_seed(3, "order"), CPU)
    assert prepared.weights == encode_weights(network, preprocessing)
    assert prepared.card.source == "squeezed"
    assert prepared.card.preprocessing == preprocessing
    assert prepared.card.test_accuracy == measure_accuracy(network, digits, preprocessing, CPU)
    assert prepared.stats["test_accuracy"] == prepared.card.test_accuracy > 0.2
    assert stored(prepared, tmp_path).class_indices is None


def test_a_squeezed_teacher_can_have_its_own_input(digits: RealImages) -> None:
    """Would catch mean, std or input_size of a squeezed teacher being ignored."""
    config = TeacherConfig(name="x", arch="timm:test_resnet", mean=(0.5, 0.5, 0.5), input_size=16)
    measured = measure_preprocessing(digits, 16)
    expected = Preprocessing((0.5, 0.5, 0.5), measured.std, 16)
    assert prepare(config, digits).card.preprocessing == expected


def test_a_squeezed_teacher_is_the_same_in_another_run(digits: RealImages, tmp_path: Path) -> None:
    """Would catch a pool of another store that sees its images with the library's mean and std."""
    squeezed = prepare(TeacherConfig(name="x", arch="timm:test_resnet"), digits)
    path = tmp_path / "weights-0.safetensors"
    path.write_bytes(squeezed.weights)
    taken = prepare(TeacherConfig(name="x", arch=f"timm:test_resnet@{path}"), digits)
    assert taken.card.preprocessing == squeezed.card.preprocessing
    assert taken.card.test_accuracy == squeezed.card.test_accuracy
    own = TeacherConfig(name="x", arch=f"timm:test_resnet@{path}", mean=(0.5, 0.5, 0.5))
    assert prepare(own, digits).card.preprocessing.mean == (0.5, 0.5, 0.5)


def test_a_teacher_with_weights_is_not_trained(digits: RealImages, tmp_path: Path) -> None:
    """Would catch weights that are trained on, tested on outputs of other classes, or lost on the way."""
    torch.manual_seed(0)
    network = build_network(NetworkConfig(arch="timm:test_resnet"), 12, "key")
    path = tmp_path / "x.pth"
    torch.save(network.state_dict(), path)
    indices = tuple(range(11, 1, -1))
    config = TeacherConfig(name="x", arch=f"timm:test_resnet@{path}", class_indices=indices)
    prepared = prepare(config, digits, check_accuracy=False)
    card = prepared.card
    assert prepared.weights == encode_weights(network, card.preprocessing)
    assert (card.num_classes, card.class_indices) == (12, indices)
    assert card.source == prepared.stats["arch"] == f"timm:test_resnet@{path}"
    assert card.source_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert "@" not in card.network["arch"]
    picked = torch.tensor(indices)
    assert card.test_accuracy == measure_accuracy(
        network, digits, card.preprocessing, CPU, class_indices=picked
    )
    path.unlink()  # the store has all that is needed
    teacher = stored(prepared, tmp_path / "store")
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        logits = teacher.pick_classes(teacher.network(x))
        torch.testing.assert_close(logits, network.eval()(x)[:, picked])  # the stored one is channels last


def test_without_test_images_there_is_no_accuracy(digits: RealImages) -> None:
    """Would catch a division by zero, or an accuracy of 0 %, after hours of training."""
    empty = np.empty(0, np.int64)
    train_images = digits.read("train", np.arange(50))[:, 0]
    data = ArrayImages(
        "few",
        digits.class_names,
        {"train": train_images, "test": train_images[:0]},
        {"train": digits.labels["train"][:50], "test": empty},
        32,
    )
    prepared = prepare(TeacherConfig(name="x", arch="timm:test_resnet"), data)
    assert prepared.card.test_accuracy is None
    assert b'"test_accuracy": null' in prepared.card.to_json()


def test_test_images_are_read_before_the_training(
    digits: RealImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch a damaged test image being found after hours of training."""
    from prism_ray.errors import DataError

    class Damaged(ArrayImages):
        def check_test_images(self) -> None:
            raise DataError("test image 3")

    images = {"train": np.zeros((3, 32, 32), np.uint8), "test": np.zeros((3, 32, 32), np.uint8)}
    labels = {"train": np.arange(3), "test": np.arange(3)}
    monkeypatch.setattr("prism_ray.teachers.prepare.train", lambda *_: pytest.fail("it was trained"))
    data = Damaged("damaged", ("a", "b", "c"), images, labels, 32)
    with pytest.raises(DataError):
        prepare(TeacherConfig(name="x", arch="timm:test_resnet"), data)


def twelve_classes(digits: RealImages, names: tuple[str, ...]) -> ArrayImages:
    """Return the digits, and upside-down twos and sevens as 10 and 11, in folders with these names."""
    images, labels = (
        digits.read("train", np.arange(len(digits.labels["train"])))[:, 0],
        digits.labels["train"],
    )
    turned = [(number, np.flatnonzero(labels == label)) for number, label in ((10, 2), (11, 7))]
    images = np.concatenate([images, *(images[index, ::-1] for _, index in turned)])
    labels = np.concatenate([labels, *(np.full(len(index), number) for number, index in turned)])
    place = np.asarray([names.index(str(number)) for number in range(12)])  # of each number in the data
    of_split = {"train": slice(None), "test": slice(0, 100)}
    return ArrayImages(
        "twelve",
        names,
        {s: images[i] for s, i in of_split.items()},
        {s: place[labels[i]] for s, i in of_split.items()},
        32,
    )


NUMBERS = tuple(map(str, range(12)))
TEXT = tuple(sorted(NUMBERS))


@pytest.fixture(scope="module")
def weights_in_numbers(digits: RealImages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of weights that were trained with the classes 0 to 11 in the order of numbers."""
    torch.manual_seed(0)
    config = TeacherConfig(name="x", arch="timm:test_resnet")
    data = twelve_classes(digits, NUMBERS)
    prepared = prepare_teacher(config, SqueezeConfig(epochs=3, flip=False), data, 32, 3, CPU)
    assert prepared.note == ""  # nothing to tell of a teacher that was squeezed
    path = tmp_path_factory.mktemp("weights") / "x.safetensors"
    path.write_bytes(prepared.weights)
    return path


def test_weights_of_another_order_of_the_classes_are_refused(
    digits: RealImages, weights_in_numbers: Path
) -> None:
    """Would catch 16.7 % accuracy and exit code 0: folders sort as text, and the weights as numbers."""
    arch = f"timm:test_resnet@{weights_in_numbers}"
    right = prepare(TeacherConfig(name="x", arch=arch), twelve_classes(digits, NUMBERS))
    assert right.card.test_accuracy is not None
    assert right.card.test_accuracy > 0.8
    assert "training images are right, by chance 8.3%" in right.stats["note"]
    in_text = twelve_classes(digits, TEXT)
    with pytest.raises(
        ConfigError, match=r"fit the classes in the order of numbers: .*'10' \(class 2\) as class 10"
    ) as caught:
        prepare(TeacherConfig(name="x", arch=arch), in_text)
    remedy = f"class_indices to [{', '.join(TEXT)}]"
    assert remedy in str(caught.value)
    assert "data.classes" in str(caught.value)
    indices = tuple(map(int, TEXT))
    repaired = prepare(TeacherConfig(name="x", arch=arch, class_indices=indices), in_text)
    assert repaired.card.test_accuracy == right.card.test_accuracy
    taken = prepare(TeacherConfig(name="x", arch=arch), in_text, check_accuracy=False)
    assert taken.card.test_accuracy is not None
    assert taken.card.test_accuracy < 0.5


def test_weights_that_know_nothing_of_the_classes_are_refused(digits: RealImages, tmp_path: Path) -> None:
    """Would catch labels by a network of other classes, or without any training."""
    torch.manual_seed(0)
    path = tmp_path / "x.pth"
    torch.save(build_network(NetworkConfig(arch="timm:test_resnet"), 10, "key").state_dict(), path)
    with pytest.raises(
        ConfigError, match=r"its accuracy is that of chance: .*teachers\.check_accuracy to false"
    ):
        prepare(TeacherConfig(name="x", arch=f"timm:test_resnet@{path}"), digits)


def test_the_network_that_was_taken_is_in_the_card_and_the_note(
    digits: RealImages, weights_in_numbers: Path, tmp_path: Path
) -> None:
    """Would catch a choice among the networks of a file that nobody is told of."""
    state = load_file(weights_in_numbers)
    torch.save({"model": state, "model_ema": state, "epoch": 3}, tmp_path / "x.pth")
    config = TeacherConfig(name="x", arch=f"timm:test_resnet@{tmp_path / 'x.pth'}")
    prepared = prepare(config, twelve_classes(digits, NUMBERS))
    assert prepared.card.source_network == "model_ema"
    assert prepared.note.startswith("takes 'model_ema' of the file (it has 'model' too; #<key>")
    assert b'"source_network": "model_ema"' in prepared.card.to_json()
    chosen = prepare(TeacherConfig(name="x", arch=f"{config.arch}#model"), twelve_classes(digits, NUMBERS))
    assert chosen.card.source_network == "model"
    assert chosen.card.source == f"{config.arch}#model"
