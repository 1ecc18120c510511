"""The table of dependencies: why each is needed, its licence, size and last release; and a check of all licences.

python docs/dependencies.py                # write DEPENDENCIES.md from dependencies.toml and dependencies.json
python docs/dependencies.py --index URL    # first ask a package index for licences, sizes and last releases
python docs/dependencies.py --licences     # list the licences of all installed packages; exit with 1 if one is refused

URL is the address of the index's description of a package in JSON, with {name} in place of the package.
"""

import argparse
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.request import urlopen

HERE = Path(__file__).parent
PAGE, FACTS, REASONS = HERE / "DEPENDENCIES.md", HERE / "dependencies.json", HERE / "dependencies.toml"

SPDX = {
    r"Apache( Software)? License|Apache[ -]?(License,? ?)?(Version |v)?2(\.0)?|Apache": "Apache-2.0",
    r"(New |3-Clause )?BSD( License)?|BSD[ -]3-Clause( License)?|3-Clause BSD License": "BSD-3-Clause",
    r"(The )?MIT( License)?( \(MIT\))?": "MIT",
    r"ISC licen[sc]e|ISC License \(ISCL\)|ISC": "ISC",
    r"Mozilla Public License 2\.0 \(MPL 2\.0\)": "MPL-2.0",
    r"Python Software Foundation License": "PSF-2.0",
    r"Zope Public License": "ZPL-2.1",
    r"Public Domain": "CC0-1.0",
}
"""Patterns of names of licences in package metadata, and their SPDX identifiers."""


def canonical(name: str) -> str:
    """Return the normalised name of a package (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def reasons() -> dict[str, Any]:
    """Read dependencies.toml."""
    return tomllib.loads(REASONS.read_text(encoding="utf-8"))


def requirements() -> dict[str, list[str]]:
    """Return the direct dependencies of pyproject.toml, each with its extras; the first is empty if all need it."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    found: dict[str, list[str]] = {}
    for extra, lines in groups.items():
        for line in lines:
            name = canonical(re.split(r"[\[<>=!~ ;]", line)[0])
            if name != canonical(project["name"]):
                found.setdefault(name, []).append(extra)
    return found


def spdx(words: dict[str, Any], name: str) -> str:
    """Return the licence expression of a package from its metadata, or an empty text if they do not state it.

    `words` has `license_expression`, `license` and `classifiers`, as the package index names them.
    """
    if words.get("license_expression"):
        return words["license_expression"]
    stated = reasons()["licences"]["unstated"].get(name)
    if stated:
        return stated
    named = [line.split("::")[-1].strip() for line in words.get("classifiers") or [] if line.startswith("License ::")]
    lines = (words.get("license") or "").strip().splitlines()
    for text in [*named, *lines[:1]]:
        if re.fullmatch(r"[A-Za-z0-9.+-]+( (AND|OR|WITH) [A-Za-z0-9.+-]+)*", text) and re.search(r"\d|MIT|ISC", text):
            return text
        for pattern, identifier in SPDX.items():
            if re.fullmatch(pattern, text, re.I):
                return identifier
    return ""


def is_allowed(expression: str, allowed: set[str]) -> bool:
    """Return whether a licence expression allows the use: one side of each OR, both of each AND.

    Parentheses are resolved from the inside; WITH adds permissions to a licence.
    """
    inner = re.search(r"\(([^()]*)\)", expression)
    if inner:
        value = "0BSD" if is_allowed(inner[1], allowed) else "refused"
        return is_allowed(expression[: inner.start()] + value + expression[inner.end() :], allowed)
    if " OR " in expression:
        return any(is_allowed(part, allowed) for part in expression.split(" OR "))
    if " AND " in expression:
        return all(is_allowed(part, allowed) for part in expression.split(" AND "))
    return expression.partition(" WITH ")[0].strip() in allowed


def installed() -> Iterator[tuple[str, str]]:
    """Yield name and licence of every installed package."""
    for package in metadata.distributions():
        if "_vendor" in str(package.locate_file("")):  # copies that setuptools contains
            continue
        about: Any = package.metadata
        words = {
            "license_expression": about.get("License-Expression"),
            "license": about.get("License"),
            "classifiers": about.get_all("Classifier"),
        }
        name = canonical(about["Name"])
        yield name, spdx(words, name)


def refused_licences() -> list[str]:
    """List the installed packages whose licence is neither allowed nor an exception, one line each."""
    rules = reasons()["licences"]
    allowed, refused = set(rules["allowed"]), []
    for name, licence in sorted(installed()):
        nvidia = name.startswith(("nvidia-", "cuda-"))  # libraries of the CUDA build of PyTorch
        own = name == "deep-learning-companion"
        if not (own or nvidia or name in rules["exceptions"] or is_allowed(licence, allowed)):
            refused.append(f"{name}: {licence or 'the metadata do not state a licence'}")
    return refused


def ask_index(index: str, name: str) -> dict[str, Any]:
    """Return licence, megabytes of the largest wheel and date of the last release of a package."""
    with urlopen(index.format(name=name), timeout=30) as answer:
        about = json.load(answer)
    files = [file for file in about["urls"] if file["packagetype"] == "bdist_wheel"] or about["urls"]
    return {
        "version": about["info"]["version"],
        "released": max(file["upload_time"] for file in about["urls"])[:10],
        "megabytes": round(max(file["size"] for file in files) / 1e6, 1),
        "licence": spdx(about["info"], name),
    }


def render(facts: dict[str, dict[str, Any]]) -> str:
    """Return the page."""
    purpose, rules = reasons()["purpose"], reasons()["licences"]
    lines = [
        "# Dependencies",
        "",
        "Why each direct dependency is needed. The size is that of the largest file of the last release, without its",
        "own dependencies. Those with an extra are installed with `pip install '.[EXTRA]'`; `dev` is for developers.",
        "`python docs/dependencies.py --index URL` renews this page.",
        "",
        "| package | extra | purpose | licence | MB | last release |",
        "|---|---|---|---|---:|---|",
    ]
    for name, extras in requirements().items():
        fact = facts[name]
        shown = ", ".join(f"`{extra}`" for extra in extras if extra)
        licence = rules["exceptions"].get(name, fact["licence"]).split(";")[0]
        row = (f"`{name}`", shown, purpose[name], licence, fact["megabytes"], f"{fact['version']}, {fact['released']}")
        lines.append("| " + " | ".join(map(str, row)) + " |")
    lines += [
        "",
        "## Licences",
        "",
        "A test checks the licences of all installed packages, also of indirect dependencies. Permissive licences and",
        "the Mozilla Public License are allowed. Exceptions:",
        "",
        *(f"- `{name}`: {reason}" for name, reason in rules["exceptions"].items()),
        "",
        "The CUDA build of PyTorch installs NVIDIA's libraries, which have NVIDIA's own licence.",
        "",
        "## Known vulnerabilities",
        "",
        "A nightly workflow compares the pinned versions with the database of known vulnerabilities (`pip-audit`).",
        "",
    ]
    return "\n".join(lines)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", metavar="URL", help="address of the description of a package, with {name}")
    parser.add_argument("--licences", action="store_true", help="check the licences of the installed packages")
    options = parser.parse_args()
    if options.licences:
        for name, licence in sorted(installed()):
            print(f"{name:40}{licence}")
        refused = refused_licences()
        print(*refused, sep="\n", file=sys.stderr)
        return int(bool(refused))
    if options.index:
        facts = {name: ask_index(options.index, name) for name in requirements()}
        FACTS.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(render(json.loads(FACTS.read_text(encoding="utf-8"))), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
