"""The documentation site: annotated pages of code, links, reading order, and the built pages in Chromium."""

import ast
import html
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from conftest import ROOT

pytest.importorskip("sphinx", reason="sphinx is not installed")

import annotate
import build_site
import chinese
import flags
import formulas
import highlight
import names
import order
import pages
import prose

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def rows(text: str) -> list[tuple[str, str]]:
    """List prose and code of each row of a file."""
    lines = text.splitlines()
    _, module = annotate.annotate(text)
    return [(row.prose, "\n".join(lines[number - 1] for number in row.lines)) for row in module.rows()]


def test_docstrings_and_comments_are_paired_with_the_code_below():
    text = '''\
"""A module."""

import math

RATE = 0.5
"""A rate."""


# Helper of f.
@cached
def f(x):
    """Return y."""
    y = x  # at the end of a line
    # Two lines
    # of comment.
    y = [
        y,
        # within brackets
    ]
    # Third.
    return y


def g():
    return "# no comment"
'''
    assert annotate.annotate(text)[0] == "A module."
    assert rows(text) == [
        ("", "import math"),
        ("A rate.", "RATE = 0.5"),
        ("Helper of f.\n\nReturn y.", "@cached\ndef f(x):\n    y = x  # at the end of a line"),
        ("Two lines\nof comment.", "    y = [\n        y,\n        # within brackets\n    ]"),
        ("Third.", "    return y"),
        ("", 'def g():\n    return "# no comment"'),
    ]


def test_classes_methods_and_nested_functions():
    text = '''\
class A(B):
    """A class."""

    size: int = 1
    """Size."""
    other = 2

    @property
    def f(self):
        """Property."""

        def inner():
            """Inner."""
            return 1

        return inner()

    @f.setter
    def f(self, value):
        pass


async def g(): """One line."""
'''
    _, module = annotate.annotate(text)
    assert [each.name for each in module.definitions()] == ["A", "A.f", "A.f", "g"]
    assert [row.anchors for row in module.rows() if row.anchors] == [["A.size"], ["A.other"], ["A.f.inner"]]
    assert rows(text) == [
        ("A class.", "class A(B):"),
        ("Size.", "    size: int = 1"),
        ("", "    other = 2"),
        ("Property.", "    @property\n    def f(self):"),
        ("Inner.", "        def inner():\n            return 1"),
        ("", "        return inner()"),
        ("", "    @f.setter\n    def f(self, value):\n        pass"),
        ("", 'async def g(): """One line."""'),
    ]


def test_definitions_within_if_and_try_have_anchors_in_their_row():
    text = """\
if TYPE_CHECKING:
    Line = int
    def f(): ...
try:
    import torch
except ImportError:
    torch = None
"""
    _, module = annotate.annotate(text)
    assert [row.anchors for row in module.rows()] == [["Line", "f", "torch"]]
    assert names.read_module("a.py", text).defined == {"Line", "f", "torch"}


def test_module_without_docstring_strings_of_several_lines_and_a_comment_at_the_end():
    text = 'x = """\n# in a string\n"""\n\nif x:\n    """No docstring."""\n# last\n'
    assert annotate.annotate(text)[0] == ""
    assert rows(text) == [("", 'x = """\n# in a string\n"""\n\nif x:\n    """No docstring."""'), ("last", "")]
    assert rows("") == []


CODE = [path for path in order.files(ROOT) if pages.is_code(path)]


def test_every_line_of_code_is_in_one_row():
    for path in CODE[::7]:
        text = (ROOT / path).read_text(encoding="utf-8")
        source = annotate.Source(text, ast.parse(text))
        numbers = range(1, len(source.lines) + 1)
        expected = [number for number in numbers if number not in source.prose and source.lines[number - 1].strip()]
        _, module = annotate.annotate(text)
        shown = [number for row in module.rows() for number in row.lines if source.lines[number - 1].strip()]
        assert shown == expected, path


def suite(tmp_path: Path, **files: str) -> names.Suite:
    """Make a suite of files; two underscores in a name stand for a slash."""
    for name, text in files.items():
        path = tmp_path / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return names.Suite(tmp_path, [f"{name.replace('__', '/')}.py" for name in files])


def linked(known: names.Suite, module: str) -> list[tuple[str, str]]:
    """List the linked names of a module, each with the definition that it links to."""
    found = names.references(known.modules[module], known)
    lines = known.modules[module].text.splitlines()
    return [
        (lines[line - 1].encode()[first:last].decode(), f"{place.module}:{place.name}")
        for (line, first, last), place in sorted(found.items())
    ]


