"""What is an image by its content: whatever its name says, and whatever stands beside it."""

import io
from pathlib import Path

import pytest
from PIL import Image

from prism_ray.data.formats import look_at
from tests.data.folders import save


def image_bytes(kind: str, **options: object) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (20, 20), (255, 0, 0)).save(sink, kind, **options)
    return sink.getvalue()


def looked_at(tmp_path: Path, name: str, data: bytes) -> tuple[bool, str]:
    path = tmp_path / name
    path.write_bytes(data)
    kind = look_at(path, max_megapixels=1.0)
    return kind.is_image, kind.problem


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "JPEG2000", "AVIF"])
@pytest.mark.parametrize("name", ["photo", "IMG_0001", "photo.v2", "photo.txt", "photo.jpg"])
def test_an_image_is_known_by_its_content(tmp_path: Path, kind: str, name: str) -> None:
    """Five of eight images of a class left out because their names have no suffix."""
    assert looked_at(tmp_path, name, image_bytes(kind)) == (True, "")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("notes.txt", b"P1 is a good one\n"),
        ("notes", b"no image"),
        ("labels.csv", b"a,b\n"),
        ("a.json", b"{}"),
        ("a.xml", b"<annotation/>"),
        ("Thumbs.db", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600),
        ("desktop.ini", b"[.ShellClassInfo]"),
        (".DS_Store", b"\0\0\0\1Bud1"),
        ("._photo.jpg", b"\0\5\x16\7\0\2\0\0Mac OS X"),
        ("film.mp4", b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41"),
        ("a.npy", b"\x93NUMPY\x01\x00v\x00{}"),
        ("empty", b""),
        ("a.h5", b"\x89HDF\r\n\x1a\n" + b"\0" * 64),
        ("a.pdf", b"%PDF-1.4\n"),
        ("a.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n"),  # a program
    ],
)
def test_what_is_no_image_is_none(tmp_path: Path, name: str, data: bytes) -> None:
    """An error for a text file, a film or a file of the system beside the images."""
    assert not looked_at(tmp_path, name, data)[0]


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("a.png", b"", "the file is empty"),
        ("a.jpg", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        ("a.jpg", b"<!DOCTYPE html><html>404</html>", "not a whole image of a known format"),
        ("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a whole image"),
        ("a", image_bytes("PNG")[:20], ""),
        ("a.jxl", b"\xff\x0a\0\0", "JPEG XL"),
        ("a", b"\xff\x0a\0\0", "JPEG XL"),
        ("a.NEF", b"MM\0*\0\0\0\x08" + b"\0" * 64, "raw data of a camera"),
        ("a.cr2", image_bytes("TIFF"), "raw data of a camera"),  # Pillow would read the preview in it
    ],
)
def test_an_image_that_cannot_be_read_is_known_as_one(
    tmp_path: Path, name: str, data: bytes, problem: str
) -> None:
    """A damaged photograph or one of another format that disappears like a text file."""
    is_image, found = looked_at(tmp_path, name, data)
    assert is_image
    assert found
    assert problem in found


def test_heif_is_read_with_its_plugin(tmp_path: Path) -> None:
    """Half a class of an iPhone's pictures left out."""
    pillow_heif = pytest.importorskip("pillow_heif")
    sink = io.BytesIO()
    pillow_heif.from_pillow(Image.new("RGB", (64, 64), (255, 0, 0))).save(sink)
    assert looked_at(tmp_path, "IMG_1.HEIC", sink.getvalue()) == (True, "")


def test_heif_without_its_plugin_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A class that loses its HEIF files, and a user who does not learn that one package is missing."""
    monkeypatch.setattr("prism_ray.data.formats.image_formats", lambda: ("PNG", "JPEG"))
    data = b"\0\0\0\x1cftypheic\0\0\0\0mif1heic" + b"\0" * 64
    for name in ("a.heic", "b"):
        is_image, problem = looked_at(tmp_path, name, data)
        assert is_image
        assert "install prism-ray[heif]" in problem


def test_the_limit_of_pixels_is_named_with_its_key(tmp_path: Path) -> None:
    """A large photograph refused as a "decompression bomb DOS attack"."""
    path = save(tmp_path / "wide.png", size=(2000, 700))
    for limit in (1.0, 0.5):
        problem = look_at(path, limit).problem
        assert f"data.max_megapixels = {limit:g} is the limit" in problem
        assert "DOS" not in problem
    assert look_at(path, max_megapixels=2.0).problem == ""


def test_depth_and_frames_are_seen(tmp_path: Path) -> None:
    """A film of which one frame is taken without a word; data of 16 bits taken for 8."""
    frames = [Image.new("L", (8, 8), value) for value in (10, 200)]
    frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])
    assert look_at(tmp_path / "two.gif", 1.0).is_animated
    assert not look_at(save(tmp_path / "one.gif"), 1.0).is_animated
    Image.new("I;16", (8, 8)).save(tmp_path / "deep.png")
    Image.new("F", (8, 8)).save(tmp_path / "float.tiff")
    assert look_at(tmp_path / "deep.png", 1.0).depth == 16
    assert look_at(tmp_path / "float.tiff", 1.0).depth == 32
