"""The command line of a program, read from the dataclass of its flags without running the program."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from annotate import Source
from names import Module, Place, Suite, module_name


@dataclass(frozen=True)
class Flag:
    """A flag of a command line."""

    name: str
    """`--batch-size`, `--no-double` for a switch that is on by default, or FILES for a positional argument."""
    values: str
    """Type, or the values to choose from; empty for a switch."""
    default: str
    """Default as one types it; empty if the explanation describes it."""
    help: str
    anchor: str
    """Anchor of the field, `Config.batch_size`."""


@dataclass(frozen=True)
class CommandLine:
    """A command and its flags."""

    command: str
    flags: list[Flag]
    shared: Place | None
    """Dataclass of the flags that all programs share, if the program has them."""


def command_line(module: Module, suite: Suite) -> CommandLine | None:
    """Return the command line of a program; None if the module is not one."""
    chosen = _flag_class(module)
    name = module_name(module.path)
    if chosen is None:
        return None
    package, program = name.partition(".")[0], name.rpartition(".")[2]
    trained = any(isinstance(node, ast.FunctionDef) and node.name == "train" for node in module.tree.body)
    command = f"python -m {package}.train {program}" if trained else f"python -m {name}"
    source = Source(module.text, module.tree)
    flags, shared = [], None
    for node in chosen.body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        if node.target.id == "run":
            shared = suite.find("common.config", "RunOptions")
        else:
            flags.append(_flag(node, node.target.id, chosen.name, source, module, suite))
    return CommandLine(command, flags, shared)


def _flag_class(module: Module) -> ast.ClassDef | None:
    """Return the dataclass of a module's flags: Config of a program, or the one that a command parses."""
    classes = {node.name: node for node in module.tree.body if isinstance(node, ast.ClassDef)}
    functions = {node.name for node in module.tree.body if isinstance(node, ast.FunctionDef)}
    if "Config" in classes and "train" in functions:
        fields = {ast.unparse(node.target) for node in classes["Config"].body if isinstance(node, ast.AnnAssign)}
        return classes["Config"] if "run" in fields else None
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("parse", "tyro.cli"):
            parsed = [classes[ast.unparse(word)] for word in node.args[:1] if ast.unparse(word) in classes]
            if parsed:
                return parsed[0]
    return None


def _flag(node: ast.AnnAssign, name: str, owner: str, source: Source, module: Module, suite: Suite) -> Flag:
    words, anchor = name.replace("_", "-"), f"{owner}.{name}"
    explanation = source.docstrings.get(node, "")
    kind = ast.unparse(node.annotation)
    default = _default(node.value, module, suite)
    if kind == "bool":
        return Flag(f"--no-{words}" if default == "True" else f"--{words}", "", "", explanation, anchor)
    if "Positional" in kind:
        return Flag(words.upper(), "", default, explanation, anchor)
    values = " ".join(dict.fromkeys(_values(node.annotation, module, suite)))
    return Flag(f"--{words}", values, "" if default == "None" else default, explanation, anchor)


def _values(hint: ast.expr, module: Module, suite: Suite, depth: int = 5) -> Iterator[str]:
    """Yield the values of a type to choose from, or its name in capitals."""
    if isinstance(hint, ast.BinOp):
        for side in (hint.left, hint.right):
            yield from _values(side, module, suite, depth)
    elif isinstance(hint, ast.Subscript):
        base = ast.unparse(hint.value)
        items = hint.slice.elts if isinstance(hint.slice, ast.Tuple) else [hint.slice]
        if base == "Literal":
            for item in items:
                yield from [str(item.value)] if isinstance(item, ast.Constant) else _values(item, module, suite, depth)
        elif base in ("tuple", "list", "Sequence"):
            yield from _values(items[0], module, suite, depth)
            yield "..." if isinstance(items[-1], ast.Constant) and items[-1].value is ... else f"({len(items)} values)"
        elif base in ("Annotated", "Optional"):
            yield from _values(items[0], module, suite, depth)
    elif isinstance(hint, ast.Name) and depth and (alias := _assigned(hint.id, module, suite)):
        yield from _values(alias[0], alias[1], suite, depth - 1)
    elif not (isinstance(hint, ast.Constant) and hint.value is None):
        yield ast.unparse(hint).rpartition(".")[2].upper()


def _assigned(name: str, module: Module, suite: Suite) -> tuple[ast.expr, Module] | None:
    """Return the value of a constant that a module defines or imports, and the module that defines it."""
    place = suite.find(*module.imports[name]) if name in module.imports else Place(module_name(module.path), name)
    if place is None or place.module not in suite.modules:
        return None
    home = suite.modules[place.module]
    for node in home.tree.body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [place.name]:
            return node.value, home
    return None


def _default(value: ast.expr | None, module: Module, suite: Suite) -> str:
    """Return a default as a person would type it: `0.001`, `cpu gpu`, or `24 (curve), 8 (delayed)`."""
    if value is None:
        return ""
    if isinstance(value, ast.Name) and (found := _assigned(value.id, module, suite)):
        return _default(*found, suite)
    if isinstance(value, ast.Call):
        name = ast.unparse(value.func)
        if name == "default_by":
            choices = [f"{default} ({', '.join(case)})" for case, default in _cases(value, module, suite) if default]
            return ", ".join(choices)
        if name == "field":
            given = {word.arg: word.value for word in value.keywords}
            return _default(given["default"], module, suite) if "default" in given else ""
        if name == "Path" and value.args:
            return _default(value.args[0], module, suite)
        return ""
    if isinstance(value, ast.Tuple | ast.List):
        return " ".join(_default(item, module, suite) for item in value.elts)
    if isinstance(value, ast.Constant):
        return value.value if isinstance(value.value, str) else ast.unparse(value)
    if isinstance(value, ast.Attribute):
        return ""
    return re.sub(r"\s+", " ", ast.unparse(value))


def _cases(value: ast.expr, module: Module, suite: Suite) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the values of other flags for which a default applies, and that default (`common.config.default_by`)."""
    if not isinstance(value, ast.Call) or ast.unparse(value.func) != "default_by":
        yield (), _default(value, module, suite)
        return
    pairs: list[tuple[str, ast.expr]] = []
    for word in value.keywords:
        if word.arg:
            pairs.append((word.arg, word.value))
        elif isinstance(word.value, ast.Dict):
            pairs += [
                (str(key.value), item)
                for key, item in zip(word.value.keys, word.value.values, strict=True)
                if isinstance(key, ast.Constant)
            ]
    for choice, inner in pairs:
        yield from (((choice, *case), default) for case, default in _cases(inner, module, suite))
