"""Comparisons with other software: ratios, interleaved rounds, versions, and the table of the page."""

import json
import sys

import pytest

from ch04_cuda import start_up
from common import device, peers
from common.peers import Variant
from common.records import peer_table, tables
from common.run import Run


@pytest.fixture
def run(options):
    with Run.open(
        "ch04_cuda.start_up", start_up.Config(run=options), packages=("scikit-learn", "not-installed")
    ) as run:
        yield run


def test_a_ratio_of_rates_is_ours_over_theirs():
    assert peers.ratios_of("a_b", [2.0, 6.0, 9.0], [2.0, 2.0, 3.0], "images_per_second") == {
        "a_b_ratio": 3.0,
        "a_b_lowest_ratio": 1.0,
        "a_b_highest_ratio": 3.0,
    }


def test_a_ratio_of_durations_is_theirs_over_ours():
    assert peers.ratios_of("a_b", [2.0, 4.0, 8.0], [1.0, 1.0, 4.0], "seconds") == {
        "a_b_ratio": 0.5,
        "a_b_lowest_ratio": 0.25,
        "a_b_highest_ratio": 0.5,
        "a_b_extra_seconds": 3.0,
    }


def test_variants_are_measured_interleaved_after_a_warm_up(run, monkeypatch, capsys):
    calls = []

    def variant(name, values):
        values = iter(values)

        def measure():
            calls.append(name)
            return next(values)

        return Variant(name.title(), measure)

    monkeypatch.setattr(peers, "matrix_product_rate", iter([100.0, 90.0]).__next__)
    ours = {"fast": variant("fast", [1_000.0, 6.0, 8.0]), "slow": variant("slow", [1_000.0, 1.0, 1.0])}
    others = {"peer": variant("peer", [1.0, 2.0, 4.0])}
    metrics = peers.compare(run, ours, others, "images_per_second", rounds=2)
    assert calls == ["peer", "fast", "slow"] * 3
    assert metrics == {
        "peer_images_per_second": 3.0,
        "fast_images_per_second": 7.0,
        "slow_images_per_second": 1.0,
        "fast_peer_ratio": 2.5,
        "fast_peer_lowest_ratio": 2.0,
        "fast_peer_highest_ratio": 3.0,
        "slow_peer_ratio": 0.375,
        "slow_peer_lowest_ratio": 0.25,
        "slow_peer_highest_ratio": 0.5,
        "before_matrix_product_gflops": 100.0,
        "after_matrix_product_gflops": 90.0,
    }
    assert (run.folder / "comparison.png").exists()
    printed = capsys.readouterr().out
    assert "100 GFLOP/s before, 90 GFLOP/s after" in printed
    assert "times as fast as Peer" in printed and "2.50 (2.00 to 3.00)" in printed


def test_the_summary_has_the_versions_of_installed_packages(run):
    run.finish(run={})
    found = json.loads((run.folder / "summary.json").read_text())["versions"]
    assert found == device.versions("scikit-learn") and "scikit-learn" in found
    assert "not-installed" not in found


def test_a_command_is_timed_in_its_folder(tmp_path):
    script = "import pathlib, time; time.sleep(0.05); pathlib.Path('here').touch()"
    assert peers.command_seconds([sys.executable, "-S", "-c", script], folder=tmp_path) > 0.05
    assert (tmp_path / "here").exists()


def test_a_command_that_fails_is_named_with_its_last_line():
    script = "import sys; print('first', file=sys.stderr); sys.exit('no such data')"
    with pytest.raises(ValueError, match=r"-c .* failed: no such data$"):
        peers.command_seconds([sys.executable, "-S", "-c", script])


def test_a_missing_peer_names_the_command_that_installs_it():
    assert peers.import_peer("json", "JSON", "peers") is json
    with pytest.raises(ValueError, match=r"^peers needs Somebody: pip install '\.\[peers\]'$"):
        peers.import_peer("no_such_module", "Somebody", "peers")


# The table.

ROW = """[[row]]
work = "step"
ours = "by hand"
peer = "JAX"
ratio = "hand_jax_ratio"
records = [{}]
"""


