"""What the shell completes."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def completed(words: str, folder: Path) -> list[str]:
    """Return what the program tells bash about a command line that ends with the word to complete."""
    count = len(words.split(" ")) - 1
    done = subprocess.run(
        [Path(sys.executable).parent / "prism-ray"],
        env={
            "_PRISM_RAY_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(count),
            "PATH": "",
        },
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
        check=True,
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("prism-ray ver", ["plain,verify"]),
        ("prism-ray distill --log", ["plain,--log-file"]),
        ("prism-ray distill x --set recover.bn_", ["plain,recover.bn_weight="]),
        ("prism-ray distill x --set evaluate.num_s", ["plain,evaluate.num_students="]),
        ("prism-ray distill x --set relabel.enc", ["plain,relabel.encoding="]),
        ("prism-ray status ru", ["file,ru"]),
        ("prism-ray plan jobs/d", ["file,jobs/d"]),
    ],
)
def test_words_are_completed(words: str, expected: list[str], tmp_path: Path) -> None:
    """Catches keys of another version of the config, or a traceback in the middle of a command line."""
    assert completed(words, tmp_path) == expected


def test_the_documented_line_works_in_bash(tmp_path: Path) -> None:
    """Catches a line of docs/operations.md that bash refuses."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("needs bash")
    line = 'eval "$(_PRISM_RAY_COMPLETE=bash_source prism-ray)" && complete -p prism-ray'
    assert line.partition(" &&")[0] in Path("docs/operations.md").read_text()
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    done = subprocess.run([bash, "-c", line], env={"PATH": path}, capture_output=True, text=True, check=True)
    assert "_prism_ray_completion" in done.stdout
