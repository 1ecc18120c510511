"""Conversions of a Config to flags and JSON, and back."""

import dataclasses
import json
import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.cli import Program, parse
from common.config import (
    MOST_THREADS,
    RunOptions,
    changed_flags,
    command_line,
    deciding_fields,
    default_by,
    fill_defaults,
    read_config,
    require_positive,
    to_json,
)


@dataclass(frozen=True)
class Config:
    """A Config with every kind of field."""

    name: Literal["a", "b"] = "a"
    kind: Literal["tall", "flat"] = "tall"
    count: int | None = None
    rate: float = 0.5
    sizes: tuple[int, ...] = (3, 4)
    fast: bool = False
    width: int = default_by("name", a=10, b=20)
    height: int = default_by("kind", tall=default_by("name", a=7, b=8), flat=1)
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1))

    def __post_init__(self) -> None:
        fill_defaults(self)


CONFIGS = st.builds(
    Config,
    name=st.sampled_from(["a", "b"]),
    count=st.none() | st.integers(0, 99),
    rate=st.floats(0, 1, allow_subnormal=False),
    sizes=st.lists(st.integers(1, 9), min_size=1).map(tuple),
    fast=st.booleans(),
    kind=st.sampled_from(["tall", "flat"]),
    width=st.none() | st.sampled_from([10, 20, 30]),
    height=st.none() | st.sampled_from([1, 7, 8, 9]),
    run=st.builds(
        RunOptions,
        seed=st.integers(0, 9),
        device=st.sampled_from(["auto", "cuda:1"]),
        precision=st.sampled_from(["auto", "bf16"]),
        threads=st.integers(0, 3),
        limit=st.none() | st.integers(1, 9),
        out=st.sampled_from([Path("runs"), Path("a folder/x")]),
        resume=st.sampled_from([False, True, "auto", "runs/a b/c"]),
    ),
)


@settings(deadline=None)  # the machine may be busy
@given(config=CONFIGS)
def test_config_to_flags_and_back(config):
    words = shlex.split(command_line("ch03_x.program", config))
    assert words[:4] == ["python", "-m", "ch03_x.train", "program"]
    assert parse(Program[Config], words[4:], prog="", description="").config == config


@settings(deadline=None)  # the machine may be busy
@given(config=CONFIGS)
def test_config_to_json_and_back(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    (folder / "config.json").write_text(json.dumps({"config": to_json(config)}))
    assert read_config(folder, Config) == config
    record = json.loads((folder / "config.json").read_text())
    record["config"]["run"]["threads"] = 10**6  # of a larger machine
    (folder / "config.json").write_text(json.dumps(record))
    assert read_config(folder, Config).run.threads == MOST_THREADS


def test_defaults_need_no_flags():
    assert changed_flags(Config()) == []


def test_a_default_depends_on_another_field():
    assert (Config().width, Config(name="b").width, Config(name="b", width=10).width) == (10, 20, 10)
    assert changed_flags(Config(name="b")) == ["--name", "b"]
    assert changed_flags(Config(name="b", width=10)) == ["--name", "b", "--width", "10"]


def test_a_default_depends_on_two_other_fields():
    heights = [Config(name=name, kind=kind).height for kind in ("tall", "flat") for name in ("a", "b")]
    assert heights == [7, 8, 1, 1]
    (field,) = (field for field in dataclasses.fields(Config) if field.name == "height")
    assert deciding_fields(field) == {"kind", "name"}
    assert changed_flags(Config(name="b", kind="flat")) == ["--name", "b", "--kind", "flat"]
    assert changed_flags(Config(name="b", kind="flat", height=8)) == ["--name", "b", "--kind", "flat", "--height", "8"]


@dataclass(frozen=True)
class Chained:
    """A Config with a dependent field that decides another one, and with a field that one value of `data` needs."""

    data: Literal["own", "folder"] = "own"
    folder: Path | None = None
    network: Literal["small", "large"] = default_by("data", own="small", folder="large")
    epochs: int = default_by("network", small=9, large=4)
    run: RunOptions = field(default_factory=RunOptions)

    def __post_init__(self) -> None:
        fill_defaults(self)
        assert (self.folder is not None) == (self.data == "folder")


def test_flags_of_a_config_that_cannot_be_built_from_the_deciding_fields_alone():
    assert changed_flags(Chained(data="folder", folder=Path("x"))) == ["--data", "folder", "--folder", "x"]
    words = ["--data", "folder", "--folder", "x", "--network", "small"]
    assert changed_flags(Chained(data="folder", folder=Path("x"), network="small")) == words
    assert changed_flags(Chained(network="large", epochs=9)) == ["--network", "large", "--epochs", "9"]


def test_reading_an_invalid_run_folder_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"{tmp_path} is not a run folder"):
        read_config(tmp_path, Config)
    (tmp_path / "config.json").write_text('{"config": {"run": {"out": "x"}, "foreign": 1}}')
    with pytest.raises(ValueError, match="does not fit"):
        read_config(tmp_path, Config)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is not valid JSON"):
        read_config(tmp_path, Config)


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_require_positive(value):
    require_positive(Config(count=None), "count", "rate", "sizes")
    with pytest.raises(ValueError, match="--rate must be a number above 0"):
        require_positive(replace(Config(), rate=value), "rate")
    with pytest.raises(ValueError, match="--sizes must be a number above 0"):
        require_positive(replace(Config(), sizes=(3, value)), "sizes")
