"""Makes names from outside harmless, and lists of names short."""

import re
import unicodedata
from collections.abc import Sequence

_EMOJI_JOINER = "\u200d"
_MAX_LISTED = 5
# Of all signs with a meaning, those that have one within a line.
_MARKDOWN_SIGNS = re.compile(r"[\\`*_\[\]<>&|~$]")
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def escape_controls(text: str) -> str:
    """Writes characters that could act on a terminal as backslash sequences.

    These are control characters (such as the start of an escape sequence), characters
    that change the direction of the text, line ends and lone surrogates.
    """
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable()
        or character == _EMOJI_JOINER
        or unicodedata.category(character) == "Zs"
        else character.encode("unicode_escape").decode()
        for character in text
    )


def escape_markdown(text: str) -> str:
    """Returns a text that Markdown shows as it is, even in a cell of a table.

    Control characters are escaped as escape_controls does.
    """
    return _MARKDOWN_SIGNS.sub(r"\\\g<0>", escape_controls(text))


def escape_formula(value: str) -> str:
    """Returns a value of a CSV file that no spreadsheet takes for a formula.

    An apostrophe is put before a value that begins as a formula does, perhaps after
    other apostrophes; unescape_formula removes it. The rule is that of OWASP ("CSV
    injection").
    """
    return f"'{value}" if value.lstrip("'").startswith(_FORMULA_STARTS) else value


def unescape_formula(value: str) -> str:
    """Returns the value that was given to escape_formula."""
    if value.startswith("'") and value.lstrip("'").startswith(_FORMULA_STARTS):
        return value[1:]
    return value


def list_some(names: Sequence[str], *, limit: int = _MAX_LISTED) -> str:
    """Returns "a, b" or, of more names than the limit, "a, b, c, d, e and 55 more"."""
    listed = ", ".join(names[:limit])
    more = len(names) - limit
    return f"{listed} and {more} more" if more > 0 else listed
