"""The formats of image files: what is an image by its content, and how one is opened. Nothing is decoded."""

import hashlib
import mimetypes
import os
import stat
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

from PIL import Image, UnidentifiedImageError

_NUM_THREADS = 8
HEAD_BYTES = 2**14  # of a file, hashed when it is listed

# EPS starts Ghostscript. The others are recognised by Pillow, but it has no decoder for them, or they need
# more packages.
_NOT_READ = {"EPS", "BUFR", "GRIB", "HDF5", "MPEG", "WMF", "FPX", "MIC"}
# Formats whose first bytes hardly any other file has: a damaged file of this kind is known as an image.
_SURE = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "HEIF", "TIFF", "PSD", "JPEG2000")
# Most are TIFF files, of which Pillow would read the small preview.
_RAW = (
    ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .iiq .kdc .mef .mos .nef .nrw .orf .pef .raf .raw .rw2 .srw .x3f"
)
_RAW_SUFFIXES = frozenset(_RAW.split())
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_JXL = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")
_LFS = b"version https://git-lfs.github.com"


@dataclass(frozen=True)
class FileKind:
    """A file of a class folder: an image that can be read, one that cannot, or no image."""

    num_bytes: int = 0
    modified_ns: int = 0  # since 1970
    head: str = ""  # hash of the first HEAD_BYTES
    is_image: bool = False
    problem: str = ""  # why an image cannot be read
    depth: int = 8  # bits of a channel: 8, 16 or 32
    is_animated: bool = False  # only the first frame is read

    @property
    def is_taken(self) -> bool:
        return self.is_image and not self.problem


@cache
def image_formats() -> tuple[str, ...]:
    """Return the formats that Pillow reads without another program, with HEIF if pillow-heif is installed."""
    Image.init()
    with suppress(ImportError):
        from pillow_heif import register_heif_opener

        register_heif_opener()
    # This module has its own limit of pixels, and the warning of Pillow's comes at half of it.
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    return tuple(kind for kind in Image.ID if kind in Image.OPEN and kind not in _NOT_READ)


@contextmanager
def open_image(source: Path | IO[bytes], max_megapixels: float) -> Iterator[Image.Image]:
    """Open an image file without decoding it.

    Raises ValueError if it has more pixels than that, and whatever Pillow raises for a damaged file.
    """
    limit = max_megapixels * 1e6
    too_large = f"data.max_megapixels = {max_megapixels:g} is the limit: raise it, or reduce the image"
    formats = image_formats()
    # Pillow refuses at twice its limit. It belongs to the process; all images of a run have the same.
    Image.MAX_IMAGE_PIXELS = int(limit)
    try:
        image = Image.open(source, formats=formats)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(f"more than {max_megapixels:g} megapixels; {too_large}") from None
    except UnidentifiedImageError:
        raise ValueError("not a whole image of a known format") from None
    with image:
        if image.width * image.height > limit:
            megapixels = image.width * image.height / 1e6
            raise ValueError(
                f"{image.width} x {image.height} pixels are {megapixels:.3g} megapixels; {too_large}"
            )
        yield image


def look_at(path: Path, max_megapixels: float) -> FileKind:
    """Say whether a file is an image, by its content and its name; read its header only."""
    # A hidden file that cannot be read is no picture of the user's, whatever its name: ._0.png of a Mac.
    named = named_like_an_image(path.name) and not path.name.startswith(".")
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return FileKind(is_image=named, problem="not a regular file")
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
            file.seek(0)
            found = FileKind(status.st_size, status.st_mtime_ns, head_digest(head))
            return _look_inside(path, file, head, found, named, max_megapixels)
    except OSError as error:
        return FileKind(is_image=named, problem=error.strerror or str(error))


def look_at_all(paths: Iterable[Path], max_megapixels: float) -> list[FileKind]:
    """Look at many files, several at a time; in the order of `paths`."""
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        return list(pool.map(lambda path: look_at(path, max_megapixels), paths))


def _look_inside(
    path: Path, file: IO[bytes], head: bytes, found: FileKind, named: bool, max_megapixels: float
) -> FileKind:
    def image(problem: str, is_image: bool = True) -> FileKind:
        return FileKind(found.num_bytes, found.modified_ns, found.head, is_image, problem)

    if path.suffix.lower() in _RAW_SUFFIXES:
        return image("raw data of a camera; save it as PNG or JPEG")
    formats = image_formats()
    is_heif = head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS
    if is_heif and "HEIF" not in formats:
        return image("HEIF; install prism-ray[heif] on every machine, or convert it")
    sure = is_heif or any(_accepts(kind, head) for kind in _SURE)
    if not named and not sure and not any(_accepts(kind, head) for kind in formats):
        return image("JPEG XL; convert it to PNG", True) if head.startswith(_JXL) else found
    try:
        with open_image(file, max_megapixels) as opened:
            depth = 16 if opened.mode.startswith("I;16") else 32 if opened.mode in ("I", "F") else 8
            animated = bool(getattr(opened, "is_animated", False))
            return FileKind(
                found.num_bytes, found.modified_ns, found.head, True, "", depth, is_animated=animated
            )
    except Exception as error:  # Pillow raises whatever it meets in a damaged file
        if not head:
            return image("the file is empty", named)
        if head.startswith(_LFS):
            return image("a pointer of Git LFS; run `git lfs pull`", named)
        if head.startswith(_JXL):
            return image("JPEG XL; convert it to PNG", True)
        return image(str(error), named or sure)


def head_digest(head: bytes) -> str:
    """Return the hash of a file's first HEAD_BYTES."""
    return hashlib.sha256(head[:HEAD_BYTES]).hexdigest()[:32]


def _accepts(kind: str, head: bytes) -> bool:
    """Return whether these first bytes can be of a format; False if Pillow needs the suffix to know."""
    accept = Image.OPEN[kind][1] if kind in Image.OPEN else None
    try:
        return accept is not None and accept(head[:16]) is True
    except Exception:  # some expect more bytes than a very short file has
        return False


@cache
def _types() -> mimetypes.MimeTypes:
    return mimetypes.MimeTypes()


@cache
def _suffixes() -> frozenset[str]:
    formats = image_formats()
    return frozenset(suffix for suffix, kind in Image.registered_extensions().items() if kind in formats)


def named_like_an_image(name: str) -> bool:
    """Return whether a file's suffix says that it is an image, even of a format that is not read."""
    suffix = os.path.splitext(name)[1].lower()
    if suffix in _suffixes() or suffix in _RAW_SUFFIXES:
        return True
    kind = _types().guess_type(f"x{suffix}", strict=False)[0] if suffix else None
    return bool(kind and kind.startswith("image/"))
