"""Split a Python file into rows for its annotated page: a docstring or comment, and the code that it documents.

The rows are found in the syntax tree and the tokens of the file; nothing is imported or run. A definition is a class or
function at the top level, or a method. Docstrings and comments on lines of their own become prose. Comments at the end
of a line, and comments within brackets, stay in the code.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

DOCUMENTED = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass
class Row:
    """Prose and the lines of code beside it."""

    prose: str = ""
    lines: list[int] = field(default_factory=list)
    """Numbers of the lines of code, the first line of the file is 1."""
    anchors: list[str] = field(default_factory=list)
    """Names of what the row defines: a constant, a field of a class or a nested function."""


@dataclass
class Definition:
    """A class or function, or the module itself: its rows and, between them, the definitions that it contains."""

    name: str
    """Name with those of the classes around it, `ReplayBuffer.sample`; empty for the module."""
    parts: list["Row | Definition"] = field(default_factory=list)

    def definitions(self) -> Iterator["Definition"]:
        """Yield the definitions that this one contains, also those in classes."""
        for part in self.parts:
            if isinstance(part, Definition):
                yield part
                yield from part.definitions()

    def rows(self) -> Iterator[Row]:
        """Yield all rows in the order of the file."""
        for part in self.parts:
            if isinstance(part, Definition):
                yield from part.rows()
            else:
                yield part


def annotate(text: str) -> tuple[str, Definition]:
    """Return the docstring of a module (empty without one) and its rows."""
    tree = ast.parse(text)
    source = Source(text, tree)
    module = Definition("")
    _add_statements(source, tree.body, module, 1, len(source.lines), "")
    return ast.get_docstring(tree) or "", module


class Source:
    """Lines of a file, and what each of them is: code, docstring or comment."""

    def __init__(self, text: str, tree: ast.Module) -> None:
        self.lines = text.splitlines()
        self.comments = dict(_comments(text))
        self.prose: set[int] = set(self.comments)
        self.docstrings: dict[ast.AST, str] = {}
        """Docstring of each module, class, function, constant and field that has one."""
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if not isinstance(body, list):
                continue
            if isinstance(node, (ast.Module, *DOCUMENTED)) and body and _is_string(body[0]):
                self._take(node, body[0])
            if isinstance(node, ast.Module | ast.ClassDef):
                for before, after in pairwise(body):
                    if isinstance(before, ast.Assign | ast.AnnAssign) and _is_string(after):
                        self._take(before, after)

    def _take(self, owner: ast.AST, docstring: ast.stmt) -> None:
        """Make a docstring the prose of its owner, unless it shares a line with code."""
        last = docstring.end_lineno or docstring.lineno
        first_line, last_line = self.lines[docstring.lineno - 1], self.lines[last - 1]
        if re.match(r"\s*[rRuU]?['\"]", first_line) and re.search(r"['\"]\s*$", last_line):
            assert isinstance(docstring, ast.Expr)
            assert isinstance(docstring.value, ast.Constant)
            self.docstrings[owner] = _clean(str(docstring.value.value))
            self.prose.update(range(docstring.lineno, last + 1))

    def code(self, first: int, last: int) -> list[int]:
        """List the lines of code from first to last, without empty lines at both ends."""
        numbers = [number for number in range(first, last + 1) if number not in self.prose]
        while numbers and not self.lines[numbers[0] - 1].strip():
            numbers.pop(0)
        while numbers and not self.lines[numbers[-1] - 1].strip():
            numbers.pop()
        return numbers


def _is_string(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _clean(docstring: str) -> str:
    """Remove the indentation of a docstring, as `inspect.cleandoc` does."""
    lines = docstring.expandtabs().strip("\n").split("\n")
    margins = [len(line) - len(line.lstrip()) for line in lines[1:] if line.strip()]
    margin = min(margins, default=0)
    return "\n".join([lines[0].strip(), *(line[margin:].rstrip() for line in lines[1:])]).strip()


def _comments(text: str) -> Iterator[tuple[int, str]]:
    """Yield line number and text of the comments on lines of their own, outside of brackets."""
    depth = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.OP:
            depth += (token.string in "([{") - (token.string in ")]}")
        elif token.type == tokenize.COMMENT and depth == 0 and not token.string.startswith("#!"):
            alone = not token.line[: token.start[1]].strip()
            if alone:
                yield token.start[0], token.string.lstrip("#").removeprefix(" ").rstrip()


def first_line(node: ast.stmt) -> int:
    """Return the first line of a statement, with its decorators."""
    decorators = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def _add_statements(
    source: Source, body: list[ast.stmt], owner: Definition, first: int, last: int, prefix: str
) -> None:
    """Add the lines from first to last, which hold the statements of a module or class, to the parts of its owner."""
    at = first
    for node in body:
        start, end = first_line(node), node.end_lineno or node.lineno
        if isinstance(node, DOCUMENTED):
            pending = _add_code(source, owner, at, start - 1)
            owner.parts.append(_definition(source, node, prefix, pending))
            at = end + 1
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node in source.docstrings:
            pending = _add_code(source, owner, at, start - 1)
            prose = "\n\n".join(filter(None, [pending, source.docstrings[node]]))
            owner.parts.append(Row(prose, source.code(start, end), targets(node, prefix)))
            at = end + 1
    if left := _add_code(source, owner, at, last):
        owner.parts.append(Row(left))
    for node in statements(body):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            _anchor(owner, node.lineno, targets(node, prefix))
        elif isinstance(node, DOCUMENTED) and node not in body:
            _anchor(owner, node.lineno, [prefix + node.name])


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a module or class, also those within `if` and `try`."""
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try):
            handlers = getattr(node, "handlers", [])
            for part in (
                node.body,
                *(handler.body for handler in handlers),
                node.orelse,
                getattr(node, "finalbody", []),
            ):
                yield from statements(part)


