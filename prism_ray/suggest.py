"""The hint for a word that is probably misspelt."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches


def nearest(wrong: str, choices: Iterable[str], at_most: int = 1) -> list[str]:
    """Return the choices that look like `wrong`, the nearest first."""
    return get_close_matches(wrong, list(choices), n=at_most)


def did_you_mean(wrong: str, choices: Iterable[str] | Mapping[str, object], at_most: int = 1) -> str:
    """Return the end of an error message, which suggests the choices nearest to `wrong`; "" if none is near.

    A choice is shown in quotes. If `choices` is a mapping, its value is shown instead.

    >>> did_you_mean("prsim", ["prism", "sre2l"])
    "; did you mean 'prism'?"
    >>> did_you_mean("epoch", {"epochs": "relabel.epochs", "teachers": "relabel.teachers"})
    '; did you mean relabel.epochs?'
    """
    near = nearest(wrong, choices, at_most)
    shown = [str(choices[name]) if isinstance(choices, Mapping) else repr(name) for name in near]
    return f"; did you mean {', '.join(shown)}?" if near else ""
