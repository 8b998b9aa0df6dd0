"""Makes text of unknown origin harmless on a terminal and in a spreadsheet."""

import unicodedata

# A spreadsheet takes a cell that begins with one of these for a formula.
_FORMULA = ("=", "+", "-", "@")


def printable(text: str) -> str:
    r"""Replaces characters that command a terminal or reverse text by escapes.

    Spaces of all kinds stay; a line feed becomes \n, an escape \x1b.
    """
    return "".join(
        c if c.isprintable() or unicodedata.category(c) == "Zs" else repr(c)[1:-1]
        for c in text
    )


def csv_cell(text: str) -> str:
    """Returns printable(text), with an apostrophe before what looks like a formula."""
    shown = printable(text)
    return f"'{shown}" if shown.lstrip().startswith(_FORMULA) else shown
