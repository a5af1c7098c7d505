"""Fashion-MNIST's idx files: real ones where the machine has them, and small and damaged ones made here."""

import gzip
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from prism_ray.config import DataConfig
from prism_ray.data import RealImages, open_data
from prism_ray.data.idx import CLASS_NAMES, read_idx
from prism_ray.errors import DataError

REAL = Path("/usr/share/datasets/fashion-mnist")
TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"


def idx_bytes(array: npt.NDArray[np.uint8]) -> bytes:
    """Return an array of bytes as an idx file, not yet compressed."""
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty training and ten test images of noise."""
    rng = np.random.default_rng(0)
    for images, labels, count in ((TRAIN_IMAGES, TRAIN_LABELS, 20), (TEST_IMAGES, TEST_LABELS, 10)):
        noise = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        (tmp_path / images).write_bytes(gzip.compress(idx_bytes(noise)))
        (tmp_path / labels).write_bytes(gzip.compress(idx_bytes(np.arange(count).astype(np.uint8) % 10)))
    return tmp_path


def open_folder(folder: Path, image_size: int = 28, download: bool = False) -> RealImages:
    return open_data(
        DataConfig(source="fashion-mnist", path=str(folder), image_size=image_size, download=download)
    )


def complaint(folder: Path) -> str:
    """Open a folder that must be refused; return the message."""
    with pytest.raises(DataError) as caught:
        open_folder(folder)
    return str(caught.value)


def test_idx_files_are_read(folder: Path) -> None:
    """Rows and columns exchanged, a header counted as pixels, or labels beside other images."""
    data = open_folder(folder)
    facts = data.facts()
    assert facts.class_names == CLASS_NAMES
    assert (facts.train_counts, facts.num_test_images, facts.channels) == ((2,) * 10, 10, 1)
    with gzip.open(folder / TRAIN_IMAGES) as file:
        pixels = np.frombuffer(file.read(), np.uint8, offset=16).reshape(20, 1, 28, 28)
    assert np.array_equal(data.read("train", np.arange(20)), pixels)
    assert data.labels["train"].tolist() == [*range(10), *range(10)]


def test_images_are_resized(folder: Path) -> None:
    """Images of 28x28 in a run of 32x32."""
    assert open_folder(folder, 32).read("test", np.asarray([1, 9])).shape == (2, 1, 32, 32)


def test_the_layout_of_torchvisions_download_is_found(folder: Path) -> None:
    """Files that torchvision has downloaded before are asked for again."""
    raw = folder / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name in (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS):
        (folder / name).rename(raw / name)
    assert open_folder(folder).facts().num_test_images == 10
    assert open_folder(folder, download=True).facts().num_test_images == 10


def test_missing_files_are_named_with_the_remedy(folder: Path) -> None:
    """'No such file' for the first of four, four times in a row."""
    (folder / TRAIN_LABELS).unlink()
    (folder / TEST_IMAGES).unlink()
    message = complaint(folder)
    assert message.startswith(f"data.path: {folder} lacks {TRAIN_LABELS}, {TEST_IMAGES}; ")
    assert "dataset-fashion-mnist" in message
    assert "data.download" in message
    assert TRAIN_IMAGES not in message


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """A traceback for a typing error in data.path."""
    message = complaint(tmp_path / "nowhere")
    assert message.startswith(f"data.path: {tmp_path / 'nowhere'} lacks {TRAIN_IMAGES}, ")


def test_a_truncated_file_is_refused(folder: Path) -> None:
    """A download that broke off: EOFError from gzip."""
    path = folder / TRAIN_IMAGES
    path.write_bytes(path.read_bytes()[:-100])
    assert complaint(folder).startswith(f"data.path: {path} cannot be read as gzip: ")


@pytest.mark.parametrize("content", [b"", b"not gzip at all", b"\x1f\x8b\x08\x00" + bytes(50)])
def test_a_file_that_is_no_gzip_is_refused(folder: Path, content: bytes) -> None:
    """A web page saved under the file's name."""
    path = folder / TEST_LABELS
    path.write_bytes(content)
    assert complaint(folder).startswith(f"data.path: {path} ")


