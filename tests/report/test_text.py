"""Text from stores on a page."""

import doctest
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from prism_ray.report import opened, supervision, text
from prism_ray.report.text import for_chart, shown


def test_the_examples() -> None:
    """Catches an example of a docstring that is no longer true."""
    for module in (text, opened, supervision):
        assert doctest.testmod(module).failed == 0


@given(st.text())
def test_nothing_invisible_is_left(name: str) -> None:
    """Catches a control or bidirectional character on the page, and a surrogate, which is no UTF-8."""
    visible = shown(name)
    left = {unicodedata.category(char) for char in visible if char not in "\u200c\u200d"}
    assert not left & {"Cc", "Cf", "Cs"}
    visible.encode()


@given(st.text(min_size=100))
def test_charts_get_short_text_without_tags(name: str) -> None:
    """Catches a class name that Plotly would take for a tag, or that takes the room of the chart."""
    label = for_chart(name)
    assert "<" not in label
    assert len(shown(name, 60)) <= 60
