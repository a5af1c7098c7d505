"""Anyone's own images: what is listed, what is refused by name, and what is read."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import prism_ray.data.folder
from prism_ray.config import DataConfig
from prism_ray.data import FolderIndex, index_folder, open_data
from prism_ray.data.folder import FolderImages, decode_image
from prism_ray.errors import DataError

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def save(
    path: Path, color: tuple[int, ...] = RED, size: tuple[int, int] = (20, 20), mode: str = "RGB"
) -> Path:
    """Save an image of one colour; the suffix says in which format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {"lossless": True} if path.suffix == ".webp" else {}
    Image.new("RGB", size, color[:3]).convert(mode).save(path, **options)
    return path


def damage(path: Path) -> Path:
    """Cut an image file in half: its header is whole, its pixels are not."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three classes of five images each: red cats, green dogs, blue owls."""
    folder = tmp_path / "train"
    for name, color in (("cat", RED), ("dog", GREEN), ("owl", BLUE)):
        for number in range(5):
            save(folder / name / f"{number}.png", color)
    return folder


def config_of(root: Path, test_path: Path | None = None, size: int = 16, fraction: float = 0.2) -> DataConfig:
    return DataConfig(
        source="image-folder",
        path=str(root),
        test_path=None if test_path is None else str(test_path),
        image_size=size,
        test_fraction=fraction,
    )


def complaint(config: DataConfig) -> str:
    """Index a folder that must be refused; return the message."""
    with pytest.raises(DataError) as caught:
        index_folder(config)
    return str(caught.value)


def listed(index: FolderIndex) -> list[str]:
    return sorted([*index.paths["train"], *index.paths["test"]])


# Listing


def test_classes_are_the_folders_in_alphabetical_order(root: Path) -> None:
    """Labels in the order of the file system: another machine, other labels."""
    index = index_folder(config_of(root))
    assert index.class_names == ("cat", "dog", "owl")
    assert len(listed(index)) == 15
    for split in ("train", "test"):
        names = [path.split("/")[0] for path in index.paths[split]]
        assert names == [index.class_names[label] for label in index.labels[split]]


def test_paths_are_relative_and_in_order(root: Path, tmp_path: Path) -> None:
    """An index that names this machine's folders, or that another machine lists in another order."""
    index = index_folder(config_of(root))
    assert list(index.paths["train"]) == sorted(index.paths["train"])
    moved = root.rename(tmp_path / "elsewhere")
    assert index_folder(config_of(moved)).paths == index.paths


def test_every_kind_of_image_is_listed(root: Path) -> None:
    """JPEG in capitals, WebP, or images in folders below the class left out without a word."""
    save(root / "cat" / "a.jpg")
    save(root / "cat" / "b.JPEG")
    save(root / "cat" / "c.webp")
    save(root / "cat" / "d.bmp")
    save(root / "cat" / "2019" / "may" / "e.png")
    paths = listed(index_folder(config_of(root)))
    expected = ["cat/2019/may/e.png", "cat/a.jpg", "cat/b.JPEG", "cat/c.webp", "cat/d.bmp"]
    assert [path for path in paths if path not in {f"cat/{k}.png" for k in range(5)}][:5] == expected


def test_what_is_no_image_is_left_alone(root: Path) -> None:
    """README.txt, a .DS_Store or a thumbnail folder at the top stop the run, or become images."""
    before = index_folder(config_of(root))
    (root / "README.txt").write_text("About these images")
    (root / "cat" / "README.txt").write_text("About cats")
    (root / "cat" / "labels.csv").write_text("a,b")
    (root / "cat" / ".DS_Store").write_bytes(b"\x00\x01")
    (root / "cat" / "._0.png").write_bytes(b"a Mac was here")
    (root / ".git" / "objects").mkdir(parents=True)
    after = index_folder(config_of(root))
    assert after.paths == before.paths
    assert after.class_names == before.class_names


