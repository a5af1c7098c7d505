"""The console for tables. Whatever the width, no figure and no name is cut off."""

import os
import sys
from typing import Any

from rich.console import Console
from rich.table import Table

_WIDTH_OF_FILES = 160  # wide enough for the tables
_MIN_WIDTH = 20
_ANY_WIDTH = 10**4


def console() -> Console:
    """Return a console with the width of the terminal, or COLUMNS; in a file or a pipe it is wide."""
    # A name from a store may have brackets or colons, which rich would take for styles and emoji.
    return _Console(highlight=False, markup=False, emoji=False, width=_width())


def _width() -> int:
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) > 0:
        return max(_MIN_WIDTH, int(columns))
    if not sys.stdout.isatty():
        return _WIDTH_OF_FILES
    try:
        return max(_MIN_WIDTH, os.get_terminal_size(sys.stdout.fileno()).columns or 80)
    except OSError:
        return 80


class _Console(Console):
    """A console that prints a table without room as a list, and leaves long lines to the terminal."""

    def print(self, *objects: Any, **options: Any) -> None:
        options = {"soft_wrap": True} | options
        for each in objects or ("",):
            if not isinstance(each, Table):
                super().print(each, **options)
            elif self._fits(each):
                super().print(each)
            else:
                super().print(_as_list(each), soft_wrap=True)

    def _fits(self, table: Table) -> bool:
        options = self.options.update(max_width=_ANY_WIDTH)
        return self.measure(table, options=options).minimum <= self.width


def _as_list(table: Table) -> str:
    """Return the rows of a table below each other: the first cell, then a line for each other cell."""
    lines = [str(table.title)] if table.title else []
    heads = [str(column.header) for column in table.columns]
    for first, *others in zip(*(column.cells for column in table.columns), strict=True):
        lines.append(str(first))
        lines += [f"  {head}: {cell}" for head, cell in zip(heads[1:], others, strict=True)]
    return "\n".join([*lines, ""])
