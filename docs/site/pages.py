"""Sphinx extension of the site: which files are pages, and how they link to each other.

The pages are the Markdown files and the code of the project where they lie; nothing is copied for the site. Links
between the files, as they work on GitHub, become links between the pages.
"""

import json
import os
import posixpath
import re
import shutil
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.transforms import Transform
from myst_nb.sphinx_ import Parser
from myst_parser.slugs import github_slugify
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.parsers import Parser as SphinxParser
from sphinx.project import Project
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging

import formulas
import order
from code_pages import Result, Writer
from names import Suite, module_name

LOGGER = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parents[2]
ELSEWHERE = "elsewhere:"
"""Start of the name of a page that is in the other language or not built, before its address."""
LANGUAGES = re.compile(r"(English|中文|简体中文)(\s*[|·]\s*(English|中文|简体中文))*")
CHINESE_FOLDER = "zh/"
MARKER = re.compile(r"^#+ (?P<heading>.+)$|^<!-- ledger: (?P<records>[^|>]+?) \|", re.M)


@dataclass
class Site:
    """All pages in both languages."""

    chinese: bool
    """Whether the Chinese pages are built."""
    paths: list[str] = field(default_factory=list)
    pages: dict[str, str] = field(default_factory=dict)
    """Page of each file in the language that is built."""
    docnames: set[str] = field(default_factory=set)
    """Pages that are built."""
    others: dict[str, str] = field(default_factory=dict)
    """Page of each file in the other language."""
    parts: list[tuple[str, list[order.Entry]]] = field(default_factory=list)
    suite: Suite = field(default_factory=lambda: Suite(ROOT, []))
    results: dict[tuple[str, str], list[Result]] = field(default_factory=dict)
    own: set[str] = field(default_factory=set)
    """All pages of the language that is built."""
    pictures: set[str] = field(default_factory=set)
    """Files that HTML in Markdown refers to."""

    @classmethod
    def read(cls, *, chinese: bool, only: str = "", root: Path = ROOT) -> "Site":
        """Find the pages, their order, the names that the code defines, and the results that pages show.

        `only` is a regular expression of the files whose pages are built, for a small site; empty for all.
        """
        site = cls(chinese, order.files(root))
        for path in site.paths:
            for name, pages in (
                (order.docname(path, chinese=chinese), site.pages),
                (order.docname(path, chinese=not chinese), site.others),
            ):
                if name:
                    pages[path] = name
        site.own = set(site.pages.values())
        site.docnames = {name for path, name in site.pages.items() if re.search(only, path)}
        site.parts = order.contents(root, site.paths)
        if chinese:
            titles = {name: order.heading(root / path) for path, name in site.pages.items()}
            site.parts = order.translate(site.parts, titles)
        site.suite = Suite(root, [path for path in site.paths if is_code(path)])
        site.results = shown_results(root, [path for path in site.paths if path.endswith(".md")])
        return site

    @property
    def bilingual(self) -> bool:
        """Whether there are pages in both languages."""
        return bool(self.pages) and bool(self.others)

    def url(self, docname: str, *, other: bool = False) -> str:
        """Return the address of a page from the root of the site."""
        return CHINESE_FOLDER * (self.chinese != other) + f"{docname}.html"

    def relative(self, here: str, docname: str, anchor: str = "") -> str:
        """Return the address of a page as seen from another one of the site that is built."""
        return self.relative_url(here, self.url(docname, other=docname not in self.own), anchor)

    def relative_url(self, here: str, url: str, anchor: str = "") -> str:
        """Return an address, given from the root of the site, as seen from a page."""
        return posixpath.relpath(url, posixpath.dirname(self.url(here)) or ".") + anchor

    def url_of(self, path: str) -> str:
        """Return the address of a file's page from the root of the site; empty if it has none."""
        if path in self.pages:
            return self.url(self.pages[path])
        return self.url(self.others[path], other=True) if path in self.others else ""

    def resolve(self, text: str, page: str) -> tuple[str, str] | None:
        """Return the address and the anchor that a path or name in the text of a page stands for.

        A path starts at the folder of the page, at its chapter or at the root: `detection/boxes.py`, `common/data/`.
        A name is that of a module of the chapter with one that it defines: `anchors.match`.
        """
        folder = posixpath.dirname(page)
        if re.fullmatch(r"[\w.-]+(/[\w.-]+)*(\.py|\.md|/)", text):
            for start in dict.fromkeys([folder, folder.partition("/")[0], ""]):
                path = posixpath.normpath(posixpath.join(start, text))
                path = f"{path}/__init__.py" if text.endswith("/") else path
                if found := self.url_of(path):
                    return found, ""
        elif re.fullmatch(r"[a-z_]\w*(\.\w+)+", name := re.sub(r"\(.*\)$", "", text)):
            module, _, rest = name.partition(".")
            chapter = folder.partition("/")[0]
            found = [
                each for each in self.suite.modules if each.startswith(f"{chapter}.") and each.endswith(f".{module}")
            ]
            defining = [each for each in found if rest in self.suite.modules[each].defined]
            if len(defining) == 1:
                return self.url_of(self.suite.modules[defining[0]].path), f"#{rest}"
        return None


