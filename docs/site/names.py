"""Names of the suite: what each module defines and imports, so that a name in code can link to its definition."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from annotate import statements, targets


@dataclass(frozen=True)
class Place:
    """A module of the suite, and the name of a definition in it; empty for the module itself."""

    module: str
    name: str = ""


@dataclass
class Module:
    """Definitions and imports of one file."""

    path: str
    """Path from the root of the project, with slashes."""
    text: str
    tree: ast.Module
    defined: set[str] = field(default_factory=set)
    imports: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Module and name (empty for a module) of each imported name."""


def module_name(path: str) -> str:
    """Return the dotted name of a file: `ch06_cnn/detection/__init__.py` is `ch06_cnn.detection`."""
    return path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


class Suite:
    """All modules of the suite by their dotted names."""

    def __init__(self, root: Path, paths: list[str]) -> None:
        self.modules = {}
        for path in paths:
            self.modules[module_name(path)] = read_module(path, (root / path).read_text(encoding="utf-8"))

    def find(self, module: str, name: str = "", *, depth: int = 5) -> Place | None:
        """Return where `name`, imported from a module, is defined; None if that is not in the suite."""
        if not name:
            return Place(module) if module in self.modules else None
        if f"{module}.{name}" in self.modules:
            return Place(f"{module}.{name}")
        if module not in self.modules or depth == 0:
            return None
        known = self.modules[module]
        if name in known.defined:
            return Place(module, name)
        if name in known.imports:
            return self.find(*known.imports[name], depth=depth - 1)
        return None


def read_module(path: str, text: str) -> Module:
    """Read the definitions and imports of a file."""
    module = Module(path, text, ast.parse(text))
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.asname or "." not in alias.name:
                    module.imports[alias.asname or alias.name] = (alias.name, "")
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                module.imports[alias.asname or alias.name] = (node.module, alias.name)
    module.defined = set(_defined(module.tree.body, ""))
    return module


def _defined(body: list[ast.stmt], prefix: str) -> Iterator[str]:
    for node in statements(body):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield prefix + node.name
            if isinstance(node, ast.ClassDef) and node in body:
                yield from _defined(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            yield from targets(node, prefix)


Spot = tuple[int, int, int]
"""Line, first column and column after the last of a name, in bytes of UTF-8, as in the syntax tree.

The first line is 1, the first column 0.
"""


def references(module: Module, suite: Suite) -> dict[Spot, Place]:
    """Find the names in a file that are defined in the suite, and the definition of each.

    Names that a function binds (its arguments and local variables) are left out.
    """
    here = module_name(module.path)
    found: dict[Spot, Place] = {}

    def add(name: str, line: int, last: int, place: Place) -> None:
        found[line, last - len(name.encode()), last] = place

    def place_of(name: str, hidden: frozenset[str]) -> Place | None:
        if name in hidden:
            return None
        if name in module.imports:
            return suite.find(*module.imports[name])
        return Place(here, name) if name in module.defined else None

    def resolve(node: ast.expr, hidden: frozenset[str]) -> Place | None:
        """Return the definition that a name or `module.name` stands for."""
        if isinstance(node, ast.Name):
            return place_of(node.id, hidden)
        if isinstance(node, ast.Attribute) and (owner := resolve(node.value, hidden)):
            if not owner.name:
                return suite.find(owner.module, node.attr)
            member = f"{owner.name}.{node.attr}"
            return Place(owner.module, member) if member in suite.modules[owner.module].defined else None
        return None

    def visit(node: ast.AST, hidden: frozenset[str]) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            for outside in (*getattr(node, "decorator_list", ()), *_annotations(node), *_defaults(node)):
                visit(outside, hidden)
            inside = hidden | bound_names(node)
            for part in node.body if isinstance(node.body, list) else [node.body]:
                visit(part, inside)
            return
        if isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            hidden = hidden | _stored(node)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            if place := resolve(node, hidden):
                add(node.id, node.lineno, node.end_col_offset or 0, place)
        elif isinstance(node, ast.Attribute):
            if place := resolve(node, hidden):
                add(node.attr, node.end_lineno or 0, node.end_col_offset or 0, place)
        elif isinstance(node, ast.ImportFrom) and node.module:
            _add_import(node, suite, found)
        for child in ast.iter_child_nodes(node):
            visit(child, hidden)

    visit(module.tree, frozenset())
    return found


def _add_import(node: ast.ImportFrom, suite: Suite, found: dict[Spot, Place]) -> None:
    """Add the module and the names of `from module import names`."""
    assert node.module
    if node.module in suite.modules:
        start = node.col_offset + len("from ")
        found[node.lineno, start, start + len(node.module)] = Place(node.module)
    for alias in node.names:
        if place := suite.find(node.module, alias.name):
            found[alias.lineno, alias.col_offset, alias.col_offset + len(alias.name.encode())] = place


def _annotations(node: ast.AST) -> Iterator[ast.expr]:
    arguments = getattr(node, "args", None)
    if isinstance(arguments, ast.arguments):
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        yield from (each.annotation for each in every if each and each.annotation)
    if returns := getattr(node, "returns", None):
        yield returns


def _defaults(node: ast.AST) -> Iterator[ast.expr]:
    arguments = getattr(node, "args", None)
    if isinstance(arguments, ast.arguments):
        yield from (each for each in (*arguments.defaults, *arguments.kw_defaults) if each)


def _stored(node: ast.AST) -> frozenset[str]:
    return frozenset(
        each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
    )


def bound_names(node: ast.AST) -> frozenset[str]:
    """Return the arguments and local variables of a function, also those of functions in it."""
    arguments = {each.arg for each in ast.walk(node) if isinstance(each, ast.arg)}
    inner = {
        each.name
        for each in ast.walk(node)
        if each is not node and isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    shared = {name for each in ast.walk(node) if isinstance(each, ast.Global) for name in each.names}
    return (_stored(node) | arguments | inner) - shared
