"""Annotated pages: the document of a code file, with its prose on the left and the code on the right."""

import html
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from docutils import nodes

from annotate import Definition, Row, annotate
from flags import CommandLine, Flag, command_line
from highlight import highlight
from names import Module, Place, Suite, module_name, references
from prose import inline, render


@dataclass(frozen=True)
class Result:
    """A section of a page that shows recorded results of a program."""

    docname: str
    anchor: str
    title: str


@dataclass
class Writer:
    """What a page needs to know of the rest of the site."""

    suite: Suite
    address: Callable[[str, str], str]
    """Address of a page of the site and an anchor in it, as seen from the page that is written."""
    formula: Callable[[str], str]
    results: list[Result] = field(default_factory=list)

    def page(self, module: Module) -> nodes.section:
        """Return the annotated page of a module."""
        docstring, found = annotate(module.text)
        lines = highlight(module.text, references(module, self.suite), lambda place: self.place_address(place, module))
        title = nodes.title("", "", nodes.literal("", module.path.partition("/")[2] or module.path))
        page = nodes.section("", title, ids=["annotated-page"], classes=["annotated"])
        page += _html(self._head(docstring, found, module), "head")
        self._add_parts(page, found, lines, module)
        return page

    def place_address(self, place: Place, module: Module) -> str:
        """Return the address of a definition, as seen from a module's page."""
        home = self.suite.modules[place.module]
        anchor = f"#{place.name}" if place.name else ""
        return anchor if home is module and anchor else self.address(home.path, anchor)

    def link(self, module: Module) -> Callable[[str], str]:
        """Return a function that gives the address of a name in a module's prose; empty for unknown names."""

        def address(text: str) -> str:
            name = re.sub(r"\(.*\)$", "", text)
            place = find_name(name, module, self.suite)
            return self.place_address(place, module) if place else ""

        return address

    def _head(self, docstring: str, found: Definition, module: Module) -> str:
        """Return what is above the rows: the docstring, flags, results, and a list of the definitions."""
        parts = [render(docstring, self.formula, self.link(module))]
        if line := command_line(module, self.suite):
            parts.append(self._flags(line, module))
        if self.results:
            links = ", ".join(self._result(each) for each in self.results)
            parts.append(f'<p class="results"><strong>Results</strong> {links}</p>')
        names = [each.name for each in found.definitions() if "." not in each.name]
        if len(names) > 2:
            links = [f'<a href="#{name}"><code>{name}</code></a>' for name in names]
            parts.append(f'<nav class="definitions" aria-label="Definitions">{" ".join(links)}</nav>')
        return "\n".join(parts)

    def _result(self, result: Result) -> str:
        address = html.escape(self.address(result.docname, f"#{result.anchor}"))
        return f'<a href="{address}">{inline(result.title, self.formula)}</a>'

    def _flags(self, line: CommandLine, module: Module) -> str:
        """Return the table of a command line's flags, folded."""
        rows = "".join(self._flag(flag, module) for flag in line.flags)
        shared = ""
        if line.shared:
            address = self.place_address(line.shared, module)
            link = f'<a href="{html.escape(address)}">--seed, --device, --resume and others</a>'
            shared = f"<p>All programs share {link}.</p>"
        count = f"{len(line.flags)} flag" + "s" * (len(line.flags) != 1)
        head = "<tr><th>flag</th><th>default</th><th>meaning</th></tr>"
        return (
            f'<details class="flags"><summary>{count} of <code>{html.escape(line.command)}</code></summary>'
            f'<div class="table-wrapper"><table><thead>{head}</thead><tbody>{rows}</tbody></table></div>'
            f"{shared}</details>"
        )

    def _flag(self, flag: Flag, module: Module) -> str:
        values = f" <span>{html.escape(flag.values)}</span>" if flag.values else ""
        default = f"<code>{html.escape(flag.default)}</code>" if flag.default else ""
        meaning = inline(flag.help, self.formula, self.link(module))
        name = f'<a href="#{flag.anchor}"><code>{flag.name}</code></a>'
        return f"<tr><td>{name}{values}</td><td>{default}</td><td>{meaning}</td></tr>"

    def _add_parts(self, section: nodes.section, owner: Definition, lines: list[str], module: Module) -> None:
        for part in owner.parts:
            if isinstance(part, Row):
                section += self._row(part, lines, module)
            else:
                title = nodes.title("", "", nodes.literal("", part.name))
                inner = nodes.section("", title, ids=[_unused(part.name, section)], classes=["definition"])
                self._add_parts(inner, part, lines, module)
                section += inner

    def _row(self, row: Row, lines: list[str], module: Module) -> nodes.container:
        """Return a row; the anchors of its constants and fields are those of the row."""
        anchors = "".join(f'<span id="{name}"></span>' for name in row.anchors)
        prose = anchors + render(row.prose, self.formula, self.link(module))
        kind = "prose" if row.prose else "prose empty"
        return nodes.container("", _html(prose, kind), _html(listing(row, lines), "code", "no-search"), classes=["row"])


def listing(row: Row, lines: list[str]) -> str:
    """Return the code of a row, each line with its number and an anchor."""
    if not row.lines:
        return ""
    shown = "".join(
        f'<span class="line" id="L{number}"><a class="number" href="#L{number}" tabindex="-1" '
        f'aria-label="line {number}" data-number="{number}"></a>{lines[number - 1]}\n</span>'
        for number in row.lines
    )
    return f'<div class="highlight"><pre>{shown}</pre></div>'


def find_name(name: str, module: Module, suite: Suite) -> Place | None:
    """Return the definition that a name in the prose of a module stands for.

    It may be defined or imported there, or be a module of the same folder, with or without a name in it.
    """
    if not re.fullmatch(r"[A-Za-z_][\w.]*", name):
        return None
    here = module_name(module.path)
    if name in module.defined:
        return Place(here, name)
    first, _, rest = name.partition(".")
    if first in module.imports and (place := suite.find(*module.imports[first])):
        if not rest:
            return place
        member = f"{place.name}.{rest}" if place.name else rest
        return Place(place.module, member) if member in suite.modules[place.module].defined else None
    folder = here if module.path.endswith("__init__.py") else here.rpartition(".")[0]
    found = f"{folder}.{first}"
    if found in suite.modules and found != here and (not rest or rest in suite.modules[found].defined):
        return Place(found, rest)
    if module.path.endswith("__init__.py") and not rest:  # a chapter lists programs of its topics
        within = [each for each in suite.modules if each.startswith(f"{here}.") and each.endswith(f".{name}")]
        return Place(within[0]) if len(within) == 1 else None
    return None


def _unused(name: str, section: nodes.section) -> str:
    """Return a name, with a number if the section already has a definition of that name (such as a setter)."""
    known = {each["ids"][0] for each in section.children if isinstance(each, nodes.section)}
    candidates: Iterator[str] = (name if number == 1 else f"{name}-{number}" for number in range(1, len(known) + 2))
    return next(each for each in candidates if each not in known)


def _html(text: str, *classes: str) -> nodes.raw:
    return nodes.raw("", text, format="html", classes=list(classes))
