"""The Chinese pages: the same commands, tables, pictures, formulas and figures as the English ones."""

import ast
import re
from itertools import pairwise
from pathlib import Path

import pytest

from common.records import tables
from conftest import ROOT

CHINESE = [ROOT / "README.zh-CN.md", *sorted(ROOT.glob("ch*/README.zh-CN.md"))]

IN_FULL = ("ch05_rnn", "ch06_cnn", "ch07_dqn", "ch08_vae")
"""Chapters whose Chinese page has every formula of the English one."""

SECTIONS = ("你将学到", "原理", "代码，按阅读顺序", "运行", "结果", "与书的差异", "练习")

HAN = "\u4e00-\u9fff"


def english(path: Path) -> Path:
    return path.with_name("README.md")


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def code_lines(text: str) -> list[str]:
    """List the commands of the shell blocks, without comments."""
    lines = "\n".join(re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)).splitlines()
    return [command for line in lines if (command := re.split(r"\s+#", line)[0].strip())]


def formulas(text: str) -> list[str]:
    return [re.sub(r"\s+", " ", formula).strip() for formula in re.findall(r"\$\$(.+?)\$\$", text, re.S)]


def rendered(text: str) -> str:
    """Return the text without everything that is rendered from the records."""
    for pattern in (tables.TABLE, tables.OUTPUT, tables.LANDMARKS, tables.DEVICES):
        text = pattern.sub("", text)
    return text


def prose(text: str) -> str:
    """Return the text without tables, outputs, code, formulas, pictures' paths and links' targets."""
    text = re.sub(r"^```.*?^```", "", rendered(text), flags=re.M | re.S)
    text = re.sub(r"\$\$.+?\$\$|\$[^$\n]+\$|`[^`\n]+`", " ", text, flags=re.S)
    return re.sub(r"\]\([^)]*\)|<[^>]+>", " ", text)


NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]

WORDS = {word: number for number, word in enumerate(NUMBERS, 1)} | {"half": 2, "third": 3, "fourth": 4, "quarter": 4}


FACTORS = {"": 1, "million": 1e6, "万": 1e4}


def figures(text: str) -> set[tuple[float, str]]:
    """Return the numbers of a text: `million` and 万 multiplied out; % for percentages and percentage points."""
    found = set()
    pattern = r"(?<![\w.])(-?\d[\d,]*(?:\.\d+)?|\.\d+)\s*(million|万)?\s*(%|percentage points|个百分点)?"
    for number, factor, percent in re.findall(pattern, prose(text)):
        value = float(number.rstrip(",").replace(",", ""))
        found.add((round(value * FACTORS[factor], 9), "%" * bool(percent)))
    return found


def test_every_readme_has_a_chinese_page():
    assert {english(path) for path in CHINESE} == {ROOT / "README.md", *ROOT.glob("ch*/README.md")}
    for path in CHINESE:
        assert read(path).startswith("[English](README.md) | **中文**\n\n# "), path
        assert read(english(path)).startswith("**English** | [中文](README.zh-CN.md)\n\n# "), path


@pytest.mark.parametrize("path", CHINESE[1:], ids=lambda path: path.parent.name)
def test_chinese_pages_have_the_same_sections(path):
    text = read(path)
    assert [heading for heading in re.findall(r"^## (.+)$", text, re.M) if heading in SECTIONS] == list(SECTIONS)
    assert re.search(rf"^# 第 {int(path.parent.name[2:4])} 章：[{HAN}]", text, re.M)


@pytest.mark.parametrize("path", CHINESE, ids=lambda path: path.parent.name)
def test_chinese_pages_have_the_commands_of_the_english_ones(path):
    chinese, original = code_lines(read(path)), code_lines(read(english(path)))
    assert chinese, "no commands"
    assert [command for command in chinese if command not in original] == []
    run = {command for command in original if command.startswith(f"python -m {path.parent.name}.train")}
    if path.parent.name in IN_FULL:
        assert run <= set(chinese), "commands are missing"


