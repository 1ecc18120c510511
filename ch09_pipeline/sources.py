"""Find and hash the suite's source files that a module imports: the checksum of the code in a model's provenance."""

import ast
import hashlib
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OWN = re.compile(r"(common|ch\d\d_\w+)(\.|$)")
"""Names of the suite's packages."""


def source_files(module: str) -> list[Path]:
    """List a module's file and the suite's files that it imports, directly or indirectly, as paths relative to ROOT."""
    files: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _find(name)
        if name in files or path is None:
            continue
        files[name] = path
        waiting.append(name.rpartition(".")[0])  # importing a.b runs a's __init__ as well
        waiting += _imported((ROOT / path).read_bytes())
    return sorted(set(files.values()))


@cache
def _imported(source: bytes) -> list[str]:
    """List all names that a file imports, including functions and classes; cached, since stages share most imports."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def _find(name: str) -> Path | None:
    """Return the path of a module of the suite relative to ROOT; None for any other name."""
    if not OWN.match(name):
        return None
    path = Path(*name.split("."))
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if (ROOT / p).is_file()), None)


def code_checksum(module: str) -> str:
    """Hash the names and contents of a module's source files."""
    digest = hashlib.sha256()
    for path in source_files(module):
        digest.update(f"{path.as_posix()} {hashlib.sha256((ROOT / path).read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()
