"""Text from stores, made fit for a page: nothing invisible, nothing that turns the direction of the rest."""

import html
import unicodedata

_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}  # control, format, surrogate, private, separators
_JOINERS = "\u200c\u200d"  # which some scripts and emoji need
_MAX_CHARS = 60


def shown(text: str, max_chars: int | None = None) -> str:
    r"""Return a text with its invisible characters as escapes, and cut in the middle if it is long.

    >>> shown("cat\u202egod")
    'cat\\u202egod'
    """
    visible = "".join(
        char if char in _JOINERS or unicodedata.category(char) not in _HIDDEN else f"\\u{ord(char):04x}"
        for char in text
    )
    if max_chars is None or len(visible) <= max_chars:
        return visible
    half = (max_chars - 1) // 2
    return f"{visible[:half]}…{visible[-half:]}"


def for_chart(text: str) -> str:
    """Return a text for a chart: short, and without the tags that Plotly would take for its own."""
    return html.escape(shown(text, _MAX_CHARS), quote=False)


def variance_text(variance: float | None) -> str:
    """Return a variance; a dash where there is none, as for two images of a class: a single pair."""
    return f"{variance:.2g}" if variance else "-"


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share as percent; a dash where there is none."""
    return "-" if share is None else f"{100 * share:.{digits}f} %"
