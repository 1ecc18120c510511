"""Convert docstrings and comments to HTML.

Docstrings are plain text with a few conventions: `code` in backticks, formulas between dollar signs, blocks that are
indented or consist of commands (shown as they are), tables with two columns (a name, two or more spaces, its
explanation), numbered lists.
"""

import html
import re
from collections.abc import Callable

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers.shell import BashLexer

COMMAND = re.compile(
    r"\s*(\.venv/bin/)?(python3? -m|python3? \w+\.py|pip |make |curl |torchrun |docker |echo |kubectl |cd )"
)
TABLE_ROW = re.compile(r"(?P<name>\S(?:\S| (?! ))*?) {2,}(?P<text>\S.*)")
INLINE = re.compile(
    r"`(?P<code>[^`]+)`"
    r"|\$(?P<formula>(?! )[^$\n]+?(?<! ))\$(?!\w)"
    r"|(?P<address>https?://[^\s)>,;]*[^\s)>,;.])"
    r"|(?<![\w*])\*(?P<emphasis>\w[^*\n]*?\w|\w)\*(?![\w*])"
    r"|(?P<arrow>(?<=\s)(?:->|<-)(?=\s))"
)

Link = Callable[[str], str]
"""Gives the address of the definition or file that code in backticks names; empty if there is none."""


def inline(text: str, formula: Callable[[str], str], link: Link = lambda _: "") -> str:
    """Convert a line or paragraph to HTML."""
    parts, at = [], 0
    for found in INLINE.finditer(text):
        parts.append(html.escape(text[at : found.start()], quote=False))
        kind, value = found.lastgroup, found[found.lastgroup or 0]
        shown = html.escape(value)
        if kind == "code":
            code = f'<code class="literal"><span class="pre">{shown}</span></code>'
            address = link(value)
            parts.append(f'<a href="{html.escape(address)}">{code}</a>' if address else code)
        elif kind == "formula":
            parts.append(formula(value))
        elif kind == "address":
            parts.append(f'<a class="external" href="{shown}">{shown}</a>')
        elif kind == "emphasis":
            parts.append(f"<em>{shown}</em>")
        else:
            parts.append("→" if value == "->" else "←")
        at = found.end()
    return "".join(parts) + html.escape(text[at:], quote=False)


def paragraphs(text: str) -> list[str]:
    """Split a text at its empty lines."""
    return [part.strip("\n") for part in re.split(r"\n[ \t]*\n", text) if part.strip()]


def render(text: str, formula: Callable[[str], str], link: Link = lambda _: "") -> str:
    """Convert a docstring or comment to HTML."""
    return "\n".join(_block(part, formula, link) for part in paragraphs(text))


def _block(text: str, formula: Callable[[str], str], link: Link) -> str:
    lines = text.split("\n")
    if all(COMMAND.match(line) for line in lines if line.strip() and not line.lstrip().startswith("#")):
        return commands("\n".join(line.strip() for line in lines))
    if all(line.startswith("  ") for line in lines):
        margin = min(len(line) - len(line.lstrip()) for line in lines)
        return f"<pre>{html.escape(chr(10).join(line[margin:] for line in lines), quote=False)}</pre>"
    rows = _continued(lines)
    if len(rows) > 1 and all(TABLE_ROW.fullmatch(row) for row in rows):
        return _table(rows, formula, link)
    if all(re.match(r"(\d+\.|[-*]) ", row) for row in rows):
        kind = "ol" if rows[0][0].isdigit() else "ul"
        items = "".join(f"<li>{inline(row.partition(' ')[2], formula, link)}</li>" for row in rows)
        return f"<{kind}>{items}</{kind}>"
    return f"<p>{inline(text, formula, link)}</p>"


def commands(text: str) -> str:
    """Highlight commands of a shell."""
    return highlight(text, BashLexer(), HtmlFormatter(nowrap=False, cssclass="highlight commands")).strip()


def _continued(lines: list[str]) -> list[str]:
    """Join each line with the indented lines after it."""
    rows: list[str] = []
    for line in lines:
        if rows and line.startswith("  "):
            rows[-1] += " " + line.strip()
        else:
            rows.append(line)
    return rows


def _table(rows: list[str], formula: Callable[[str], str], link: Link) -> str:
    """Convert rows of a name and its explanation; names of files and definitions become links."""
    parts = []
    for row in rows:
        found = TABLE_ROW.fullmatch(row)
        assert found
        name, address = html.escape(found["name"]), link(found["name"])
        name = f"<code>{name}</code>" if re.fullmatch(r"[\w./-]+", found["name"]) else name
        name = f'<a href="{html.escape(address)}">{name}</a>' if address else name
        parts.append(f"<dt>{name}</dt><dd>{inline(found['text'], formula, link)}</dd>")
    return f'<dl class="listing">{"".join(parts)}</dl>'
