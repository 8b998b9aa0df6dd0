"""Prints every message of the packages: errors that are raised, and lines printed.

python docs/reference/list_messages.py [WORD]: a line for each message with its file and
line; with WORD only those that hold it. Parts in braces are filled in at run time.
"""

import ast
import pathlib
import sys
from collections.abc import Iterator

REPOSITORY = pathlib.Path(__file__).parent.parent.parent
PACKAGES = ("pipeline", "trainer", "export")
PRINTERS = ("print", "log", "warnings.warn")


def _to_text(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(map(_to_text, parts))
        case ast.FormattedValue(value=value):
            return f"{{{ast.unparse(value)}}}"
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _to_text(left) + _to_text(right)
        case _:
            return f"{{{ast.unparse(node)}}}"


def _find_messages(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yields the line number and the text of each message of a file."""
    for node in ast.walk(tree):
        match node:
            case ast.Raise(exc=ast.Call(func=function, args=[_, *_] as arguments)):
                name = ast.unparse(function)
            case ast.Call(func=function, args=[_, *_] as arguments) if (
                ast.unparse(function) in PRINTERS
            ):
                name = ast.unparse(function)
            case _:
                continue
        text = " / ".join(map(_to_text, arguments)).replace("\n", "\\n")
        yield node.lineno, f"{name}: {text}"


def main(words: list[str]) -> None:
    """Prints the messages that hold every word."""
    for package in PACKAGES:
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            for line, text in sorted(_find_messages(ast.parse(path.read_text()))):
                if all(word in text for word in words):
                    print(f"{path.relative_to(REPOSITORY)}:{line}: {text}")


if __name__ == "__main__":
    main(sys.argv[1:])