def test_altered_compressed_bytes_are_refused(folder: Path) -> None:
    """A flipped bit in the compressed data: zlib.error, or other pixels without a word."""
    path = folder / TRAIN_IMAGES
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))
    assert complaint(folder).startswith(f"data.path: {path} ")


@pytest.mark.parametrize(
    "magic",
    [b"\x00\x00\x08\x01", b"\x00\x00\x0d\x03", b"\x01\x00\x08\x03", b"\x89PNG"],
    ids=["labels", "floats", "not zero", "png"],
)
def test_a_wrong_magic_number_is_refused(folder: Path, magic: bytes) -> None:
    """Labels read as images, or floats read as bytes."""
    path = folder / TEST_IMAGES
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(magic + content[4:]))
    assert complaint(folder) == f"data.path: {path} is not an idx file of rank 3; replace it"


@pytest.mark.parametrize("length", [0, 3, 4, 15])
def test_a_file_shorter_than_its_header_is_refused(folder: Path, length: int) -> None:
    """struct.error or IndexError for a file that ends in its header."""
    path = folder / TEST_IMAGES
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:length]))
    assert complaint(folder) == f"data.path: {path} is not an idx file of rank 3; replace it"


@pytest.mark.parametrize("change", [-1, 1, -28 * 28])
def test_a_size_other_than_the_headers_is_refused(folder: Path, change: int) -> None:
    """The last image cut off, or bytes too many, taken in silence."""
    path = folder / TEST_IMAGES
    content = gzip.decompress(path.read_bytes())
    content = content[:change] if change < 0 else content + bytes(change)
    path.write_bytes(gzip.compress(content))
    message = complaint(folder)
    assert message.startswith(f"data.path: {path} is damaged: its header says (10, 28, 28)")
    assert f"but {10 * 28 * 28 + change if change < 0 else 'more'} bytes follow" in message


def test_a_bomb_is_not_unpacked(folder: Path) -> None:
    """Catches a file of a megabyte that unpacks to a gigabyte, whatever its header says."""
    path = folder / TEST_IMAGES
    for header in ((10, 28, 28), (2**20, 28, 28)):
        head = struct.pack(">BBBBIII", 0, 0, 8, 3, *header)
        path.write_bytes(gzip.compress(head + bytes(2**28), compresslevel=1))
        tracemalloc.start()
        try:
            assert complaint(folder).startswith(f"data.path: {path} is damaged: its header says {header}")
            assert tracemalloc.get_traced_memory()[1] < 2**26
        finally:
            tracemalloc.stop()


def test_sizes_beyond_64_bits_are_refused(folder: Path) -> None:
    """Sizes whose product overflows to that of the data: ValueError from reshape in place of an error."""
    path = folder / TEST_IMAGES
    path.write_bytes(gzip.compress(struct.pack(">BBBBIII", 0, 0, 8, 3, 2**31, 2**31, 4)))
    assert complaint(folder).startswith(f"data.path: {path} is damaged: ")


def test_another_number_of_labels_is_refused(folder: Path) -> None:
    """Images and labels of two different downloads."""
    (folder / TEST_LABELS).write_bytes((folder / TRAIN_LABELS).read_bytes())
    message = complaint(folder)
    assert f"{folder / TEST_IMAGES} has 10 images, but {TEST_LABELS} has 20 labels" in message


def test_a_label_that_is_no_class_is_refused(folder: Path) -> None:
    """A label of 10 indexes past the class names, deep inside a training."""
    labels = np.arange(1, 11).astype(np.uint8)
    (folder / TEST_LABELS).write_bytes(gzip.compress(idx_bytes(labels)))
    assert f"{folder / TEST_LABELS} has the label 10, but there are 10 classes" in complaint(folder)