def test_names_link_to_their_definitions(tmp_path):
    known = suite(
        tmp_path,
        a__boxes="LIMIT = 1\n\n\ndef iou():\n    pass\n\n\nclass Box:\n    side = 1\n",
        a__front="from a.boxes import iou as overlap\n",
        b="""\
import math

from a import boxes
from a.boxes import Box, iou
from a.front import overlap

é = "é", iou(math.pi)


def f(iou):
    g = iou
    return boxes.LIMIT, Box.side, overlap, f, g, boxes.unknown, f"{boxes.iou()}"


TEXT = (
    "a"
    f"{LONG} é {f(boxes.LIMIT)}"
    f'''
    {overlap:>3} {Box}'''
)
""",
    )
    assert linked(known, "b")[:8] == [
        ("boxes", "a.boxes:"),
        ("a.boxes", "a.boxes:"),
        ("Box", "a.boxes:Box"),
        ("iou", "a.boxes:iou"),
        ("a.front", "a.front:"),
        ("overlap", "a.boxes:iou"),
        ("iou", "a.boxes:iou"),
        ("boxes", "a.boxes:"),
    ]
    rest = linked(known, "b")[8:]
    assert rest[:5] == [
        ("LIMIT", "a.boxes:LIMIT"),
        ("Box", "a.boxes:Box"),
        ("side", "a.boxes:Box.side"),
        ("overlap", "a.boxes:iou"),
        ("f", "b:f"),
    ]
    assert {text for text, _ in rest} <= {"LIMIT", "Box", "side", "overlap", "f", "boxes", "iou"}
    assert ("iou", "b:iou") not in rest


def test_highlighted_lines_are_escaped_and_keep_their_text(tmp_path):
    text = 'from a import f\n\n\nx = "<b>&amp;" if f < 1 else """é\n</pre>"""  # <i>\né = "é", f\n'
    known = suite(tmp_path, a="def f():\n    pass\n", b=text)
    lines = highlight.highlight(text, names.references(known.modules["b"], known), lambda place: f'?"{place.name}')
    assert [html.unescape(re.sub("<[^>]*>", "", line)) for line in lines] == text.splitlines()
    assert "&lt;b&gt;&amp;amp;" in lines[3]
    assert "&lt;/pre&gt;" in lines[4]
    assert '<a href="?&quot;f"><span class="n">f</span></a>' in lines[0]
    assert 'tabindex="-1"><span class="n">f</span></a>' in lines[5], "columns are counted in bytes before"
    assert [line.count('tabindex="-1"') for line in lines] == [0, 0, 0, 1, 0, 1], "only the first link of a name"


def test_prose():
    def render(text: str) -> str:
        return prose.render(text, lambda tex: f"[{tex}]", lambda name: f"#{name}" if name == "iou" else "")

    assert render("a < b, (A, 4) -> (B,): see `iou` and `x`") == (
        '<p>a &lt; b, (A, 4) → (B,): see <a href="#iou"><code class="literal"><span class="pre">iou</span></code></a> '
        'and <code class="literal"><span class="pre">x</span></code></p>'
    )
    assert render("A *problem*, 2 * 3 * 4, **kwargs, $x^2$, 5$") == (
        "<p>A <em>problem</em>, 2 * 3 * 4, **kwargs, [x^2], 5$</p>"
    )
    assert render("Then\n\n    A[t] = d[t] + g l A[t+1]\n      <b>") == (
        "<p>Then</p>\n<pre>A[t] = d[t] + g l A[t+1]\n  &lt;b&gt;</pre>"
    )
    assert '<div class="highlight commands"><pre>' in render("python -m a.train b    # 'quoted'")
    assert render("iou  overlap\nboxes.py  areas\n          and sides") == (
        '<dl class="listing"><dt><a href="#iou"><code>iou</code></a></dt><dd>overlap</dd>'
        "<dt><code>boxes.py</code></dt><dd>areas and sides</dd></dl>"
    )
    assert render("1. one\n   more\n2. two") == "<ol><li>one more</li><li>two</li></ol>"
    assert 'href="https://a.org/b"' in render("(https://a.org/b)")