def record(folder, name, metrics, *, cpu="X", device="cpu: X, 1 thread, fp32", rates=None):
    entry = {
        "command": "python -m ch04_cuda.train by_hand --data mnist",
        "n": 2,
        "metrics": {name: {"mean": sum(values) / len(values), "values": values} for name, values in metrics.items()},
        "device": device,
        "machine": {"cpu": cpu, "cores": 2, "gpu": "H200"},
        "versions": {"torch": "2.14.1", "jax": "0.10.2"},
        "date": "2026-12-01",
    }
    (folder / f"{name}.json").write_text(json.dumps(entry | ({"matrix_product_gflops": rates} if rates else {})))


def test_each_machine_has_a_column(tmp_path):
    over_rounds = {
        "hand_jax_ratio": [1.1, 1.3],
        "hand_jax_lowest_ratio": [1.0, 0.9],
        "hand_jax_highest_ratio": [1.2, 1.4],
    }
    record(tmp_path, "one", over_rounds, rates={"before": 99.6, "after": 101.2})
    record(tmp_path, "two", {"hand_jax_ratio": [2.0, 3.0]}, cpu="Y")
    record(tmp_path, "three", {"hand_jax_ratio": [5.0]}, cpu="Y", device="cuda:0: H200")
    rows = ROW.format('"one", "two"') + ROW.replace("step", "epoch").format('"three"')
    (tmp_path / "peers.toml").write_text(rows)
    lines = peer_table.render_peers(tmp_path, tmp_path / "page.md").splitlines()
    assert lines[0] == "| work | ours | compared with | X, 2 cores | Y, 2 cores | H200 |"
    assert lines[1] == "|---|---|---|---:|---:|---:|"
    assert lines[2] == "| step | by hand | JAX | 1.20 (0.90 to 1.40) | 2.50 (2.00 to 3.00 over runs) |  |"
    assert lines[3] == "| epoch | by hand | JAX |  |  | 5.00 |"
    lines = peer_table.render_conditions(tmp_path, tmp_path / "page.md").splitlines()
    command = "| `ch04_cuda.train by_hand --data mnist` | 2 | cpu: X, 1 thread, fp32 | torch 2.14.1, jax 0.10.2 |"
    assert f"{command} 100, 101 | 2026-12-01 |" in lines
    assert f"{command} not recorded | 2026-12-01 |" in lines


@pytest.mark.parametrize(
    ("records", "metric", "error", "message"),
    [
        ('"none"', "hand_jax_ratio", FileNotFoundError, r"page\.md names results/none\.json, which does not exist"),
        ('"one"', "other_ratio", ValueError, r"page\.md names hand_jax_ratio, which results/one\.json does not have"),
    ],
)
def test_a_row_without_a_record_is_rejected(tmp_path, monkeypatch, records, metric, error, message):
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    record(tmp_path, "one", {metric: [1.0]})
    (tmp_path / "peers.toml").write_text(ROW.format(records))
    with pytest.raises(error, match=message):
        tables.render("<!-- peers -->\nold\n<!-- /peers -->\n", tmp_path / "page.md")


def test_the_marker_is_replaced_and_a_malformed_one_rejected(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    record(tmp_path, "one", {"hand_jax_ratio": [1.0]})
    (tmp_path / "peers.toml").write_text(ROW.format('"one"'))
    marked = "<!-- peers -->\nold\n<!-- /peers -->\n<!-- peer-conditions -->\nold\n<!-- /peer-conditions -->\nbelow\n"
    text = tables.render(marked, tmp_path / "page.md")
    assert text.startswith("<!-- peers -->\n| work |")
    assert "|\n<!-- /peers -->\n<!-- peer-conditions -->\n| command |" in text
    assert text.endswith("|\n<!-- /peer-conditions -->\nbelow\n")
    assert "old" not in text and tables.render(text, tmp_path / "page.md") == text
    for name in ("peers", "peer-conditions"):
        with pytest.raises(ValueError, match="malformed"):
            tables.render(f"<!-- {name} -->\nno end", tmp_path / "page.md")
