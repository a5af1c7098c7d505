"""The commands that messages print, quoted so that a shell reads them as they are meant."""

import shlex


def command(*words: str) -> str:
    """Return a command of prism-ray for a shell.

    >>> command("status", "/home/me/my run")
    "prism-ray status '/home/me/my run'"
    """
    return shlex.join(["prism-ray", *words])