def _anchor(owner: Definition, line: int, names: list[str]) -> None:
    """Add names that a line defines to the row of the line."""
    for part in owner.parts:
        if isinstance(part, Row) and line in part.lines:
            part.anchors.extend(name for name in names if name not in part.anchors)


def targets(node: ast.Assign | ast.AnnAssign, prefix: str) -> list[str]:
    """Name the variables that a statement assigns: `KEPT` or `Config.epochs`."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    names = [name for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]
    return [prefix + name.id for name in names]


def _add_code(source: Source, owner: Definition, first: int, last: int) -> str:
    """Add the code from first to last, split at the comments; return a comment that has no code after it."""
    comment: list[str] = []
    at = first
    for number in range(first, last + 2):
        if number <= last and number in source.comments:
            if code := source.code(at, number - 1):
                owner.parts.append(Row("\n".join(comment), code))
                comment = []
            comment.append(source.comments[number])
            at = number + 1
        elif number == last + 1 and (code := source.code(at, last)):
            owner.parts.append(Row("\n".join(comment), code))
            comment = []
    return "\n".join(comment)


def _definition(source: Source, node: ast.stmt, prefix: str, comment: str) -> Definition:
    """Return the rows of a class or function; its first row holds its docstring and the code after it."""
    assert isinstance(node, DOCUMENTED)
    found = Definition(prefix + node.name)
    start, end = first_line(node), node.end_lineno or node.lineno
    if isinstance(node, ast.ClassDef):
        _add_statements(source, node.body, found, start, end, f"{found.name}.")
    else:
        _add_function(source, node, found, start, end)
    prose = "\n\n".join(filter(None, [comment, source.docstrings.get(node, "")]))
    head = found.parts[0] if found.parts else None
    if isinstance(head, Row) and not head.prose:
        head.prose = prose
    elif prose:
        found.parts.insert(0, Row(prose))
    return found


def _add_function(source: Source, node: ast.stmt, owner: Definition, first: int, last: int) -> None:
    """Add the rows of a function. A function in it with a docstring starts a row of its own."""
    inner = [
        each
        for each in ast.walk(node)
        if each is not node and isinstance(each, DOCUMENTED) and each in source.docstrings
    ]
    at = first
    for each in sorted(inner, key=first_line):
        start = first_line(each)
        if start < at:  # within the row of another one
            continue
        pending = _add_code(source, owner, at, start - 1)
        head = len(owner.parts)
        end = each.end_lineno or each.lineno
        left = _add_code(source, owner, start, end)
        if head == len(owner.parts):
            owner.parts.append(Row())
        row = owner.parts[head]
        assert isinstance(row, Row)
        row.prose = "\n\n".join(filter(None, [pending, source.docstrings[each], row.prose]))
        row.anchors.append(f"{owner.name}.{each.name}")
        if left:
            owner.parts.append(Row(left))
        at = end + 1
    if left := _add_code(source, owner, at, last):
        owner.parts.append(Row(left))
