"""The ledger: figures go from a run's summary to a README's table automatically."""

import json
import statistics
import tomllib

import pytest

from common.records import ledger, tables

ENTRY = {
    "title": "defaults",
    "command": "python -m ch03_x.train program --epochs 2",
    "data": {"name": "digits", "embedded": True, "sha256": "0"},
    "n": 2,
    "seeds": [0, 1],
    "metrics": {"test_accuracy": ledger.spread([0.98, 0.99]), "test_mse": ledger.spread([0.004, 0.005])},
    "seconds": ledger.spread([1.0, 2.0]),
    "device": "cpu: X, 1 thread, fp32",
    "machine": {},
    "versions": {"torch": "2.14.1"},
    "date": "2026-11-20",
}


@pytest.fixture
def house(monkeypatch, tmp_path):
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    monkeypatch.setattr(tables, "RESULTS", tmp_path / "results")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "one.json").write_text(json.dumps(ENTRY))
    (tmp_path / "results" / "targets.toml").write_text("[one]\ntest_accuracy = { at_least = 0.985 }\n")
    (tmp_path / "README.md").write_text(
        "above\n<!-- ledger: one | test_accuracy test_mse -->\nold\n<!-- /ledger -->\nbelow\n"
    )
    return tmp_path


def test_spread_is_the_sample_standard_deviation():
    values = [1.0, 2.0, 4.0]
    assert ledger.spread(values) == {"mean": 7 / 3, "sd": statistics.stdev(values), "values": values}
    assert ledger.spread([3.0])["sd"] == 0


def test_table_shows_metrics_data_command_and_device(house):
    text = tables.render((house / "README.md").read_text(), house / "README.md")
    assert text.startswith("above\n<!-- ledger: one |")
    assert text.endswith("<!-- /ledger -->\nbelow\n")
    assert "old" not in text
    row = "| defaults | 98.50 ± 0.71 | 0.00450 ± 0.00071 | 2 | digits (embedded) | `program --epochs 2` |"
    assert row in text
    assert "cpu: X, 1 thread, fp32; torch 2.14.1; 2026-11-20" in text


def test_rendering_twice_changes_nothing(house):
    readme = house / "README.md"
    once = tables.render(readme.read_text(), readme)
    assert tables.render(once, readme) == once


def test_a_figure_typed_by_hand_is_detected(house):
    readme = house / "README.md"
    readme.write_text(tables.render(readme.read_text(), readme))
    assert tables.stale_readmes() == []
    readme.write_text(readme.read_text().replace("98.50", "98.60"))
    assert tables.stale_readmes() == [readme]


@pytest.mark.parametrize(
    ("bounds", "missed"),
    [
        ("at_least = 0.985", []),
        ("at_least = 0.99", ["one test_accuracy: 98.50 ± 0.71, at least 99"]),
        ("at_most = 0.8", ["one test_accuracy: 98.50 ± 0.71, at most 80"]),
        ("at_least = 0.9, at_most = 0.985", []),
    ],
)
def test_missed_aims_are_listed_for_developers_and_kept_out_of_tables(house, bounds, missed):
    (house / "results" / "targets.toml").write_text(f"[one]\ntest_accuracy = {{ {bounds} }}\n")
    assert tables.missed_aims() == missed
    assert tables.cell(tables.read_record("one"), "test_accuracy") == "98.50 ± 0.71"


def test_targets_are_for_figures_that_are_recorded():
    for record, targets in tomllib.loads((tables.RESULTS / "targets.toml").read_text(encoding="utf-8")).items():
        for measure, bounds in targets.items():
            assert measure in tables.read_record(record)["metrics"], record
            assert bounds.keys() and bounds.keys() <= {"at_least", "at_most"}


def test_a_single_run_is_shown_without_deviation():
    table = tables.render_table([{**ENTRY, "n": 1, "data": None}], ["test_accuracy", "absent"])
    assert "| defaults | 98.50 |  | 1 |  |" in table
    assert "Mean" not in table


