"""Highlight a Python file line by line, with links from names to their definitions."""

import html
from collections.abc import Callable, Mapping

from pygments.lexers.python import PythonLexer
from pygments.token import STANDARD_TYPES, Token, _TokenType

from names import Place, Spot


def token_class(kind: _TokenType) -> str:
    """Return the CSS class of a token type; that of its nearest ancestor if it has none."""
    while kind not in STANDARD_TYPES:
        assert kind.parent is not None
        kind = kind.parent
    return STANDARD_TYPES[kind]


def characters(line: str, column: int) -> int:
    """Convert a column in bytes of UTF-8, as in the syntax tree, to one in characters."""
    return column if line.isascii() else len(line.encode()[:column].decode())


def highlight(text: str, references: Mapping[Spot, Place], address: Callable[[Place], str]) -> list[str]:
    """Return the lines of a file as HTML; `address` gives the link of a definition.

    A name links every time, but only its first link is a stop of the Tab key.
    """
    lines = text.splitlines()
    links: list[dict[int, tuple[int, Place]]] = [{} for _ in lines]
    for (number, first, last), place in references.items():
        line = lines[number - 1]
        links[number - 1][characters(line, first)] = (characters(line, last), place)
    result, known = [], set[Place]()
    for number, tokens in enumerate(_tokens_by_line(text, len(lines))):
        parts, column, end = [], 0, 0
        for kind, value in tokens:
            if column in links[number]:
                end, place = links[number][column]
                skip = ' tabindex="-1"' if place in known else ""
                known.add(place)
                parts.append(f'<a href="{html.escape(address(place))}"{skip}>')
            name = token_class(kind)
            shown = html.escape(value, quote=False)
            parts.append(f'<span class="{name}">{shown}</span>' if name else shown)
            column += len(value)
            if end and column >= end:
                parts.append("</a>")
                end = 0
        result.append("".join(parts) + ("</a>" if end else ""))
    return result


def _tokens_by_line(text: str, count: int) -> list[list[tuple[_TokenType, str]]]:
    """Return the tokens of each line; a token of several lines, such as a long string, is split."""
    lines: list[list[tuple[_TokenType, str]]] = [[]]
    for kind, value in PythonLexer(stripnl=False, ensurenl=False).get_tokens(text):
        for place, part in enumerate(value.split("\n")):
            if place:
                lines.append([])
            if part:
                lines[-1].append((kind if part.strip() else Token.Text, part))
    return (lines + [[] for _ in range(count)])[:count]
