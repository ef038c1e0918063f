"""Tables that a telephone shows whole: there a row becomes a list, in which each cell says its column
(every_page.css)."""

import re
from itertools import chain, repeat

FEWEST = 4
"""Columns from which on a table is too wide for a telephone."""
TABLE = re.compile(r"<table([^>]*)>(.*?)</table>", re.DOTALL)
ROW = re.compile(r"<tr[^>]*>.*?</tr>", re.DOTALL)
HEADING = re.compile(r"<th[^>]*>(.*?)</th>", re.DOTALL)
CELL = re.compile(r"<td([^>]*)>")


def stacking(html: str) -> str:
    """Our own page, with the names of the columns at the cells of its wide tables."""
    return TABLE.sub(_labelled, html)


def _labelled(table: re.Match[str]) -> str:
    headings = HEADING.findall(first.group()) if (first := ROW.search(table[2])) else []
    if len(headings) < FEWEST or first is None or "<td" in first.group():
        return table.group()
    rest = ROW.sub(lambda row: _row(row.group(), headings), table[2][first.end() :])
    marked = first.group().replace("<tr", '<tr class="headings"', 1)
    return f'<table class="stacks"{table[1]}>{table[2][: first.start()]}{marked}{rest}</table>'


def _row(row: str, headings: list[str]) -> str:
    names = chain(headings, repeat(""))
    return CELL.sub(lambda cell: f'<td data-column="{next(names)}"{cell[1]}>', row)
