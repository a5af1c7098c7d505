"""The commands that messages print: found in what was said, and run in a shell."""

import re
import subprocess
from pathlib import Path

from click.testing import CliRunner, Result

from prism_ray.cli import main
from prism_ray.config import load_config
from prism_ray.data import open_data
from prism_ray.run import Run, new_run
from prism_ray.store import StoreFiles

ODD = "my ü run's #2"  # a space, a quote and a unicode sign, and what a URL or YAML would cut
_COMMAND = re.compile(r"prism-ray (?:status|distill|plan|show|verify|gc|retry|failures|compact)\b.*")


def commands_in(text: str) -> list[str]:
    """Return the commands that a text has: those between backticks, or to the end of the line."""
    found = []
    for line in text.splitlines():
        quoted = re.findall(r"`(prism-ray .*?)`", line)
        found += quoted or [match[0] for match in [_COMMAND.search(line)] if match]
    return found


def in_shell(line: str) -> Result:
    """Run a line that begins with `prism-ray`: a shell reads its words, and this process does the command."""
    assert line.startswith("prism-ray ")
    words = subprocess.run(
        ["sh", "-c", f"printf '%s\\0' {line.removeprefix('prism-ray ')}"], capture_output=True, check=True
    )
    result = CliRunner().invoke(main, words.stdout.decode().split("\0")[:-1])
    assert isinstance(result.exception, SystemExit | None), result.exception
    return result


def small_digits_run(config_path: Path, location: str, overrides: tuple[str, ...]) -> tuple[StoreFiles, Run]:
    """Return a store and a run of the digits for it; nothing is written."""
    config = load_config(config_path, overrides, location)
    files = StoreFiles(config.store_url)
    return files, new_run(config.with_store(files.location), open_data(config.data).facts(), 1)
