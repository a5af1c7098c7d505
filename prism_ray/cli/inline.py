"""Pictures in the terminal itself, where it can show them: kitty's graphics, or sixel.

A terminal is known by what it says in the environment, and is asked nothing: an answer that comes late, over
a slow line, would stand on the user's command line. So nothing here waits.
"""

import io
import os
import struct
import sys
import termios
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fcntl import ioctl
from typing import Any, Literal

from PIL import Image
from rich.console import Console

Protocol = Literal["kitty", "sixel"]

MISSING = "this terminal could show the sheet: pip install 'prism-ray[inline]' (--no-inline: never)"
_KITTY = ("xterm-kitty", "xterm-ghostty")  # TERM
_SIXEL = ("foot", "mlterm", "contour", "yaft")  # beginnings of TERM
_SIXEL_PROGRAMS = ("iTerm.app", "iTerm2", "WezTerm", "mintty", "contour")
_MULTIPLEXERS = ("screen", "tmux")  # they pass pictures on only if they are told to
_LINES_BELOW = 3  # for what is printed next


def protocol_of(environment: Mapping[str, str]) -> Protocol | None:
    """Return how the terminal of an environment shows pictures; None if it cannot, or is not known.

    >>> protocol_of({"TERM": "xterm-kitty"}), protocol_of({"TERM": "dumb"})
    ('kitty', None)
    """
    term = environment.get("TERM", "")
    if term.startswith(_MULTIPLEXERS) or "TMUX" in environment or "STY" in environment:
        return None
    if term in ("", "dumb", "linux"):
        return None
    if term in _KITTY or environment.get("TERM_PROGRAM") == "ghostty":
        return "kitty"
    programs = {environment.get("TERM_PROGRAM"), environment.get("LC_TERMINAL")}
    if term.startswith(_SIXEL) or term.endswith("-sixel") or programs.intersection(_SIXEL_PROGRAMS):
        return "sixel"
    return None


def show_inline(png: bytes) -> str:
    """Show a picture in the terminal, at most as large as the screen; nothing if stdout is no such terminal.

    Returns a note for the user: what to install; "" if there is nothing to say.
    """
    protocol = protocol_of(os.environ)
    size = _screen_pixels()
    if protocol is None or size is None:
        return ""
    try:
        renderable = _renderable(protocol)
    except ImportError:
        return MISSING
    columns, lines, cell_width, cell_height = size
    with Image.open(io.BytesIO(png)) as picture:
        most = (
            (columns - 1) * cell_width / picture.width,
            (lines - _LINES_BELOW) * cell_height / picture.height,
        )
        scale = min(1.0, *most)
        width = max(1, int(picture.width * scale / cell_width))
        height = max(1, int(picture.height * scale / cell_height))
        # Kitty's placeholders say in their colour which picture they belong to, so NO_COLOR is not for them.
        console = Console(file=sys.stdout, width=columns, color_system="truecolor", no_color=False)
        sys.stdout.flush()
        console.print(renderable(picture, width=width, height=height))
    return ""


def _screen_pixels() -> tuple[int, int, int, int] | None:
    """Return columns, lines, and the width and height of a cell in pixels; None if stdout is no terminal.

    None too if the terminal does not tell its size in pixels: then the library would have to ask it.
    """
    try:
        if not (sys.stdout.isatty() and sys.__stdout__ is not None and sys.__stdout__.isatty()):
            return None
        lines, columns, width, height = struct.unpack("4H", ioctl(1, termios.TIOCGWINSZ, bytes(8)))
    except (OSError, ValueError):
        return None
    if lines <= _LINES_BELOW or columns <= 1 or width < columns or height < lines:
        return None
    return columns, lines, width // columns, height // lines


def _renderable(protocol: Protocol) -> Any:
    """Return the library's class for a protocol; its import asks a terminal, so it sees none."""
    with _stdout_hidden():
        from textual_image.renderable import SixelImage, TGPImage
    return TGPImage if protocol == "kitty" else SixelImage


@contextmanager
def _stdout_hidden() -> Iterator[None]:
    kept = sys.__stdout__
    sys.__stdout__ = io.StringIO()  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        sys.__stdout__ = kept  # type: ignore[misc]
