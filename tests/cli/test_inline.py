"""Pictures in a terminal, in a pseudo terminal of its own that answers nothing."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from prism_ray.cli import main
from prism_ray.cli.inline import protocol_of
from tests.filled import finish
from tests.printed import small_digits_run

SHOW = (
    "import sys; from prism_ray.cli.inline import show_inline; "
    "print(show_inline(open(sys.argv[1], 'rb').read()))"
)
WITHOUT = "import sys; sys.modules['textual_image'] = None; " + SHOW
QUESTIONS = (b"\x1b[c", b"\x1b[16t", b"\x1b[>", b"a=q")  # that wait for an answer


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    path = tmp_path / "sheet.png"
    Image.effect_noise((600, 2000), 80).convert("RGB").save(path)  # higher than the screen
    return path


def in_terminal(source: str, sheet: Path, pixels: tuple[int, int] = (800, 480), **variables: str) -> bytes:
    """Run Python source in a terminal of 80 x 24 that gives no answer; return what it wrote."""
    outside, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, *pixels))
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH", "HOME")}
    process = subprocess.Popen(
        [sys.executable, "-c", source, str(sheet)],
        stdin=inside, stdout=inside, stderr=subprocess.PIPE, env=kept | variables, start_new_session=True,
    )  # fmt: skip
    os.close(inside)
    written = bytearray()
    try:
        while True:
            try:
                chunk = os.read(outside, 1 << 16)
            except OSError:  # the other side was closed
                break
            if not chunk:
                break
            written += chunk
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        os.close(outside)
    assert process.returncode == 0, errors
    return bytes(written)


@pytest.mark.parametrize(
    ("variables", "begins"),
    [
        ({"TERM": "xterm-kitty"}, b"\x1b_G"),
        ({"TERM": "xterm-kitty", "NO_COLOR": "1"}, b"\x1b_G"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, b"\x1bP"),
        ({"TERM": "foot"}, b"\x1bP"),
    ],
)
def test_terminals_that_can_get_a_picture(sheet: Path, variables: dict[str, str], begins: bytes) -> None:
    """Catches a terminal that is asked and waited for, and a picture that is higher than the screen."""
    pytest.importorskip("textual_image")
    started = time.monotonic()
    written = in_terminal(SHOW, sheet, **variables)
    assert begins in written
    assert not [question for question in QUESTIONS if question in written]
    assert written.count(b"\n") < 24
    if begins == b"\x1b_G":
        assert b"\x1b[38;2;" in written  # the placeholders' colour is the number of the picture
    assert time.monotonic() - started < 30.0


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"TERM": "dumb"},
        {"TERM": "xterm-256color"},
        {"TERM": "dumb", "TERM_PROGRAM": "iTerm.app"},
        {"TERM": "tmux-256color", "LC_TERMINAL": "iTerm2"},
        {"TERM": "xterm-kitty", "TMUX": "/tmp/tmux"},
    ],
)
def test_other_terminals_get_nothing(sheet: Path, variables: dict[str, str]) -> None:
    """Catches garbage in a terminal that does not know the sequences."""
    assert in_terminal(SHOW, sheet, **variables).strip() == b""
    assert protocol_of(variables) is None


def test_a_terminal_without_a_size_in_pixels_gets_nothing(sheet: Path) -> None:
    """Catches a division by zero, and the library's question for the size."""
    assert in_terminal(SHOW, sheet, (0, 0), TERM="xterm-kitty").strip() == b""


def test_without_the_library_the_note_says_what_to_install(sheet: Path) -> None:
    """Catches a traceback of an extra that is not installed."""
    written = in_terminal(WITHOUT, sheet, TERM="foot")
    assert b"prism-ray[inline]" in written
    assert b"\x1b" not in written


def test_a_pipe_gets_nothing(sheet: Path) -> None:
    """Catches sequences in a file, from a terminal that could show the picture."""
    environment = os.environ | {"TERM": "xterm-kitty"}
    done = subprocess.run(
        [sys.executable, "-c", SHOW, str(sheet)], env=environment, capture_output=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == (b"\n", b"")


def test_show_in_a_terminal(digits_config: Path, small_overrides: tuple[str, ...], tmp_path: Path) -> None:
    """Catches a picture in spite of --no-inline, and a sheet that is shown but not written."""
    pytest.importorskip("textual_image")
    files, run = small_digits_run(digits_config, str(tmp_path / "run"), small_overrides)
    finish(files, run)
    program = "import sys; from prism_ray.cli import main; main(['show', sys.argv[1], *sys.argv[2:]])"
    written = in_terminal(program, Path(files.location), TERM="foot")
    assert b"\x1bP" in written
    assert b"report/sheet.png" in written
    assert (tmp_path / "run" / "report" / "sheet.png").exists()
    without = in_terminal(
        program.replace("*sys.argv[2:]", "'--no-inline'"), Path(files.location), TERM="foot"
    )
    assert b"\x1b" not in without
    piped = CliRunner().invoke(main, ["show", files.location])
    assert (piped.exit_code, "\x1b" in piped.output) == (0, False)