def is_code(path: str) -> bool:
    """Tell whether a file gets an annotated page."""
    return path.endswith(".py") and not path.startswith(order.NOTEBOOKS)


def shown_results(root: Path, paths: Iterable[str]) -> dict[tuple[str, str], list[Result]]:
    """Return for each program (chapter and name) the sections of pages that show its records."""
    found: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for path in paths:
        name = order.docname(path)
        if name is None:
            continue
        text = (root / path).read_text(encoding="utf-8")
        section, title = "", order.short_title(path, order.heading(root / path))
        for marker in MARKER.finditer(text):
            if marker["heading"]:
                section = marker["heading"].replace("`", "")
                continue
            for record in marker["records"].split():
                file = root / "results" / f"{record}.json"
                command = json.loads(file.read_text(encoding="utf-8"))["command"] if file.is_file() else ""
                if words := re.search(r"(ch\d\d_\w+)\.train (\w+)", command):
                    shown = section if name.endswith("/index") else f"{title}: {section}"
                    result = Result(name, github_slugify(re.sub(r"\$[^$]*\$", "", section)), shown)
                    if result not in found[words[1], words[2]]:
                        found[words[1], words[2]].append(result)
    return dict(found)


class SuiteProject(Project):
    """The files of the project that are pages, with names that keep the suffix of code files."""

    def __init__(self, site: Site) -> None:
        super().__init__(ROOT, [".md", ".py"])
        self.site = site

    def discover(self, *_: Any, **__: Any) -> set[str]:
        """List the pages."""
        self.docnames = self.site.docnames
        paths = {path: name for path, name in self.site.pages.items() if name in self.docnames}
        self._docname_to_path = {name: Path(path) for path, name in paths.items()}
        self._path_to_docname = {path: name for name, path in self._docname_to_path.items()}
        return self.docnames

    def path2doc(self, filename: str | os.PathLike[str]) -> str | None:
        """Return the page of a file; for a page that is not built, ELSEWHERE and its address."""
        path = Path(filename)
        path = path.relative_to(ROOT) if path.is_absolute() and path.is_relative_to(ROOT) else path
        if name := self._path_to_docname.get(path):
            return name
        url = self.site.url_of(path.as_posix())
        return f"{ELSEWHERE}{url}" if url else None


