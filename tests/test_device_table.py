"""The table of devices: from the benchmarks of the chapters to a README."""

import json
from types import SimpleNamespace

import pytest

from common.records import device_table

MACHINE = {"cpu": "X", "gpu": "Y"}


def timing(chapter, program, device, precision, items, ratio, threads=2):
    variant = {"program": program, "device": device, "threads": threads, "precision": precision}
    return {"chapter": chapter, "variant": variant, "items_per_second": items, "unit": "images", "ratio": ratio}


ENTRY = {
    "machine": MACHINE,
    "versions": {"torch": "2.14.1"},
    "date": "2026-11-21",
    "timings": [
        timing("ch03_x", "first", "cpu", "fp32", 12_345.6, 1.0),
        timing("ch03_x", "first", "cuda:0", "bf16", 1e6, 81.0),
        timing("ch10_y", "second", "cpu", "fp32", 10.0, 1.0),
        timing("ch10_y", "second", "cpu", "fp32", 5.0, 0.5, threads=1),
    ],
}


def test_a_row_shows_throughput_on_the_first_device_and_ratios():
    text = device_table.render_devices("above\n<!-- devices -->\nold\n<!-- /devices -->\nbelow\n", ENTRY)
    assert text.splitlines() == [
        "above",
        "<!-- devices -->",
        "| | cpu x 2, fp32 | cuda:0, bf16 | cpu x 1, fp32 |",
        "|---|---:|---:|---:|",
        "| 3: first | 12,346 images/s | 81.00 |  |",
        "| 10: second | 10 images/s |  | 0.50 |",
        "",
        "`--benchmark`. X; Y; torch 2.14.1; 2026-11-21.",
        "<!-- /devices -->",
        "below",
    ]
    assert device_table.render_devices(text, ENTRY) == text


def test_a_machine_without_a_gpu_is_marked():
    assert "X; no GPU; torch" in device_table.table_of(ENTRY | {"machine": {"cpu": "X"}})


@pytest.fixture
def root(tmp_path):
    for chapter, text in (("ch01_a", "def workload("), ("ch02_b", "def train("), ("ch03_c", "def workload(")):
        (tmp_path / chapter).mkdir()
        (tmp_path / chapter / "program.py").write_text(f"x = 1\n\n{text}\n")
    return tmp_path


def test_chapters_with_a_training_step_are_timed_one_after_the_other(root, monkeypatch):
    left_over = root / "runs/ledger/devices/ch01_a/benchmark/old"
    left_over.mkdir(parents=True)
    (left_over / "benchmark.json").write_text("{}")
    commands = []

    def run(words, *, cwd, check):
        assert cwd == root
        commands.append(words[2:4])
        folder = root / "runs/ledger/devices" / words[2].removesuffix(".train") / "benchmark/now"
        folder.mkdir(parents=True)
        (folder / "benchmark.json").write_text(json.dumps({"timings": [{"ratio": len(commands)}]}))
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(device_table, "subprocess", SimpleNamespace(run=run))
    found = device_table.time_chapters(root)
    assert commands == [["ch01_a.train", "--benchmark"], ["ch03_c.train", "--benchmark"]]
    assert found["timings"] == [{"chapter": "ch01_a", "ratio": 1}, {"chapter": "ch03_c", "ratio": 2}]


def test_a_chapter_that_fails_is_named(root, monkeypatch):
    failing = SimpleNamespace(run=lambda *_, **__: SimpleNamespace(returncode=2))
    monkeypatch.setattr(device_table, "subprocess", failing)
    with pytest.raises(ValueError, match="benchmark of ch01_a failed; nothing was recorded"):
        device_table.time_chapters(root)