def test_flags_of_a_program(tmp_path):
    text = '''\
from common.config import RunOptions, default_by
from c.kinds import Kind

STEPS = 8


@dataclass(frozen=True)
class Config:
    files: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Files."""
    kind: Kind | None = None
    """Kind. Default: chosen."""
    rate: float = 1e-3
    sizes: tuple[int, ...] = (2, STEPS)
    double: bool = True
    """Double."""
    quick: bool = False
    horizon: int = default_by("kind", **{"a-b": 3}, c=default_by("quick", d=STEPS))
    out: Path = Path("runs")
    run: RunOptions = field(default_factory=RunOptions)


def train(config):
    """Train."""
'''
    known = suite(
        tmp_path,
        ch1__p=text,
        c__kinds='Base = Literal["b"]\nKind = Literal["a", Base]\n',
        common__config="class RunOptions: pass",
    )
    line = flags.command_line(known.modules["ch1.p"], known)
    assert line
    assert line.command == "python -m ch1.train p"
    assert line.shared == names.Place("common.config", "RunOptions")
    assert [(flag.name, flag.values, flag.default) for flag in line.flags] == [
        ("FILES", "", ""),
        ("--kind", "a b", ""),
        ("--rate", "FLOAT", "0.001"),
        ("--sizes", "INT ...", "2 8"),
        ("--no-double", "", ""),
        ("--quick", "", ""),
        ("--horizon", "INT", "3 (a-b), 8 (c, d)"),
        ("--out", "PATH", "runs"),
    ]
    assert [flag.help for flag in line.flags][:2] == ["Files.", "Kind. Default: chosen."]
    assert flags.command_line(known.modules["c.kinds"], known) is None


@pytest.fixture(scope="module")
def site() -> pages.Site:
    return pages.Site.read(chinese=False)


def test_every_file_is_a_page_and_in_the_reading_order(site):
    listed = [entry.docname for _, part in site.parts for each in part for entry in each.walk()]
    assert len(listed) == len(set(listed)) > 400
    assert set(listed) == site.docnames
    folded = [name.lower() for name in listed]
    assert len(folded) == len(set(folded)), "names must differ on file systems that ignore capitals"


def test_reading_order_is_that_of_the_docstrings(site):
    listed = [entry.docname for _, part in site.parts for each in part for entry in each.walk()]
    for init in ("ch06_cnn/detection/__init__.py", "ch05_rnn/recurrence/__init__.py"):
        folder = init.removesuffix("__init__.py")
        docstring = ast.get_docstring(ast.parse((ROOT / init).read_text(encoding="utf-8"))) or ""
        in_docstring = [f"{folder}{name}.py" for name in re.findall(r"^(\w+)  ", docstring, re.M)]
        assert [name for name in listed if name.startswith(folder) and name != init] == in_docstring
        assert len(in_docstring) > 3


def test_flags_are_those_of_the_command_line(site, capsys):
    from ch07_dqn.agents import dqn
    from common import cli

    with pytest.raises(SystemExit):
        cli.main(dqn, arguments=["dqn", "--help"])
    text = capsys.readouterr().out
    line = flags.command_line(site.suite.modules["ch07_dqn.agents.dqn"], site.suite)
    assert line
    assert len(line.flags) > 15
    for flag in line.flags:
        assert f"{flag.name} " in text


def test_names_in_the_text_of_a_page(site):
    page = "ch06_cnn/DETECTION.md"
    assert site.resolve("detection/boxes.py", page) == ("ch06_cnn/detection/boxes.py.html", "")
    assert site.resolve("common/data/boxes/", page) == ("common/data/boxes/__init__.py.html", "")
    assert site.resolve("anchors.match", page) == ("ch06_cnn/detection/anchors.py.html", "#match")
    assert site.resolve("ssd.hard_negatives(...)", page) == ("ch06_cnn/detection/ssd.py.html", "#hard_negatives")
    for text in ("errors.png", "grid_sample", "torch.nn", "anchors.unknown", "--zoom", "../secret.py"):
        assert site.resolve(text, page) is None, text


def test_results_of_a_program_are_linked(site):
    found = site.results["ch06_cnn", "detection"]
    assert pages.Result("ch06_cnn/DETECTION", "generated-scenes", "Object detection: Generated scenes") in found