def test_a_metric_can_be_shown_as_values_or_as_median(house):
    entry = {**ENTRY, "n": 4, "metrics": {"a_rmse": ledger.spread([4509.85, 15.9, 162.5, 61.6])}}
    table = tables.render_table([entry], ["a_rmse:values", "a_rmse:median"])
    assert "| | a rmse, each seed | a rmse, median (range) |" in table
    assert "| defaults | 4510, 15.9, 162.5, 61.6 | 112 (15.9 to 4510) |" in table
    assert "Mean" not in table
    grid = tables.render_grid(entry, ["a"], ["rmse:values"])
    assert "| | rmse, each seed |" in grid
    assert "| a | 4510, 15.9, 162.5, 61.6 |" in grid
    readme = house / "README.md"
    text = tables.render("<!-- ledger: one | test_accuracy:values -->\n<!-- /ledger -->", readme)
    assert "| | test accuracy, %, each seed |" in text
    assert "| defaults | 98.00, 99.00 |" in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- ledger: one | test_accuracy:mode -->\n<!-- /ledger -->", "test_accuracy:mode: unknown view 'mode'"),
        (
            "<!-- ledger: one | test_acuracy:values -->\n<!-- /ledger -->",
            "names test_acuracy",
        ),
        ("<!-- ledger: one | test_acuracy -->\n<!-- /ledger -->", "names test_acuracy"),
        ("<!-- ledger: one | test_accuracy -->\nno end", "malformed"),
        ("<!-- ledger: one test_accuracy -->\n<!-- /ledger -->", "malformed"),
        ("<!-- landmarks -->\nno end", "malformed"),
        ("<!-- devices -->\nno end", "malformed"),
    ],
)
def test_an_invalid_marker_is_rejected(house, text, message):
    with pytest.raises(ValueError, match=message):
        tables.render(text, house / "README.md")


def test_a_missing_record_is_named(house):
    with pytest.raises(FileNotFoundError, match=r"results/two\.json"):
        tables.render("<!-- ledger: two | x -->\n<!-- /ledger -->", house / "README.md")


def test_recording_runs_each_seed_and_saves_its_figures(monkeypatch, tmp_path):
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    monkeypatch.setattr(ledger, "matrix_product_rate", iter([100.0, 200.0]).__next__)
    command = ["ch07_dqn.train", "q_table", "--rows", "3"]
    options = ledger.Record("ch99/test-record", title="quick", seeds=2, rates=False)
    entry = json.loads(ledger.record(options, command).read_text())
    assert entry["matrix_product_gflops"] == {"before": 100.0, "after": 200.0}
    assert not any("second" in name for name in entry["metrics"]), "recorded on a busy machine"
    assert entry["seeds"] == [0, 1]
    assert entry["command"] == "python -m ch07_dqn.train q_table --rows 3"
    assert entry["data"]["embedded"]
    assert entry["output"][0].startswith("data ")
    assert any(line.startswith("saved") and " runs/ch07_dqn/q_table/" in line for line in entry["output"])
    values = entry["metrics"]["shortest_steps"]["values"]
    assert len(set(values)) == 2, "another seed must give another maze"
    assert entry["metrics"]["shortest_steps"]["mean"] == statistics.fmean(values)


def test_a_record_keeps_first_and_last_output_lines_without_local_folders():
    lines = [f"epoch {epoch}" for epoch in range(1, 41)]
    short = ledger.shorten("data from /home/x/data/MNIST\n" + "\n".join(lines) + "\n", {"/home/x/data": "data"})
    assert short == ["data from data/MNIST", *lines[:4], "...", *lines[-7:]]
    assert ledger.shorten("\n".join(lines[:13]) + "\n", {}) == lines[:13], "no line is replaced by one of three dots"


def test_a_page_shows_the_output_of_a_record(house):
    readme = house / "README.md"
    page = "above\n<!-- output: one -->\n<!-- /output -->\nbelow\n"
    with pytest.raises(ValueError, match=r"results/one\.json has no output: record it again"):
        tables.render(page, readme)
    (house / "results" / "one.json").write_text(json.dumps(ENTRY | {"output": ["data     digits", r"loss \d 0.1"]}))
    shown = f"```text\n$ {ENTRY['command']}\ndata     digits\nloss \\d 0.1\n```\n"
    assert tables.render(page, readme) == f"above\n<!-- output: one -->\n{shown}<!-- /output -->\nbelow\n"
    assert tables.render(tables.render(page, readme), readme) == tables.render(page, readme)


@pytest.mark.parametrize(
    ("after", "speeds", "message"),
    [
        (104.0, [50.0, 51.0], None),
        (106.0, [50.0, 51.0], "the machine's matrix-product rate varies by 6 %, more than 5 %"),
        (94.0, [50.0, 51.0], "the machine's matrix-product rate varies by 6 %"),
        (100.0, [50.0, 60.0], "images_per_second varies by 13 %"),
    ],
)
def test_rates_of_a_busy_machine_are_rejected(after, speeds, message):
    metrics = {"images_per_second": ledger.spread(speeds), "solved_seconds": ledger.spread([1.0, 9.0])}
    entry = ENTRY | {"metrics": metrics, "matrix_product_gflops": {"before": 100.0, "after": after}}
    if message is None:
        ledger.require_steady(entry)
    else:
        with pytest.raises(ValueError, match=message):
            ledger.require_steady(entry)


