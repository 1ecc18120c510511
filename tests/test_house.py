"""The structure of the project: permitted imports, parts of a program, pages, and the cost of start-up."""

import ast
import dataclasses
import importlib
import re
import runpy
import shlex
import subprocess
import sys
import warnings
from pathlib import Path
from types import ModuleType

import networkx as nx
import pytest

from common import benchmark, cli
from common.config import RunOptions, chapter_and_name, to_json
from common.files import read_json, write_json
from common.records import ledger, pictures, tables
from conftest import ROOT


def programs(chapter: str) -> list[ModuleType]:
    """List the programs of a chapter's command line."""
    known = vars(importlib.import_module(f"{chapter}.train")).values()
    return [module for module in known if isinstance(module, ModuleType) and hasattr(module, "Config")]


CHAPTERS = sorted(path.parent.name for path in ROOT.glob("ch*/__init__.py"))
PROGRAMS = [module for chapter in CHAPTERS for module in programs(chapter)]
LEVELS = {"common": 0, "ch09_pipeline": 2, "ch10_deploy": 2, "companion": 3}


def level(package: str) -> int:
    return LEVELS.get(package, 1)


def imported_packages(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            found.add((node.module or "").split(".")[0])
    return found


def test_packages_import_only_lower_levels():
    own = {"common", "companion", *CHAPTERS}
    files = [path for package in ("common", "companion", *CHAPTERS) for path in (ROOT / package).rglob("*.py")]
    assert len(files) > 10
    for path in files:
        here = path.relative_to(ROOT).parts[0].removesuffix(".py")
        for other in (imported_packages(path) & own) - {here}:
            assert level(other) < level(here), f"{path.relative_to(ROOT)} imports {other}"


def imports_of(path: Path) -> set[str]:
    """Return the modules that a file imports, also inside functions, without those under TYPE_CHECKING."""
    found = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


def import_graph() -> nx.DiGraph:
    """Build a graph of the suite's files with an edge from each file to those that it imports."""
    files = [path for package in ("common", "companion", *CHAPTERS) for path in sorted((ROOT / package).rglob("*.py"))]
    files.append(ROOT / "tour.py")
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files}
    graph = nx.DiGraph()
    for name, path in names.items():
        graph.add_node(name)
        graph.add_edges_from((name, other) for other in imports_of(path) if other in names and other != name)
    return graph


def test_imports_have_no_cycles():
    graph = import_graph()
    assert len(graph) > 150 and graph.number_of_edges() > 500
    cycles = [sorted(group) for group in nx.strongly_connected_components(graph) if len(group) > 1]
    assert cycles == []


def test_a_folder_holds_at_most_twelve_modules():
    """The root folder of a chapter may have fifteen."""
    for package in ("common", *CHAPTERS):
        for folder in {path.parent for path in (ROOT / package).rglob("*.py")}:
            modules = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
            assert len(modules) <= (12 if folder.parent != ROOT else 15), f"{folder.relative_to(ROOT)}: {len(modules)}"


def test_a_topic_lists_its_modules():
    """The docstring of a topic's `__init__.py` lists all modules of the folder, in reading order."""
    for package in ("common", *CHAPTERS):
        for init in sorted((ROOT / package).rglob("__init__.py")):
            listed = ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))) or ""
            modules = {path.stem for path in init.parent.glob("*.py")} - {"__init__"}
            if init.parent.parent != ROOT and "snakemake" not in init.parent.name:
                missing = [name for name in modules if not re.search(rf"^{name}\b", listed, re.M)]
                assert not missing, f"{init.relative_to(ROOT)} does not list {', '.join(missing)}"


def run_clean(script: str) -> None:
    """Run Python in a separate process that inherits no settings."""
    clean = {"PATH": "/usr/bin:/bin", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_starting_a_chapter_sets_the_thread_policy_before_torch():
    run_clean(f"""
import os, sys
class TorchImported(Exception):
    pass
class ImportWatch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise TorchImported
sys.meta_path.insert(0, ImportWatch())
for chapter in {CHAPTERS}:
    os.environ.pop("GOMP_SPINCOUNT", None)
    for name in [name for name in sys.modules if name.partition(".")[0] in ("common", chapter)]:
        del sys.modules[name]
    try:
        __import__(f"{{chapter}}.train")
    except TorchImported:
        assert os.environ.get("GOMP_SPINCOUNT") == "1000", f"{{chapter}} loads torch before the policy is set"
    else:
        raise AssertionError(f"{{chapter}} does not load torch")
""")


def test_starting_a_chapter_loads_nothing_heavy():
    run_clean(f"""
import sys
for chapter in {CHAPTERS}:
    __import__(f"{{chapter}}.train")
    heavy = {{"matplotlib", "polars", "sklearn", "torchvision", "pandas"}} & set(sys.modules)
    assert not heavy, (chapter, heavy)
""")


def test_thread_policy_keeps_what_the_user_has_set():
    script = "import os, common; print(os.environ['GOMP_SPINCOUNT'])"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env={"GOMP_SPINCOUNT": "77"}, capture_output=True, text=True
    )
    assert done.stdout.strip() == "77"


@pytest.mark.parametrize("module", PROGRAMS, ids=lambda module: module.__name__)
def test_program_has_its_parts(module):
    chapter, program = chapter_and_name(module.__name__)
    assert f"python -m {chapter}.train {program}" in (module.__doc__ or "")
    config = module.Config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.run = None
    assert isinstance(config.run, RunOptions)
    assert callable(module.train)


