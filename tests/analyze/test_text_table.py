"""Tables of text."""

from prism_ray.analyze.text_table import TextTable


def test_markdown_has_its_title_and_as_many_cells_in_each_line() -> None:
    """Catches a table that Markdown does not show as one, or figures that are not aligned."""
    lines = TextTable("Gains", ("set", "a", "b"), (("prism", "1", "2"),)).to_markdown().splitlines()
    assert lines == ["Gains:", "", "| set | a | b |", "| --- | --: | --: |", "| prism | 1 | 2 |"]
