"""Commands that are printed, as a shell reads them."""

import subprocess

import pytest

from prism_ray.shell import command

WORDS = ["my run", "it's", 'say "x"', "ü 日本", "$HOME", "`id`", "a\\b", "*", "a;b", "#x", ""]


@pytest.mark.parametrize("word", WORDS)
def test_a_shell_reads_each_word_as_it_is(word: str) -> None:
    """A store with a space or a quote in its name, whose printed command does something else."""
    text = command("status", word, "--set", f"a={word}").removeprefix("prism-ray ")
    shown = subprocess.run(["sh", "-c", f"printf '%s\\n' {text}"], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines() == ["status", word, "--set", f"a={word}"]
