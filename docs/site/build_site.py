"""Build the documentation site into build/site: the English pages, and the Chinese ones in zh/. `make site` runs this.

NOTEBOOKS=off in the environment shows the notebooks without running them.
"""

import argparse
import html
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import unquote, urlsplit

import formulas
import order

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def build(out: Path, language: str, only: str = "") -> None:
    """Build the pages of one language; a warning of Sphinx is an error."""
    words = ["-q", "-E", "-W", "--keep-going", "-b", "html", "-c", str(HERE), "-D", f"site_only={only}"]
    folders = ["-d", str(ROOT / "build" / f"doctrees-{language}"), str(ROOT), str(out)]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))  # notebooks import the chapters
    environment = {**os.environ, "SITE_LANGUAGE": language, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-m", "sphinx", *words, *folders], cwd=ROOT, env=environment)
    if done.returncode:
        raise RuntimeError(f"the pages have the errors and warnings above ({out})")


def broken_links(out: Path, *, complete: bool = True) -> list[str]:
    """List the links of the pages to files, pages and anchors of the site that do not exist.

    If the site is not complete, links to pages that are not built are left out.
    """
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(out.rglob("*.html"))}
    anchors = {path: set(re.findall(r'\bid="([^"]+)"', text)) for path, text in texts.items()}
    broken = []
    for page, text in texts.items():
        for address in sorted(set(re.findall(r'\b(?:href|src)="([^"]+)"', text))):
            parts = urlsplit(html.unescape(address))
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page.resolve()
            anchor = unquote(parts.fragment)
            if not target.is_file():
                if complete or target.suffix != ".html":
                    broken.append(f"{page.relative_to(out)}: {address}")
            elif anchor and target in anchors and anchor not in anchors[target] and not anchor.startswith("svg-"):
                broken.append(f"{page.relative_to(out)}: {address}")
    return broken


def main(words: list[str] | None = None) -> None:
    """Build the site and print where it is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "site", help="folder of the site")
    parser.add_argument("--only", default="", help="regular expression of the files whose pages are built")
    options = parser.parse_args(words)
    started = time.perf_counter()
    try:
        formulas.install()
        shutil.rmtree(options.out, ignore_errors=True)
        build(options.out, "en", options.only)
        if any(path.endswith(order.CHINESE) for path in order.files(ROOT)):
            build(options.out / "zh", "zh_CN", options.only)
        if broken := broken_links(options.out.resolve(), complete=not options.only):
            raise RuntimeError("links to what does not exist: " + "; ".join(broken[:20]))
    except (OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    pages = len(list(options.out.rglob("*.html")))
    print(f"site     {pages} pages in {time.perf_counter() - started:.0f} s: {options.out / 'index.html'}")


if __name__ == "__main__":
    main()
