"""Configuration of the documentation site; `make site` builds it."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from sphinx.search import languages as search_languages

from chinese import SearchChinesePairs

project = "Deep Learning Companion"
html_title = project
language = os.environ.get("SITE_LANGUAGE", "en")
root_doc = "index"
exclude_patterns = ["*", ".*"]  # the extension `pages` lists the files; Sphinx would search .venv as well
extensions = ["myst_nb", "sphinx_copybutton", "pages"]
suppress_warnings = ["toc.not_included", "myst.header"]

myst_enable_extensions = ["alert", "amsmath", "dollarmath", "gfm_autolink", "strikethrough", "tasklist"]
myst_dmath_double_inline = True
myst_heading_anchors = 4

nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode = os.environ.get("NOTEBOOKS", "cache")
nb_execution_cache_path = str(Path(__file__).resolve().parents[2] / "build" / "notebook-cache")
nb_execution_timeout = 240
nb_execution_raise_on_error = True
nb_merge_streams = True

html_theme = "furo"
html_static_path = ["static"]
templates_path = ["templates"]
html_css_files = ["katex/katex.min.css", "site.css"]
html_js_files = [("site.js", {"defer": "defer"})]
html_favicon = "static/icon.svg"
html_copy_source = False
html_show_copyright = False
html_math_renderer = "katex"
pygments_style = "friendly"
pygments_dark_style = "github-dark"
copybutton_selector = "div.highlight-sh pre, div.highlight-bash pre, div.highlight-python pre, div.commands pre"
copybutton_exclude = ".linenos, .gp"

if language.startswith("zh"):
    search_languages["zh"] = SearchChinesePairs
    html_search_language = "zh"