def test_relative_addresses_within_and_between_the_languages(site):
    assert site.relative("ch06_cnn/detection/boxes.py", "ch06_cnn/index", "#a") == "../index.html#a"
    both = pages.Site(chinese=True, own={"index", "ch06_cnn/index"}, pages={"a": "index"}, others={"b": "index"})
    assert both.relative("ch06_cnn/index", "index") == "../index.html"
    assert both.relative("ch06_cnn/index", "ch06_cnn/cnn.py") == "../../ch06_cnn/cnn.py.html"
    both.pages, both.others = {"README.zh-CN.md": "index"}, {"README.md": "index"}
    assert both.relative_url("ch06_cnn/index", both.url_of("README.zh-CN.md")) == "../index.html"
    assert both.relative_url("ch06_cnn/index", both.url_of("README.md"), "#a") == "../../index.html#a"
    assert pages.languages(both, "ch06_cnn/index") == [("en", "English", "../../index.html")]
    assert order.docname("ch06_cnn/README.zh-CN.md", chinese=True) == "ch06_cnn/index"
    assert order.docname("ch06_cnn/README.zh-CN.md") is None
    assert order.docname("ch02_nn/OPTIMIZERS.md", chinese=True) is None


@pytest.mark.slow
@pytest.mark.usefixtures("katex")
def test_formulas():
    try:
        shown = formulas.typeset(r"\frac{1}{n} \sum_i x_i < \mathbb{R}")
        assert 'class="katex"' in shown
        assert "<math" in shown, "for screen readers"
        assert "katex-display" in formulas.typeset("x", display=True)
        with pytest.raises(formulas.FormulaError, match=r"\\fraction"):
            formulas.typeset(r"\fraction{1}")
    finally:
        formulas.close()


def test_chinese_search_splits_into_pairs():
    search = chinese.SearchChinesePairs({})
    assert search.split("卷积网络 uses batch_norm") == [*"卷积网络", "卷积", "积网", "网络", "uses", "batch_norm"]
    assert search.word_filter("卷")
    assert not search.word_filter("the")
    script = chinese.SPLIT_QUERY + "console.log(JSON.stringify(splitQuery('卷积网络 uses 层, batch_norm')))"
    done = subprocess.run([formulas.node(), "-e", script], capture_output=True, check=True)
    assert json.loads(done.stdout) == ["卷积", "积网", "网络", "uses", "层", "batch_norm"]
    assert f"{search.language_name}Stemmer" == "EnglishStemmer", "the name of the stemmer in the script"


def test_error_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(formulas, "install", lambda: (_ for _ in ()).throw(OSError("KaTeX 0.16 was not installed")))
    with pytest.raises(SystemExit) as stop:
        build_site.main([])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: KaTeX 0.16 was not installed\n"


def test_broken_links_are_found(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b.html").write_text('<p id="here"><a href="#here"></a><a href="../c.html#no"></a><img src="d.png">')
    (tmp_path / "c.html").write_text(
        '<a href="a/b.html#here">&amp;</a><a href="https://a.org/x">x</a><a href="e.html">e</a>'
    )
    assert build_site.broken_links(tmp_path) == ["a/b.html: ../c.html#no", "a/b.html: d.png", "c.html: e.html"]
    assert build_site.broken_links(tmp_path, complete=False) == ["a/b.html: ../c.html#no", "a/b.html: d.png"]


PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1440, "height": 900}
FILES = r"^README|^ch06_cnn/(README|DETECTION|detection/(anchors|boxes|detection)\.py)|^docs/RUNNING"
PAGES = ("index", "ch06_cnn/index", "ch06_cnn/DETECTION", "ch06_cnn/detection/detection.py", "search")


@pytest.fixture(scope="module")
def katex() -> None:
    try:
        formulas.install()
    except OSError as error:
        pytest.skip(f"KaTeX could not be installed: {error}")


@pytest.fixture(scope="module")
def built(katex, tmp_path_factory) -> Path:
    """A small site with the front page, a chapter, a topic and annotated pages."""
    out = tmp_path_factory.mktemp("site")
    words = [sys.executable, str(ROOT / "docs/site/build_site.py"), "--out", str(out), "--only", FILES]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"site     \d+ pages in \d+ s: .*index\.html\n", done.stdout)
    return out