def test_an_empty_data_set_is_refused(folder: Path) -> None:
    """max() of an empty array."""
    (folder / TEST_IMAGES).write_bytes(gzip.compress(idx_bytes(np.zeros((0, 28, 28), np.uint8))))
    (folder / TEST_LABELS).write_bytes(gzip.compress(idx_bytes(np.zeros(0, np.uint8))))
    assert f"{folder / TEST_IMAGES} has no images" in complaint(folder)


def test_read_idx_names_a_missing_file(tmp_path: Path) -> None:
    """A file deleted between the look and the reading."""
    with pytest.raises(DataError, match="does not exist"):
        read_idx(tmp_path / "gone.gz", num_dimensions=1, max_bytes=100)


def open_other(folder: Path) -> RealImages:
    return open_data(DataConfig(source="idx", path=str(folder), image_size=28))


def relabel(folder: Path, labels: dict[str, npt.NDArray[np.uint8]]) -> None:
    for name, values in labels.items():
        (folder / name).write_bytes(gzip.compress(idx_bytes(values.astype(np.uint8))))


def test_another_set_in_this_format(folder: Path) -> None:
    """MNIST refused because it is not Fashion-MNIST, or its digits called shirts."""
    facts = open_other(folder).facts()
    assert facts.class_names == tuple("0123456789")
    assert facts.identity != open_folder(folder).facts().identity
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in "abcdefghij"))
    assert open_other(folder).facts().class_names == tuple("abcdefghij")


def test_labels_that_do_not_begin_with_zero(folder: Path) -> None:
    """EMNIST's letters, 1 to 26: a class 0 without images."""
    letters = {TRAIN_LABELS: np.arange(20) % 5 + 1, TEST_LABELS: np.arange(10) % 5 + 1}
    relabel(folder, letters)
    data = open_other(folder)
    assert data.facts().class_names == tuple("12345")
    assert data.labels["train"][:6].tolist() == [0, 1, 2, 3, 4, 0]
    assert data.labels["test"][:6].tolist() == [0, 1, 2, 3, 4, 0]
    relabel(folder, {TEST_LABELS: np.arange(10)})
    with pytest.raises(DataError, match="test images of label 0, but no training image"):
        open_other(folder)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("abc", "has the label 9, but there are 3 classes; .* or complete .*classes.txt"),
        ("abcdefghijk", "no training image of 'k'"),
        ("abcdefghia", "names 'a' twice"),
    ],
)
def test_names_that_do_not_fit(folder: Path, names: str, message: str) -> None:
    """An index beyond the names while a sheet is drawn, hours later."""
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in names))
    with pytest.raises(DataError, match=message):
        open_other(folder)


def test_files_under_other_names(folder: Path, tmp_path: Path) -> None:
    """The files of EMNIST have names of their own; which ones are expected is said."""
    (folder / TRAIN_IMAGES).rename(folder / "emnist-train-images.gz")
    with pytest.raises(DataError, match=f"lacks {TRAIN_IMAGES}; data.source = 'idx' needs the four files"):
        open_other(folder)


@pytest.mark.skipif(not REAL.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_the_real_files() -> None:
    """A reader that only reads its own files."""
    data = open_folder(REAL)
    facts = data.facts()
    assert facts.train_counts == (6000,) * 10
    assert facts.num_test_images == 10_000
    assert np.bincount(data.labels["test"]).tolist() == [1000] * 10
    boot = data.read("train", np.asarray([0]))
    assert facts.class_names[data.labels["train"][0]] == "Ankle boot"
    assert boot.shape == (1, 1, 28, 28)
    assert boot[0, 0, :3].max() == 0 < boot[0, 0, 14:].max()
    mean = data.read("train", np.arange(60_000)).mean() / 255
    assert abs(mean - 0.2860) < 1e-4
