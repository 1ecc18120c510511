"""The pages of the site, their reading order, and the navigation beside each page.

The order of a chapter's code is that of the docstrings of its `__init__.py` files: the chapter's lists its programs, a
topic's lists all files of its folder.
"""

import ast
import html
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

PACKAGES = ("common", "companion")
CODE = ("ch*/**/*.py", *(f"{package}/**/*.py" for package in PACKAGES), "tour.py", "hubconf.py")
NOTEBOOKS = "docs/notebooks"
PAGES = ("*.md", "ch*/**/*.md", "docs/*.md", f"{NOTEBOOKS}/*.md")
HIDDEN = re.compile(r"(^|/)(\.|_(?!_init__|_main__))|/exercises/(checks|solutions)/|pull_request_template")
CHINESE = ".zh-CN.md"
CHINESE_HEADINGS = {"Chapters": "章节", "Notebooks": "笔记本", "Shared code": "公共代码", "Project": "项目"}
LISTED = re.compile(r"^(\w+)(?:\.py)?(?= {2,}\S)", re.M)


@dataclass
class Entry:
    """A page in the navigation, with those below it."""

    docname: str
    title: str
    children: list["Entry"] = field(default_factory=list)

    def walk(self) -> Iterator["Entry"]:
        """Yield this entry and all below it, in reading order."""
        yield self
        for child in self.children:
            yield from child.walk()


def files(root: Path) -> list[str]:
    """List the pages and code files of the project, relative to its root."""
    found = {path.relative_to(root).as_posix() for pattern in (*PAGES, *CODE) for path in root.glob(pattern)}
    found |= {path.relative_to(root).as_posix() for path in root.glob(f"{NOTEBOOKS}/*.py")}
    return sorted(path for path in found if not HIDDEN.search(path))


def docname(path: str, *, chinese: bool = False) -> str | None:
    """Return the name of a file's page in the English or Chinese site; None if it has none there.

    The page of a folder's README.md is its index; the page of a code file has its whole name.
    """
    if path.endswith(CHINESE) != chinese:
        return None
    if path.endswith(".py"):
        return path
    stem = path.removesuffix(CHINESE if chinese else ".md")
    folder, _, name = stem.rpartition("/")
    return "/".join(filter(None, [folder, "index" if name == "README" else name]))


def heading(path: Path) -> str:
    """Return the title of a Markdown page, without its markup."""
    found = re.search(r"^# (.+)$", path.read_text(encoding="utf-8"), re.M)
    return found[1].replace("`", "").replace("*", "") if found else path.stem


def short_title(path: str, title: str) -> str:
    """Return the title of a page of a chapter without the number of the chapter."""
    title = re.sub(r"^Chapter \d+[^:]*: ", "", title)
    return "Answers" if path.endswith("exercises/ANSWERS.md") else title[:1].upper() + title[1:]


def listed(root: Path, init: str) -> list[str]:
    """Return the names that the docstring of an `__init__.py` lists, in its order."""
    path = root / init
    text = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "") if path.is_file() else ""
    return LISTED.findall(text)


def code_entries(root: Path, package: str, paths: list[str]) -> list[Entry]:
    """Return the entries of a package's code: its folders and files in reading order."""
    inside = [path for path in paths if path.startswith(f"{package}/") and path.endswith(".py")]
    names = listed(root, f"{package}/__init__.py")
    ranks = {name: place for place, name in enumerate(names)}

    def rank(child: str) -> tuple[bool, int, str]:
        """A file has the place of its name, a folder that of its name or of the first program in it."""
        last = child.endswith("/exercises")
        stem = child.rpartition("/")[2].removesuffix(".py")
        if stem in ranks:
            return last, ranks[stem], stem
        within = [
            ranks[Path(path).stem] for path in inside if path.startswith(f"{child}/") and Path(path).stem in ranks
        ]
        return last, min(within, default=len(ranks)), stem

    children = {f"{package}/" + path.removeprefix(f"{package}/").partition("/")[0] for path in inside}
    entries = []
    for child in sorted(children - {f"{package}/__init__.py"}, key=rank):
        name = child.rpartition("/")[2]
        if child.endswith(".py"):
            entries.append(Entry(child, name))
        elif f"{child}/__init__.py" in inside:
            entries.append(Entry(f"{child}/__init__.py", f"{name}/", code_entries(root, child, paths)))
        else:
            entries += code_entries(root, child, paths)
    return entries