def test_a_hidden_folder_inside_a_class_is_left_alone(root: Path) -> None:
    """Jupyter's and viewers' hidden copies counted as images of the class, some of them held out."""
    before = index_folder(config_of(root))
    save(root / "cat" / ".ipynb_checkpoints" / "0-checkpoint.png")
    assert index_folder(config_of(root)).paths == before.paths


def test_a_class_folder_may_be_a_link(root: Path, tmp_path: Path) -> None:
    """Classes that are links to a shared data set are not seen."""
    (root / "owl").rename(tmp_path / "owls")
    (root / "owl").symlink_to(tmp_path / "owls")
    assert index_folder(config_of(root)).class_names == ("cat", "dog", "owl")


def test_a_link_that_leads_back_is_followed_once(root: Path) -> None:
    """A link to its own folder: every image counted forty times, until the path is too long."""
    (root / "cat" / "loop").symlink_to(root / "cat", target_is_directory=True)
    assert len(listed(index_folder(config_of(root)))) == 15


@pytest.mark.parametrize("name", ["猫", "chat élégant", "a'b", "100%", "ünïcödé 🐈"])
def test_names_in_any_script_survive(root: Path, name: str) -> None:
    """A class or file name outside ASCII that is garbled in the index."""
    save(root / name / f"{name}.png", RED)
    save(root / name / "2.png", RED)
    index = index_folder(config_of(root))
    assert name in index.class_names
    read = FolderIndex.from_parquet(index.to_parquet())
    assert (read.class_names, read.paths) == (index.class_names, index.paths)
    label = index.class_names.index(name)
    data = open_data(config_of(root), read)
    assert data.read("train", data.train_indices(label)).shape == (1, 3, 16, 16)


def test_a_file_name_that_is_no_unicode_is_refused_or_kept(root: Path) -> None:
    """A name in an old encoding: UnicodeEncodeError from the index or the identity, without the file."""
    os.rename(root / "cat" / "0.png", os.fsencode(root / "cat") + b"/\xff.png")
    try:
        index = index_folder(config_of(root))
    except DataError:
        return
    read = FolderIndex.from_parquet(index.to_parquet())
    assert read.paths == index.paths
    assert FolderImages(config_of(root), read).identity()


def test_a_class_name_with_a_line_break_is_refused_or_kept(root: Path) -> None:
    """One class that comes back from the index as two, so that every label after it is shifted."""
    (root / "dog").rename(root / "dog\nhound")
    try:
        index = index_folder(config_of(root))
    except DataError:
        return
    assert FolderIndex.from_parquet(index.to_parquet()).class_names == index.class_names


# What is refused


def test_a_corrupt_header_is_named(root: Path) -> None:
    """A broken file that is found on an actor an hour later, or skipped without a word."""
    bad = root / "dog" / "3.png"
    bad.write_bytes(b"this is no image")
    message = complaint(config_of(root))
    assert message.startswith("1 image file cannot be read; ")
    assert str(bad) in message
    assert "dog/2.png" not in message


def test_all_corrupt_files_are_named_at_once_up_to_a_limit(root: Path) -> None:
    """One file per attempt, or a message of ten thousand lines."""
    for number in range(30):
        (root / "owl" / f"bad{number:02d}.jpg").write_bytes(b"")
    (root / "cat" / "0.png").write_bytes(b"")
    message = complaint(config_of(root))
    assert message.startswith("31 image files cannot be read")
    assert str(root / "cat" / "0.png") in message
    assert str(root / "owl" / "bad00.jpg") in message
    assert message.endswith("and 11 more")
    assert len(message.splitlines()) == 22