@pytest.fixture(scope="module")
def address(built) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=built)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine")
    with api.sync_playwright() as running:
        found = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def visit(browser, address):
    """Open a page; after the test, check that all requests went to the site and the console has no errors."""
    contexts, requests, errors = [], [], []

    def open_page(name: str, viewport: dict[str, int]):
        contexts.append(browser.new_context(viewport=viewport, color_scheme="light"))
        page = contexts[-1].new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("response", lambda response: errors.append(response.url) if response.status >= 400 else None)
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{address}{name}.html")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []
    assert requests
    assert {urlsplit(url).netloc for url in requests if not url.startswith("data:")} == {urlsplit(address).netloc}


@pytest.mark.slow
def test_pages_at_phone_width(visit):
    """Formulas are typeset, no source of Markdown is left, and nothing is wider than the screen."""
    for name in PAGES:
        page = visit(name, PHONE)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], name
        assert page.evaluate("(c => c.scrollWidth - c.clientWidth)(document.querySelector('.content'))") <= 0, name
        text = page.locator("article").inner_text()
        assert "<!--" not in text
        assert "$$" not in text
        broken = page.evaluate("[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)")
        assert broken == [], name
        if name == "ch06_cnn/DETECTION":
            assert page.locator(".katex-display").count() >= 6
            assert page.locator(".katex").first.evaluate("e => getComputedStyle(e).fontFamily").startswith("KaTeX")
            assert page.locator("td a.code-link[href='detection/boxes.py.html']").count() == 1


@pytest.mark.slow
def test_annotated_page(visit):
    """The prose is left of its code, on a phone above it; names link to definitions, flags are listed."""
    place = "e => e.getBoundingClientRect().toJSON()"
    for viewport in (DESKTOP, PHONE):
        page = visit("ch06_cnn/detection/anchors.py", viewport)
        row = page.locator("#match > .row").first
        prose, code = (row.locator(part).evaluate(place) for part in (".prose", ".code"))
        heading = page.locator("#match > h2").evaluate(place)
        if viewport is DESKTOP:
            assert prose["right"] < code["left"]
            assert abs(heading["top"] - code["top"]) < 30
            assert prose["top"] < code["top"] + 60
        else:
            assert heading["bottom"] <= prose["top"] + 1
            assert prose["bottom"] <= code["top"] + 1
    assert page.locator("#L42").inner_text().strip().startswith("def match(")
    page.goto(page.url.partition("#")[0])
    page.locator("#match a", has_text="iou").first.click()
    page.wait_for_url("**/boxes.py.html#iou")
    assert page.locator("section#iou").count() == 1
    page = visit("ch06_cnn/detection/detection.py", DESKTOP)
    assert page.locator("details.flags summary").inner_text().endswith("python -m ch06_cnn.train detection")
    page.locator("details.flags summary").click()
    assert page.locator("details.flags td:has-text('--no-augment')").first.is_visible()
    assert page.locator(".results a", has_text="Generated scenes").count() == 1
    page = visit("ch06_cnn/detection/anchors.py", DESKTOP)
    assert page.locator(".related-pages a .title").all_inner_texts() == ["detection/detection.py", "detection/boxes.py"]


@pytest.mark.slow
def test_keyboard_search_and_colours(visit):
    page = visit("ch06_cnn/detection/boxes.py", DESKTOP)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className").startswith("skip-to-content")
    page.keyboard.press("Enter")
    assert page.url.endswith("#furo-main-content")
    focused = [page.keyboard.press("Tab") or page.evaluate("document.activeElement.textContent") for _ in range(6)]
    assert "areas" in focused, "the list of definitions comes first"

    colours = "[document.body, document.querySelector('.code .k')].map(e => getComputedStyle(e))"
    colours = f"{colours}.map(style => style.backgroundColor + style.color)"
    light = page.evaluate(colours)
    toggle = page.locator("button.theme-toggle:visible")
    toggle.focus()
    for _ in range(3):
        page.keyboard.press("Enter")
        if page.evaluate("document.body.dataset.theme") == "dark":
            break
    dark = page.evaluate(colours)
    assert light[0] != dark[0]
    assert light[1] != dark[1]

    page = visit("index", DESKTOP)
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.name") == "q"
    page.keyboard.type("make_anchors")
    page.keyboard.press("Enter")
    page.wait_for_selector("ul.search li a[href*='detection/anchors.py.html']")
    if page.locator(".language").count():
        page.locator(".language").click()
        page.wait_for_url("**/zh/index.html")
        page.keyboard.press("/")
        page.keyboard.type("卷积")
        page.keyboard.press("Enter")
        page.wait_for_selector("ul.search li a[href*='ch06_cnn/index.html']")
