"""A table of text, which `status` prints with rich and `compare` as Markdown."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TextTable:
    """Rows of cells; the first column is text, the others are figures."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def text_columns(self) -> frozenset[int]:
        """The columns that hold words in a row at least, and not only figures."""
        return frozenset(
            place for place in range(len(self.columns)) if any(row[place][:1].isalpha() for row in self.rows)
        )

    def to_markdown(self) -> str:
        """Return the table as Markdown, below a line with its title."""
        lines = [self.columns, ("---", *["--:"] * (len(self.columns) - 1)), *self.rows]
        return "\n".join([f"{self.title}:", "", *(f"| {' | '.join(cells)} |" for cells in lines)])
