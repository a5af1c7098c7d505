"""Tables of text."""

from prism_ray.analyze.text_table import TextTable


def test_markdown_has_its_title_and_as_many_cells_in_each_line() -> None:
    """Catches a table that Markdown does not show as one, or figures that are not aligned."""
    lines = TextTable("Gains", ("set", "a", "b"), (("prism", "1", "2"),)).to_markdown().splitlines()
    assert lines == ["Gains:", "", "| set | a | b |", "| --- | --: | --: |", "| prism | 1 | 2 |"]


def test_columns_of_words() -> None:
    """Catches words that stand at the right edge like figures, and figures that do not."""
    table = TextTable(
        "Teachers", ("name", "net", "size", "role"), (("a", "-", "1.5 %", ""), ("b", "vit", "-", "9"))
    )
    assert table.text_columns == {0, 1}