def test_a_truncated_file_is_named_when_it_is_read(root: Path) -> None:
    """Half an image filled up with grey, or an OSError that does not say which of a million files."""
    config = config_of(root)
    index = index_folder(config)
    whole, bad, also = (root / index.paths["train"][k] for k in (2, 3, 7))
    damage(bad)
    damage(also)
    assert index_folder(config).paths == index.paths
    with pytest.raises(DataError) as caught:
        open_data(config, index).read("train", np.asarray([7, 2, 3]))
    message = str(caught.value)
    assert message.startswith("2 image files cannot be read; ")
    assert str(bad) in message
    assert str(also) in message
    assert str(whole) not in message


def test_a_file_that_is_gone_is_named_when_it_is_read(root: Path) -> None:
    """A file deleted after the index was made."""
    config = config_of(root)
    index = index_folder(config)
    gone = root / index.paths["train"][2]
    gone.unlink()
    with pytest.raises(DataError, match="cannot be read") as caught:
        open_data(config, index).read("train", np.asarray([1, 2]))
    assert str(gone) in str(caught.value)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """FileNotFoundError for a typing error in data.path."""
    assert complaint(config_of(tmp_path / "no")) == f"data.path: {tmp_path / 'no'} is not a folder"
    file = save(tmp_path / "file.png")
    assert complaint(config_of(file)) == f"data.path: {file} is not a folder"


def test_a_folder_without_class_folders_is_refused(tmp_path: Path) -> None:
    """The folder of one class given in place of the folder of classes."""
    save(tmp_path / "cat" / "0.png")
    message = complaint(config_of(tmp_path / "cat"))
    assert message.startswith(f"data.path: {tmp_path / 'cat'} has no class folders")


def test_empty_class_folders_are_named(root: Path) -> None:
    """A class of no images that shifts all labels after it, or that is skipped in silence."""
    (root / "bat").mkdir()
    (root / "elk").mkdir()
    (root / "elk" / "notes.txt").write_text("none yet")
    assert complaint(config_of(root)) == f"data.path: no images in the class folders bat, elk of {root}"


def test_a_class_of_a_single_image_is_refused_with_the_remedy(root: Path, tmp_path: Path) -> None:
    """A class without a test image, or without a training image."""
    save(root / "bat" / "only.png")
    message = complaint(config_of(root))
    assert message.startswith(f"data.path: class folder {root / 'bat'} holds 1 image; it needs 2")
    assert "data.test_path" in message
    shutil.copytree(root, tmp_path / "test")
    assert len(index_folder(config_of(root, tmp_path / "test")).class_names) == 4


# Splits


def test_the_held_out_split_is_disjoint_stable_and_in_every_class(root: Path) -> None:
    """Test images that were trained on, or a split that another listing changes."""
    one, other = index_folder(config_of(root, fraction=0.4)), index_folder(config_of(root, fraction=0.4))
    assert one.paths == other.paths
    assert set(one.paths["train"]).isdisjoint(one.paths["test"])
    assert np.bincount(one.labels["train"]).tolist() == [3, 3, 3]
    assert np.bincount(one.labels["test"]).tolist() == [2, 2, 2]


def test_the_split_is_pinned(root: Path) -> None:
    """A change of the choice makes accuracies of earlier runs on the same folder incomparable."""
    assert index_folder(config_of(root)).paths["test"] == ("cat/3.png", "dog/0.png", "owl/1.png")


def test_a_test_folder_is_taken_whole_and_nothing_held_out(root: Path, tmp_path: Path) -> None:
    """Training images held out although there are test images, or the two folders mixed up."""
    test = tmp_path / "test"
    save(test / "cat" / "7.png", RED)
    save(test / "dog" / "9.png", GREEN)
    config = config_of(root, test)
    assert "has no class folders owl" in complaint(config)
    save(test / "owl" / "8.png", BLUE)
    index = index_folder(config)
    assert len(index.paths["train"]) == 15
    assert index.paths["test"] == ("cat/7.png", "dog/9.png", "owl/8.png")
    assert index.labels["test"].tolist() == [0, 1, 2]
    images = open_data(config, index).read("test", np.asarray([2]))
    assert images[0, :, 0, 0].tolist() == list(BLUE)