@pytest.mark.parametrize("path", CHINESE, ids=lambda path: path.parent.name)
def test_chinese_pages_show_the_same_records(path):
    chinese, original = read(path), read(english(path))
    assert tables.render(chinese, path) == chinese
    markers = r"<!-- (?:ledger|output): [^>]+ -->|<!-- landmarks -->"
    assert re.findall(markers, chinese)
    assert [mark for mark in re.findall(markers, chinese) if mark not in original] == []
    pictures = r"\((?:\.\./)?docs/pictures/[^)]+\)"
    assert [name for name in re.findall(pictures, chinese) if name not in original] == []


@pytest.mark.parametrize("path", CHINESE, ids=lambda path: path.parent.name)
def test_chinese_pages_have_the_formulas_of_the_english_ones(path):
    chinese, original = formulas(read(path)), formulas(read(english(path)))
    assert [formula for formula in chinese if formula not in original] == []
    if path.parent.name in IN_FULL:
        assert set(original) <= set(chinese), sorted(set(original) - set(chinese))


@pytest.mark.parametrize("path", CHINESE, ids=lambda path: path.parent.name)
def test_figures_of_chinese_pages_are_those_of_the_english_ones(path):
    """Numbers in sentences would not change with the records; each has to be on the English page too."""
    chinese, original = read(path), read(english(path))
    words = {float(WORDS[word]) for word in re.findall(r"[a-z]+", prose(original).lower()) if word in WORDS}
    words |= {0.0, *range(11)} if path.parent == ROOT else {0.0, float(int(path.parent.name[2:4]))}
    known = figures(original) | {(word, "") for word in words}
    assert sorted(figures(chinese) - known) == []


@pytest.mark.parametrize("path", CHINESE[1:], ids=lambda path: path.parent.name)
def test_chinese_pages_list_the_same_exercises(path):
    """Number and minutes of every exercise, in the section of the exercises."""

    def rows(text: str, section: str) -> list[tuple[str, str]]:
        return re.findall(r"^\| (\d+) .+ \| (\d+) \| .+ \|$", text.partition(f"## {section}\n")[2], re.M)

    chinese, original = rows(read(path), "练习"), rows(read(english(path)), "Exercises")
    assert len(original) == len(list(path.parent.glob("exercises/ex*.py")))
    assert chinese == original


@pytest.mark.parametrize("path", CHINESE, ids=lambda path: path.parent.name)
def test_named_files_and_functions_exist(path):
    """`file.py` 的 `function` names a function, class or method of that file."""
    text = read(path)
    for name in re.findall(r"`([\w/]+\.py)`", text):
        found = (path.parent / name).exists() or (ROOT / name).exists() or list(path.parent.rglob(name))
        assert found or f"`{name}`" in read(english(path)), name  # a file of common/, named on the English page
    for name, functions in re.findall(r"`([\w/]+\.py)` 的 ((?:`[\w.]+`(?:、|和| 和 )?)+)", text):
        tree = ast.parse(read(path.parent / name))
        known = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        known |= {
            f"{node.name}.{part.name}"
            for node in tree.body
            if isinstance(node, ast.ClassDef)
            for part in node.body
            if isinstance(part, ast.FunctionDef)
        }
        for function in re.findall(r"`([\w.]+)`", functions):
            assert function in known, f"{path.parent.name}: {name} has no {function}"


@pytest.mark.parametrize("path", CHINESE, ids=lambda path: path.parent.name)
def test_chinese_text_is_not_broken_within_paragraphs(path):
    """Markdown shows a line break as a space, which Chinese does not have between characters."""
    lines = re.sub(r"^```.*?^```", "", rendered(read(path)), flags=re.M | re.S).splitlines()
    for line, following in pairwise(lines):
        broken = re.match(rf"[{HAN}]", line[-1:]) and re.match(rf"[{HAN}\w$`(（]", following)
        assert not broken, f"{path}: {line[-20:]} / {following[:20]}"
        assert not re.search(r"[，。；：！？]\s", line.strip()), (
            f"{path}: a space after Chinese punctuation: {line[:60]}"
        )