@pytest.mark.parametrize("module", PROGRAMS, ids=lambda module: module.__name__)
def test_help_explains_every_flag_with_its_default(module, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(module, arguments=[cli._name(module), "--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for config in (module.Config(), RunOptions()):
        for name, default in vars(config).items():
            if name != "run":
                switch = "no-" if default is True else ""  # an enabled switch can be disabled
                assert f"--{switch}{name.replace('_', '-')} " in text
    fields = [
        field for part in (module.Config, RunOptions) for field in dataclasses.fields(part) if field.name != "run"
    ]
    shown = sum(field.default is not None for field in fields)  # fields with the default None explain it in words
    assert text.count("(default: ") == shown + hasattr(module, "workload")
    assert "None" not in text
    assert module.__doc__ and module.__doc__.splitlines()[0] in text


def written_commands(chapter: str, *, answers: bool = False) -> list[str]:
    """List the commands of a chapter that READMEs and docstrings show; with `answers` also those of exercises/."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    files = [*pages, *(path for path in (ROOT / chapter).rglob("*") if path.suffix in (".md", ".py"))]
    files = [path for path in files if answers or path.name != "ANSWERS.md"]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    found = re.findall(rf"^\s*(?:torchrun .*-m|python -m) {chapter}\.train(.*)$", text, re.M)
    return sorted({command.partition("#")[0].strip() for command in found})


def write_named_config(chapter: str, command: str, folder: Path) -> None:
    """Write the file that a command names with --config, with the default settings of its program."""
    words = shlex.split(command)
    if "--config" not in words:
        return
    path = folder / words[words.index("--config") + 1]
    path = path if path.suffix == ".json" else path / "config.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    module = next(module for module in programs(chapter) if cli._name(module) == words[0])
    write_json(path, {"chapter": chapter, "program": words[0], "config": to_json(module.Config())})


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_written_commands_are_valid(chapter, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    calls = []
    for module in programs(chapter):
        monkeypatch.setattr(module, "train", lambda config, module=module: calls.append((module, config)))
    monkeypatch.setattr(benchmark, "run_benchmark", lambda package, jobs: calls.append(jobs))
    commands = written_commands(chapter, answers=True)
    for module in programs(chapter):
        assert any(command.startswith(cli._name(module)) for command in commands), f"no page shows {module.__name__}"
    for command in commands:
        if "--help" in command:
            continue
        calls.clear()
        write_named_config(chapter, command, tmp_path)
        monkeypatch.setattr(sys, "argv", ["train", *shlex.split(command)])
        with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # the module is already imported
            runpy.run_module(f"{chapter}.train", run_name="__main__")
        assert calls, command


SECTIONS = (
    *("What you will learn", "The idea", "The code, in reading order", "Run it", "Results"),
    *("Differences from the book", "Exercises"),
)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_chapter_readmes_have_the_same_sections(chapter):
    number, text = int(chapter[2:4]), (ROOT / chapter / "README.md").read_text(encoding="utf-8")
    beginning = rf"\*\*English\*\* \| .+\n\n# Chapter {number}: [^\n]+\n\n[A-Z]"
    assert re.match(beginning, text), "languages, a title or a paragraph are missing"
    parts = re.split(r"^## (.+)$", text, flags=re.M)
    assert [heading for heading in parts[1::2] if heading in SECTIONS] == list(SECTIONS)
    section = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert "| file | what it shows |" in section["The code, in reading order"]
    assert f"python -m {chapter}.train" in section["Run it"]
    assert "<!-- output: " in section["Run it"], "the output of a recorded run is missing"
    assert "<!-- ledger: " in section["Results"]
    pictures = len(re.findall(r"^!\[", text, re.M))
    if number <= 8:
        assert "$$" in section["The idea"]
        assert 4 <= pictures <= 9, pictures
    else:
        assert pictures >= 1


def test_readme_tables_match_the_records():
    assert tables.stale_readmes() == []


def test_records_are_shown_and_consistent():
    pages = [path.read_text(encoding="utf-8") for path in tables.readmes()]
    shown = {name for page in pages for match in tables.TABLE.finditer(page) for name in match["records"].split()}
    shown |= {match["record"] for page in pages for match in tables.OUTPUT.finditer(page)}
    shown |= {pictures.origin_of(path)["record"] for path in pictures.folder().rglob("*.*")}
    records = sorted(set(tables.RESULTS.rglob("*.json")) - {tables.RESULTS / "devices.json"})
    assert records
    for path in records:
        name = path.relative_to(tables.RESULTS).with_suffix("").as_posix()
        if name.startswith("gpu/"):  # records of `make gpu` belong to the machine that made them
            continue
        assert name in shown, f"{name} is on no page"
        entry = read_json(path)
        assert entry["n"] == len(entry["seeds"]) >= 1
        for figure in entry["metrics"].values():
            assert figure == ledger.spread(figure["values"])


def test_hypothesis_draws_no_subnormal_numbers():
    """`common.device` flushes subnormal numbers to zero, and then hypothesis raises an error if it may draw them."""
    found = 0
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "floats":
                given = {word.arg: ast.unparse(word.value) for word in node.keywords}
                assert given.get("allow_subnormal") == "False", f"{path.name}:{node.lineno}: add allow_subnormal=False"
                found += 1
    assert found > 5