def chapter_entry(root: Path, chapter: str, paths: list[str]) -> Entry:
    """Return the entries of a chapter: its page, the pages of its topics, answers, and its code."""
    pages = [path for path in paths if path.startswith(f"{chapter}/") and path.endswith(".md")]
    pages = [path for path in pages if not path.endswith(CHINESE) and path != f"{chapter}/README.md"]
    linked = (root / chapter / "README.md").read_text(encoding="utf-8")
    front = (root / "README.md").read_text(encoding="utf-8")

    def rank(path: str) -> tuple[bool, list[int], str]:
        """Topic pages in the order of the front page, then in that of the chapter's page; answers last."""
        places = [text.find(name) % (1 << 30) for text, name in ((front, path), (linked, path.partition("/")[2]))]
        return "exercises/" in path, places, path

    entry = Entry(f"{chapter}/index", heading(root / chapter / "README.md").replace("Chapter ", ""))
    for path in sorted(pages, key=rank):
        entry.children.append(Entry(docname(path) or "", short_title(path, heading(root / path))))
    code = Entry(f"{chapter}/__init__.py", "Code", code_entries(root, chapter, paths))
    entry.children.append(code)
    return entry


def contents(root: Path, paths: list[str]) -> list[tuple[str, list[Entry]]]:
    """Return the parts of the site, each with a heading and its entries."""

    def page(path: str) -> Entry:
        return Entry(docname(path) or "", heading(root / path))

    chapters = sorted({path.partition("/")[0] for path in paths if re.match(r"ch\d\d_", path)})
    notebooks = [path for path in paths if path.startswith(f"{NOTEBOOKS}/") and not path.endswith(CHINESE)]
    guides = [path for path in paths if re.fullmatch(r"docs/[^/]+\.md", path) and not path.endswith(CHINESE)]
    rest = [path for path in paths if re.fullmatch(r"[^/]+\.md", path) and not path.endswith(CHINESE)]
    rest.remove("README.md")
    rest.sort(key=lambda path: (path == "SECURITY.md", path == "CHANGELOG.md", path))
    package = [Entry(f"{name}/__init__.py", f"{name}/", code_entries(root, name, paths)) for name in PACKAGES]
    scripts = [Entry(path, path) for path in ("tour.py", "hubconf.py") if path in paths]
    parts = [
        ("", [Entry("index", "Overview"), *map(page, guides)]),
        ("Chapters", [chapter_entry(root, chapter, paths) for chapter in chapters]),
        ("Notebooks", [Entry(docname(path) or "", notebook_title(root / path)) for path in notebooks]),
        ("Shared code", [*package, *scripts]),
        ("Project", [page(path) for path in rest]),
    ]
    return [(title, entries) for title, entries in parts if entries]


def translate(parts: list[tuple[str, list[Entry]]], titles: dict[str, str]) -> list[tuple[str, list[Entry]]]:
    """Return the parts of the Chinese site: the pages that exist in Chinese have the titles given by page."""
    for _, entries in parts:
        for entry in (each for top in entries for each in top.walk()):
            entry.title = titles.get(entry.docname, entry.title)
    return [(CHINESE_HEADINGS.get(title, title), entries) for title, entries in parts]


def notebook_title(path: Path) -> str:
    """Return the title of a notebook in percent format or in Markdown."""
    found = re.search(r"^# # (.+)$" if path.suffix == ".py" else r"^# (.+)$", path.read_text(encoding="utf-8"), re.M)
    return found[1] if found else path.stem


def navigation(parts: list[tuple[str, list[Entry]]], current: str, address: Callable[[str], str]) -> str:
    """Return the navigation of a page as nested lists; only the branch of the page itself is unfolded."""

    def branch(entry: Entry, level: int) -> str:
        within = any(each.docname == current for each in entry.walk())
        classes = f"toctree-l{level}" + " current" * within
        shown = f'<li class="{classes}"><a class="reference internal" href="{html.escape(address(entry.docname))}">'
        shown += f"{html.escape(entry.title)}</a>"
        if entry.children and within:
            shown += f"<ul>{''.join(branch(child, level + 1) for child in entry.children)}</ul>"
        return f"{shown}</li>"

    shown = ""
    for title, entries in parts:
        shown += f'<p class="caption" role="heading"><span class="caption-text">{title}</span></p>' if title else ""
        shown += f"<ul>{''.join(branch(entry, 1) for entry in entries)}</ul>"
    return shown