def test_a_rejected_record_keeps_the_old_one(monkeypatch, tmp_path):
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    monkeypatch.setattr(ledger, "matrix_product_rate", iter([100.0, 200.0]).__next__)
    with pytest.raises(ValueError, match="nothing was recorded"):
        ledger.record(ledger.Record("busy", seeds=1), ["ch07_dqn.train", "q_table", "--rows", "3"])
    assert not list(tmp_path.iterdir())


def test_the_matrix_product_rate_is_measured():
    assert 0.1 < ledger.matrix_product_rate(256, 5) < 1e5


def test_a_metric_that_one_seed_lacks_is_omitted():
    summaries = [
        {
            "metrics": metrics,
            "config": {"run": {"seed": seed}},
            "seconds": 1.0,
            "data": None,
            "device": "",
            "versions": {},
        }
        for seed, metrics in enumerate([{"a": 1.0, "b": 2.0}, {"a": 3.0}])
    ]
    entry = ledger.summarise(ledger.Record("test-record"), ["ch03_x.train"], summaries)
    assert entry["metrics"] == {"a": ledger.spread([1.0, 3.0])}


def test_a_run_that_fails_is_not_recorded(monkeypatch, tmp_path, capfd):
    monkeypatch.setattr(tables, "RESULTS", tmp_path / "results")
    with pytest.raises(ValueError, match="seed 0 failed; nothing was recorded"):
        ledger.record(ledger.Record("test-failure"), ["ch03_autoencoder_rbm.train", "nothing"])
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["record", "x"], "nothing to record"),
        (["record", "../x"], "a record name consists of letters"),
        (["record", "x", "--seeds", "0"], "--seeds must be at least 1"),
        (["rendre"], "rendre"),
    ],
)
def test_mistakes_are_one_line(monkeypatch, fails, words, message):
    monkeypatch.setattr("sys.argv", ["ledger", *words])
    assert message in fails(ledger.main)


def test_a_record_of_rows_and_columns_is_a_table_of_its_own(house):
    metrics = {"sgd_steps": [10.0, 30.0], "sgd_mse": [1.0, 1.0], "gorgonia_rmsprop_steps": [1e3, 1e3]}
    metrics["gorgonia_rmsprop_mse"] = [0.5, 0.5]
    entry = ENTRY | {"metrics": {name: ledger.spread(values) for name, values in metrics.items()}}
    (house / "results" / "grid.json").write_text(json.dumps(entry))
    marker = "<!-- ledger: grid | sgd gorgonia_rmsprop x steps mse -->\n"
    lines = tables.render(f"{marker}<!-- /ledger -->", house).splitlines()
    assert lines[1:5] == [
        "| | steps | mse |",
        "|---|---:|---:|",
        "| sgd | 20 ± 14 | 1.00000 ± 0.00000 |",
        "| gorgonia rmsprop | 1,000 ± 0 | 0.50000 ± 0.00000 |",
    ]
    assert lines[6].startswith("Mean ± standard deviation over 2 seeds. `program --epochs 2` on digits (embedded). cpu")
    with pytest.raises(ValueError, match="needs one record"):
        tables.render(marker.replace("grid |", "grid one |") + "<!-- /ledger -->", house)
    with pytest.raises(ValueError, match="names sgd_speed"):
        tables.render(marker.replace("mse -->", "speed -->") + "<!-- /ledger -->", house)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.16, 0.1602], "0.1601 ± 0.0001"),
        ([0.15, 0.17], "0.1600 ± 0.0141"),
        ([1e-19, 3e-19], "2.000e-19 ± 1.414e-19"),
        ([633.0], "633"),
    ],
)
def test_a_deviation_has_the_digits_of_its_mean(values, expected):
    entry = {"n": len(values), "metrics": {"slope": ledger.spread(values)}}
    assert tables.cell(entry, "slope") == expected


def test_landmarks_are_looked_up_in_the_records(house):
    (house / "results" / "landmarks.toml").write_text(
        '[[landmark]]\nwork = "digits"\nrecord = "one"\nmeasure = "test_accuracy"\nbook = "76.1 %"\n'
        'published = "97 %"\nsource = "somebody"\n'
        '[[landmark]]\nwork = "pictures"\nrecord = "one"\nmeasure = "test_mse"\n'
    )
    readme = house / "README.md"
    readme.write_text("<!-- landmarks -->\nold\n<!-- /landmarks -->\n")
    assert tables.stale_readmes() == [readme]
    text = tables.render(readme.read_text(), readme)
    assert "| digits | 98.50 ± 0.71 % | 76.1 % | 97 % | somebody |" in text
    assert "| pictures | 0.00450 ± 0.00071 |  |  |  |" in text
    assert "old" not in text
    assert tables.render(text, readme) == text