def test_a_test_class_without_training_images_is_refused(root: Path, tmp_path: Path) -> None:
    """A label of the test set that no network has, or that is another class's number."""
    save(tmp_path / "test" / "dog" / "9.png")
    save(tmp_path / "test" / "elk" / "9.png")
    message = complaint(config_of(root, tmp_path / "test"))
    assert message == (f"data.test_path: {tmp_path / 'test'} has the class folders elk, which {root} has not")


def test_a_missing_test_folder_is_called_by_its_key(root: Path, tmp_path: Path) -> None:
    """data.path blamed for data.test_path."""
    assert complaint(config_of(root, tmp_path / "no")).startswith("data.test_path: ")


# The index


def test_the_index_survives_its_parquet_file(root: Path) -> None:
    """Actors that read another list of files than the driver made."""
    index = index_folder(config_of(root))
    read = FolderIndex.from_parquet(index.to_parquet())
    assert (read.class_names, read.paths) == (index.class_names, index.paths)
    for split in ("train", "test"):
        assert read.labels[split].dtype == np.int64
        assert np.array_equal(read.labels[split], index.labels[split])


def test_the_index_of_one_listing_is_one_file(root: Path) -> None:
    """A file that differs each time it is made cannot be adopted by a second driver."""
    assert index_folder(config_of(root)).to_parquet() == index_folder(config_of(root)).to_parquet()


NAME = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=8)


@settings(deadline=None, max_examples=50)
@given(
    names=st.lists(NAME, min_size=1, max_size=5, unique=True), counts=st.lists(st.integers(0, 3), max_size=5)
)
def test_any_index_survives_its_parquet_file(names: list[str], counts: list[int]) -> None:
    """A split without images, or a name with a character that Parquet's metadata does not keep."""
    labels = [min(label, len(names) - 1) for label, count in enumerate(counts) for _ in range(count)]
    index = FolderIndex(
        class_names=tuple(names),
        paths={"train": (names[0],), "test": tuple(f"{names[k]}/{i}" for i, k in enumerate(labels))},
        labels={"train": np.zeros(1, np.int64), "test": np.asarray(labels, np.int64)},
        sizes={"train": np.full(1, 2**40), "test": np.arange(len(labels))},
    )
    read = FolderIndex.from_parquet(index.to_parquet())
    assert (read.class_names, read.paths) == (index.class_names, index.paths)
    assert all(np.array_equal(read.labels[split], index.labels[split]) for split in ("train", "test"))
    assert all(np.array_equal(read.sizes[split], index.sizes[split]) for split in ("train", "test"))


# Identity


def identity_of(config: DataConfig) -> str:
    return open_data(config, index_folder(config)).identity()


def test_the_identity_changes_with_the_listing(root: Path) -> None:
    """Images added, renamed or moved to another class between two halves of a run."""
    seen = {identity_of(config_of(root))}
    save(root / "cat" / "9.png")
    seen.add(identity_of(config_of(root)))
    (root / "cat" / "9.png").rename(root / "cat" / "8.png")
    seen.add(identity_of(config_of(root)))
    (root / "cat" / "8.png").rename(root / "dog" / "8.png")
    seen.add(identity_of(config_of(root)))
    seen.add(identity_of(config_of(root, fraction=0.5)))
    assert len(seen) == 5


def test_the_identity_stays_when_the_folder_moves(root: Path, tmp_path: Path) -> None:
    """A run that cannot go on after its images were mounted elsewhere."""
    before = identity_of(config_of(root))
    shutil.copytree(root, tmp_path / "copy")
    assert identity_of(config_of(tmp_path / "copy")) == before


# Reading