class SuiteParser(Parser):
    """Parse Markdown and notebooks as MyST-NB does; other code becomes an annotated page."""

    def get_transforms(self) -> list[type[Transform]]:
        """Return the transforms of a document: those of MyST are for Markdown only."""
        return SphinxParser.get_transforms(self) if is_code(self._env.docname) else super().get_transforms()

    def parse(self, inputstring: str, document: nodes.document) -> None:
        """Parse a file into a document."""
        env: BuildEnvironment = document.settings.env
        name, project = env.docname, env.project
        if not is_code(name):
            super().parse(inputstring, document)
            return
        assert isinstance(project, SuiteProject)
        site = project.site
        module = site.suite.modules[module_name(name)]
        package, _, program = module_name(name).partition(".")
        results = site.results.get((package, program.rpartition(".")[2]), [])

        def formula(tex: str) -> str:
            return typeset(tex, display=False, location=name)

        writer = Writer(site.suite, lambda page, anchor: site.relative(name, page, anchor), formula, results)
        document += writer.page(module)


class LinkPages(SphinxPostTransform):
    """Resolve links to pages in the other language, HTML in Markdown, and names in the text."""

    default_priority = 5

    def run(self, **_: Any) -> None:
        """Change the links of a document."""
        here = self.env.docname
        site = site_of(self.app)
        for node in list(self.document.findall(addnodes.pending_xref)):
            if str(node.get("reftarget", "")).startswith(ELSEWHERE):
                anchor = f"#{node['reftargetid']}" if node.get("reftargetid") else ""
                uri = site.relative_url(here, node["reftarget"].removeprefix(ELSEWHERE), anchor)
                node.replace_self(nodes.reference("", "", *node.children, refuri=uri, internal=True))
        for node in list(self.document.findall(nodes.paragraph)):
            if LANGUAGES.fullmatch(node.astext()):  # for GitHub; the site has these links at the top of all pages
                node.parent.remove(node)
        for node in list(self.document.findall(nodes.raw)):
            if node.get("format") == "html" and not is_code(here):
                node.replace_self(nodes.raw("", self.relink(node.astext(), site), format="html"))
        if is_code(here):
            return
        page = self.env.doc2path(here, base=False).as_posix()
        for node in list(self.document.findall(nodes.literal)):
            if isinstance(node.parent, nodes.reference | addnodes.pending_xref | nodes.title):
                continue
            if found := site.resolve(node.astext(), page):
                link = nodes.reference(
                    "", "", refuri=site.relative_url(here, *found), internal=True, classes=["code-link"]
                )
                node.replace_self(link)
                link += node

    def relink(self, text: str, site: Site) -> str:
        """Remove the comments of HTML in Markdown and change the addresses of files to those of their pages."""
        page = self.env.doc2path(self.env.docname, base=False).as_posix()

        def address(found: re.Match) -> str:
            target, _, anchor = found["target"].partition("#")
            if not target or re.match(r"[a-z]+:|//", target):
                return found[0]
            path = posixpath.normpath(posixpath.join(posixpath.dirname(page), target))
            if url := site.url_of(path):
                uri = site.relative_url(self.env.docname, url, f"#{anchor}" if anchor else "")
            elif (ROOT / path).is_file():
                site.pictures.add(path)
                folder = posixpath.dirname(self.env.docname)
                uri = posixpath.relpath(path, folder or ".")
            else:
                LOGGER.warning("%s does not exist", path, location=self.env.docname, type="site")
                return found[0]
            return f'{found["name"]}="{uri}"'

        text = re.sub(r"<!--.*?-->", "", text, flags=re.S)
        text = re.sub(
            r'(<img\b[^>]*?)\bheight="(\d+)"', r'\1style="height: \2px"', text
        )  # the theme's style wins otherwise
        return re.sub(r'(?P<name>\b(?:href|src|srcset))="(?P<target>[^"]*)"', address, text)


def typeset(tex: str, *, display: bool, location: Any) -> str:
    """Return a formula as HTML; a mistake in it is a warning of Sphinx."""
    try:
        return formulas.typeset(tex, display=display)
    except formulas.FormulaError as error:
        LOGGER.warning("%s", error, location=location, type="site")
        return f"<code>{nodes.unescape(tex)}</code>"


