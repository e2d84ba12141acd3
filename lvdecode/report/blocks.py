"""What a section of the page is made of, and which macro shows it."""

from typing import Any, NamedTuple

import markupsafe
from matplotlib import figure as mpl_figure
from rich import table as rich_table

from lvdecode.report import style


class Block(NamedTuple):
  """What one macro of blocks.html shows."""

  macro: str
  content: Any


class Picture(NamedTuple):
  svg: markupsafe.Markup
  caption: str


class Table(NamedTuple):
  head: list[str]
  rows: list[list[str]]
  caption: str


def pictures(*pictures: tuple[mpl_figure.Figure, str]) -> Block:
  """Pictures and what is said below each."""
  return Block(
    'pictures',
    [
      Picture(markupsafe.Markup(style.svg(picture)), text)
      for picture, text in pictures
    ],
  )


def table(printed: rich_table.Table) -> Block:
  """A table that a command prints."""
  head = [str(column.header) for column in printed.columns]
  return Block('table', Table(head, rows(printed), str(printed.caption or '')))


def numbers(printed: rich_table.Table) -> Block:
  """The same, folded: it is long, or pictures have shown it."""
  return table(printed)._replace(macro='numbers')


def rows(printed: rich_table.Table) -> list[list[str]]:
  """The cells, as they are printed."""
  columns = [column.cells for column in printed.columns]
  return [list(map(str, row)) for row in zip(*columns, strict=True)]