@pytest.fixture(params=[True, False], ids=["cached", "uncached"])
def _cache(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a test with the cache of decoded images, then without."""
    if not request.param:
        monkeypatch.setattr(prism_ray.data.folder, "_CACHE_BYTES", 0)


@pytest.mark.usefixtures("_cache")
def test_read_returns_the_asked_images_in_the_asked_order(root: Path) -> None:
    """A cache that mixes up images, splits or orders; or memory that was never filled."""
    config = config_of(root)
    data = open_data(config, index_folder(config))
    colors = np.asarray([RED, GREEN, BLUE])
    rng = np.random.default_rng(0)
    for split in ("train", "test", "train"):
        for _ in range(5):
            indices = rng.integers(0, len(data.labels[split]), 4)
            images = data.read(split, indices)
            assert images.dtype == np.uint8
            assert images.shape == (4, 3, 16, 16)
            expected = colors[data.labels[split][indices]][:, :, None, None]
            assert np.array_equal(images, np.broadcast_to(expected, images.shape))
    assert data.read("train", np.zeros(0, np.int64)).shape == (0, 3, 16, 16)


@pytest.mark.usefixtures("_cache")
def test_what_is_read_can_be_written_to(root: Path) -> None:
    """Augmenting a batch in place would change the cached images."""
    config = config_of(root)
    data = open_data(config, index_folder(config))
    images = data.read("train", np.asarray([0, 1]))
    before = images.copy()
    images[:] = 7
    assert np.array_equal(data.read("train", np.asarray([0, 1])), before)


@pytest.mark.usefixtures("_cache")
def test_a_failed_read_leaves_nothing_behind(root: Path) -> None:
    """A cache that marks the images of a failed read as present and later gives out raw memory."""
    config = config_of(root)
    index = index_folder(config)
    data = open_data(config, index)
    path = root / index.paths["train"][0]
    whole = path.read_bytes()
    damage(path)
    with pytest.raises(DataError, match="cannot be read"):
        data.read("train", np.asarray([0, 1]))
    path.write_bytes(whole)
    assert np.array_equal(data.read("train", np.asarray([0]))[0, :, 0, 0], RED)


def test_the_cache_spares_a_second_decoding(root: Path) -> None:
    """Every epoch decodes every file again although all fit into memory."""
    config = config_of(root)
    data = open_data(config, index_folder(config))
    everything = np.arange(len(data.labels["train"]))
    first = data.read("train", everything)
    shutil.rmtree(root)
    assert np.array_equal(data.read("train", everything), first)


def test_facts_are_those_of_colour_images(root: Path) -> None:
    """Three channels announced as one: teachers are built for the wrong input."""
    config = config_of(root)
    facts = open_data(config).facts()
    assert (facts.class_names, facts.train_counts) == (("cat", "dog", "owl"), (4, 4, 4))
    assert (facts.num_test_images, facts.channels) == (3, 3)


# Decoding


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "LA", "1", "CMYK", "I;16"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    """A grey, palette or 16-bit image with the wrong shape, or with its brightness clipped away."""
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    if mode == "I;16":
        Image.fromarray(np.full((20, 20), 153 * 257, np.uint16)).save(path)
    else:
        save(path, (153, 153, 153), mode=mode)
    pixels = decode_image(path, 16)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (3, 16, 16)
    if mode != "1":
        assert np.all(np.abs(pixels.astype(int) - 153) <= 2)


def test_a_palette_with_transparency_is_read_without_a_warning(tmp_path: Path) -> None:
    """Pillow warns about such palettes on every actor, and as an error it stops the run."""
    path = tmp_path / "x.png"
    image = Image.new("P", (20, 20), 1)
    image.putpalette([0, 0, 0, *GREEN])
    image.save(path, transparency=b"\x00\x80")
    assert decode_image(path, 16)[:, 8, 8].tolist() == list(GREEN)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".bmp", ".jpg"])
def test_every_format_keeps_its_colours(tmp_path: Path, suffix: str) -> None:
    """Channels in the order BGR, or rows and columns exchanged."""
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:16] = RED
    pixels[16:, 16:] = BLUE
    path = tmp_path / f"x{suffix}"
    options: dict[str, Any] = {"lossless": True} if suffix == ".webp" else {}
    Image.fromarray(pixels).save(path, **options)
    decoded = decode_image(path, 32).astype(int)
    assert np.abs(decoded[:, 4, 28] - RED).max() < 20
    assert np.abs(decoded[:, 28, 28] - BLUE).max() < 20
    assert np.abs(decoded[:, 28, 4]).max() < 20


@settings(deadline=None, max_examples=60)
@given(width=st.integers(1, 90), height=st.integers(1, 90), size=st.integers(1, 48))
def test_every_size_becomes_a_square(
    tmp_path_factory: pytest.TempPathFactory, width: int, height: int, size: int
) -> None:
    """A crop that reaches beyond the image and is padded with black, or is a pixel too small."""
    path = tmp_path_factory.getbasetemp() / "size.png"
    save(path, (200, 100, 50), (width, height))
    pixels = decode_image(path, size)
    assert pixels.shape == (3, size, size)
    assert np.all(pixels == np.asarray([200, 100, 50])[:, None, None])


@pytest.mark.parametrize("size", [(1, 60), (60, 1), (1, 1)])
def test_an_image_of_one_pixels_width_is_read(root: Path, size: tuple[int, int]) -> None:
    """A division by zero or an image of zero pixels for an odd file in a large set."""
    save(root / "cat" / "thin.png", RED, size)
    config = config_of(root)
    data = open_data(config)
    for split in ("train", "test"):
        data.read(split, np.arange(len(data.labels[split])))


def test_the_centre_is_kept_and_the_aspect_ratio_too(tmp_path: Path) -> None:
    """A wide image squeezed to a square, or cropped at its left end."""
    pixels = np.zeros((70, 210, 3), np.uint8)
    pixels[:, :70], pixels[:, 70:140], pixels[:, 140:] = RED, GREEN, BLUE
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    Image.fromarray(pixels.transpose(1, 0, 2)).save(tmp_path / "tall.png")
    for name in ("wide", "tall"):
        decoded = decode_image(tmp_path / f"{name}.png", 28)
        assert np.all(decoded == np.asarray(GREEN)[:, None, None])


def test_the_shorter_side_becomes_eight_sevenths_of_the_size(tmp_path: Path) -> None:
    """The whole image in place of its centre, which the published preprocessing takes."""
    pixels = np.zeros((256, 256, 3), np.uint8)
    pixels[20:236, 20:236] = GREEN
    Image.fromarray(pixels).save(tmp_path / "x.png")
    decoded = decode_image(tmp_path / "x.png", 224)
    assert decoded[1, 112].tolist().index(255) == 4


def test_a_photograph_held_sideways_is_upright(tmp_path: Path) -> None:
    """Pictures of a phone lying on their side, because the orientation stands beside the pixels."""
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[:20] = 255  # the upper half is white
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it: the left half is what was below
    Image.fromarray(pixels).save(tmp_path / "photo.png", exif=exif)
    seen = decode_image(tmp_path / "photo.png", 8)
    assert seen[0, :, -1].tolist() == [255] * 8
    assert seen[0, :, 0].tolist() == [0] * 8


def test_an_image_that_was_exchanged_is_refused_by_name(root: Path) -> None:
    """Images exchanged in the middle of a run, some of its parts made from the old and some from the new."""
    config = config_of(root)
    index = index_folder(config)
    save(root / "cat" / "1.png", BLUE, size=(50, 50))
    place = index.paths["train"].index("cat/1.png")
    with pytest.raises(DataError, match=r"cat/1\.png \(it has changed since it was listed"):
        open_data(config, index).read("train", np.asarray([place]))
    assert open_data(config, index).identity() != open_data(config, index_folder(config)).identity()
