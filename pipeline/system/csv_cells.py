"""Writes text into the cells of a CSV file that a spreadsheet may open.

A spreadsheet takes a cell that begins with one of = + - @ for a formula, and a folder
can have such a name. An apostrophe before it makes the cell a text (OWASP, "CSV
Injection"); unescape() removes the apostrophe again.
"""

import re

# labels.js has the same pattern.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def escape(text: str) -> str:
    """Returns the text as a cell that no spreadsheet takes for a formula."""
    return f"'{text}" if _FORMULA.match(text) else text


def unescape(cell: str) -> str:
    """Returns the text of a cell that escape() made; other cells stay as they are."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