def visit_formula(self: Any, node: nodes.math) -> None:
    """Write a formula in a line."""
    self.body.append(typeset(node.astext(), display=False, location=node))
    raise nodes.SkipNode


def visit_displayed_formula(self: Any, node: nodes.math_block) -> None:
    """Write a formula on its own line."""
    self.body.append(f'<div class="formula">{typeset(node.astext(), display=True, location=node)}</div>')
    raise nodes.SkipNode


def site_of(app: Sphinx) -> Site:
    """Return the pages of the site that Sphinx builds."""
    return app.project.site  # type: ignore[attr-defined]


def start(app: Sphinx) -> None:
    """Read the project before Sphinx looks for its pages."""
    formulas.install()
    project = SuiteProject(Site.read(chinese=app.config.language.startswith("zh"), only=app.config.site_only))
    app.project = app.env.project = project
    formulas.copy_styles(Path(app.outdir) / "_static" / "katex")


def add_context(app: Sphinx, pagename: str, _template: str, context: dict[str, Any], _doctree: Any) -> None:
    """Give a page its navigation, the pages before and after it, its place, and its other language."""
    site = site_of(app)

    def address(docname: str) -> str:
        return site.relative(pagename, docname)

    context["toctree"] = lambda **_: order.navigation(site.parts, pagename, address)
    context["annotated"] = is_code(pagename) and pagename in site.docnames
    if context["annotated"]:
        context["meta"] = {**(context.get("meta") or {}), "hide-toc": True}
    entries = [each for _, part in site.parts for entry in part for each in entry.walk()]
    entries = [each for each in entries if each.docname in site.docnames]
    place = next((number for number, each in enumerate(entries) if each.docname == pagename), None)
    context["prev"] = context["next"] = None
    if place is not None:
        for name, number in (("prev", place - 1), ("next", place + 1)):
            if 0 <= number < len(entries):
                entry = entries[number]
                title = app.env.titles[entry.docname].astext()
                context[name] = {"link": address(entry.docname), "title": title}
    context["trail"] = [(entry.title, address(entry.docname)) for entry in trail(site.parts, pagename)]
    context["languages"] = languages(site, pagename)


def trail(parts: list[tuple[str, list[order.Entry]]], docname: str) -> list[order.Entry]:
    """Return the entries above a page."""
    level = [entry for _, entries in parts for entry in entries]
    found = []
    while inside := next((each for each in level if any(it.docname == docname for it in each.walk())), None):
        if inside.docname == docname:
            break
        found.append(inside)
        level = inside.children
    return found


def languages(site: Site, docname: str) -> list[tuple[str, str, str]]:
    """Return code, name and address of the other language of a page, or of its chapter, or of the front page."""
    if not site.bilingual:
        return []
    others = set(site.others.values())
    folder = docname.partition("/")[0]
    target = next((each for each in (docname, f"{folder}/index", "index") if each in others), "index")
    folder = posixpath.dirname(site.url(docname)) or "."
    uri = posixpath.relpath(site.url(target, other=True), folder)
    return [("en", "English", uri)] if site.chinese else [("zh-CN", "中文", uri)]


def finish(app: Sphinx, error: Exception | None) -> None:
    """Copy the pictures of HTML in Markdown; end the process of KaTeX."""
    formulas.close()
    if error is None:
        for path in site_of(app).pictures:
            target = Path(app.outdir) / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, target)


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the extension to Sphinx."""
    app.add_config_value("site_only", "", "env", str)
    app.add_source_parser(SuiteParser, override=True)
    app.add_post_transform(LinkPages)
    app.add_html_math_renderer("katex", (visit_formula, None), (visit_displayed_formula, None))
    app.connect("builder-inited", start, priority=100)
    app.connect("html-page-context", add_context, priority=100)
    app.connect("build-finished", finish)
    return {"parallel_read_safe": False, "parallel_write_safe": False}
