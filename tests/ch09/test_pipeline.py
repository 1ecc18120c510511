"""The pipeline with Snakemake: due jobs, file names, provenance, interruption, settings and errors."""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.progress import Progress

from ch06_cnn.convolution import cnn
from ch09_pipeline import engine, graph, names, pipeline, provenance, repository, rerun_costs, status
from ch09_pipeline.card import checksum, read_card
from ch09_pipeline.engine import Job
from ch09_pipeline.pipeline import Config
from common.config import RunOptions
from common.data.images.binary import CIFAR_RECORD
from common.data.images.cifar import encode_cifar
from common.data.images.shapes import NAMES, draw_shapes
from conftest import REAL_DATA_DIR, ROOT

pytest.importorskip("snakemake", reason="Snakemake is not installed: pip install '.[pipeline]'")

pytestmark = pytest.mark.usefixtures("warm")  # commands that start with PYTHON are not warm

PYTHON = sys.executable
DOWNSTREAM = {"evaluate dropout", "evaluate nodropout", "compare", "publish", "predict"}
TRAIN = {"train dropout", "train nodropout"}


def write_batches(folder: Path, names: list[str], images: int = 60) -> Path:
    folder.mkdir(parents=True)
    drawn = draw_shapes(len(names) * images, torch.Generator().manual_seed(1))
    order = torch.randperm(len(drawn), generator=torch.Generator().manual_seed(2))
    for name, index in zip(names, order.split(images), strict=True):
        (folder / f"{name}.bin").write_bytes(encode_cifar(drawn[index]))
    (folder / "batches.meta.txt").write_text("\n".join(NAMES))
    return folder


def write_pictures(folder: Path) -> Path:
    folder.mkdir()
    for number, pixels in enumerate(draw_shapes(2, torch.Generator().manual_seed(3)).pixels):
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def run(config: Config) -> tuple[dict[str, float], str]:
    """Run the pipeline; return its metrics and its output."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        metrics = pipeline.train(config)
    return metrics, output.getvalue()


@dataclass(frozen=True)
class Finished:
    config: Config
    work: Path
    data: Path
    metrics: dict[str, float]
    output: str

    def due(self) -> dict[str, str]:
        """Return the due jobs and their reasons."""
        return {job.name: job.reason for job in engine.plan(self.work)}


@pytest.fixture(scope="module")
def first(tmp_path_factory, warm_python) -> Finished:
    """One run on six training batches, one of them broken, and a test batch; shared by the tests of this file."""
    home = tmp_path_factory.mktemp("pipeline")
    data = write_batches(home / "my batches", [*(f"batch-{n}" for n in range(1, 6)), "test-1"])
    (data / "batch-6.bin").write_bytes(bytes(1000))
    new = write_pictures(home / "new")
    options = RunOptions(device="cpu", precision="fp32", threads=1, out=home / "runs")
    config = Config(data=data, new=new, epochs=1, threshold=0, jobs=2, run=options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", warm_python)
        metrics, output = run(config)
    return Finished(config, pipeline.work_folder(options, data), data, metrics, output)


@pytest.fixture
def finished(first):
    """The shared run; batches, new images and settings are restored after the test."""
    folders = (first.data, first.config.new)
    before = {path: path.read_bytes() for folder in folders for path in folder.iterdir()}
    settings = (first.work / "settings.json").read_text()
    yield first
    for folder in folders:
        for path in folder.iterdir():
            path.unlink()
    for path, content in before.items():
        path.write_bytes(content)
    (first.work / "settings.json").write_text(settings)


# Due jobs.


def test_the_first_run_runs_all_jobs_and_reports_them(first):
    assert first.metrics["jobs"] == 7 + 2 + 2 + 3
    assert first.metrics["datums"] == 6
    assert first.metrics["quarantined"] == 2
    lines = first.output.splitlines()
    assert lines[0].startswith("data     my batches: 6 training batches, 1 test batches, 360 images, yours, in ")
    assert "prepare  batch-1, batch-2, batch-3 and 4 more: not made yet" in lines
    assert "train    dropout, nodropout: not made yet" in lines
    assert "publish  not made yet" in lines
    assert (
        sum(line.startswith("broken   in quarantine: batch-6.bin is not a CIFAR-10 binary file") for line in lines) == 1
    )
    assert "broken   in quarantine: broken.png cannot be read: it is not an image" in lines
    published = read_card(first.work / "publish/card.json")
    assert published.facts["datums"] == {
        "batch-1": 60,
        "batch-2": 60,
        "batch-3": 60,
        "batch-4": 60,
        "batch-5": 60,
        "batch-6": 0,
    }
    assert list(published.facts["quarantined"]) == ["batch-6"]
    assert first.metrics["test_accuracy"] == published.facts["metrics"]["test_accuracy"]
    variant = published.facts["variant"]
    assert any(line.split()[:2] == ["variant", "valid"] for line in lines)
    for name in ("dropout", "nodropout"):
        assert sum(line.split()[:1] == [name] for line in lines) == 1
        measures = read_card(first.work / f"evaluate/{name}/card.json").facts["metrics"]
        for measure in ("valid_accuracy", "test_accuracy"):
            assert first.metrics[f"{name}_{measure}"] == measures[measure]
    news = [line for line in lines if line.startswith("new      0.png: ")]
    assert len(news) == 1
    assert news[0].endswith(f", in {first.work / 'predict'}")
    assert f"publish  {variant}, in {first.work / 'publish'}" in lines
    (folder,) = (first.config.run.out / "ch09_pipeline/pipeline").iterdir()
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["data"]["name"] == "my batches"
    assert summary["metrics"] == first.metrics
    for name, stage in (("comparison", "compare"), ("confusion", f"evaluate/{variant}")):
        assert (folder / f"{name}.png").read_bytes() == (first.work / stage / f"{name}.png").read_bytes()
    logs = {str(path.relative_to(first.work / "logs")) for path in (first.work / "logs").rglob("*.*")}
    stages = ("train", "evaluate")
    assert logs == {
        *(f"prepare/{name}.log" for name in (*(f"batch-{n}" for n in range(1, 7)), "test-1")),
        *(f"{stage}/{name}.log" for stage in stages for name in ("dropout", "nodropout")),
        *("compare.log", "publish.log", "predict.log"),
    }
    beside_source = [*ROOT.glob(".snakemake"), *(ROOT / "ch09_pipeline").rglob(".snakemake")]
    assert not beside_source, "Snakemake's state is among the source files"


def test_a_second_run_has_no_due_jobs(finished):
    before = {
        path: path.stat().st_mtime_ns for path in finished.work.glob("*/**/*.*") if ".snakemake" not in path.parts
    }
    for path in finished.data.iterdir():
        path.touch()
    for path in finished.work.glob("train/*/model.safetensors"):
        assert path.stat().st_size > 10**6, "Snakemake compares smaller files by content in any case"
        path.touch()
    before = {path: path.stat().st_mtime_ns for path in before}
    metrics, output = run(finished.config)
    assert "jobs     nothing to do: all results are up to date with data, code and settings" in output
    assert metrics == finished.metrics | {"jobs": 0}
    after = {path: path.stat().st_mtime_ns for path in before if finished.data not in path.parents}
    assert after == before


def test_a_changed_batch_is_prepared_and_all_later_stages_run(finished):
    path = finished.data / "batch-2.bin"
    path.write_bytes(path.read_bytes()[: 30 * CIFAR_RECORD])
    due = finished.due()
    assert due.keys() == {"prepare batch-2"} | TRAIN | DOWNSTREAM
    assert due["prepare batch-2"] == "its content has changed"
    assert due["train dropout"] == "an input was updated"


def test_a_changed_batch_with_an_old_date_is_detected_by_its_content(finished):
    path = finished.data / "batch-2.bin"
    times = path.stat()
    path.write_bytes(bytes(reversed(path.read_bytes())))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns - 10**12))
    assert finished.due()["prepare batch-2"] == "its content has changed"


def test_only_the_new_batch_is_prepared(finished):
    shutil.copyfile(finished.data / "batch-2.bin", finished.data / "batch-7.bin")
    due = finished.due()
    assert due.keys() == {"prepare batch-7"} | TRAIN | DOWNSTREAM
    assert due["prepare batch-7"] == "not made yet"
    assert due["train nodropout"] in ("a datum was added or removed", "an input was updated")


def test_training_runs_again_after_a_batch_was_removed(finished):
    (finished.data / "batch-2.bin").unlink()
    due = finished.due()
    assert due.keys() == TRAIN | DOWNSTREAM
    assert due["train dropout"] == "a datum was added or removed"


def test_training_does_not_run_again_after_a_test_batch_was_changed(finished):
    path = finished.data / "test-1.bin"
    path.write_bytes(path.read_bytes()[: 30 * CIFAR_RECORD])
    assert finished.due().keys() == {"prepare test-1"} | DOWNSTREAM


def test_new_images_only_rerun_predict(finished):
    shutil.copyfile(finished.config.new / "0.png", finished.config.new / "2.png")
    assert finished.due().keys() == {"predict"}
    for name in ("0.png", "2.png"):
        (finished.config.new / name).unlink()
    assert finished.due() == {"predict": "a datum was added or removed"}


def test_a_changed_setting_reruns_the_stages_that_use_it(finished):
    settings = pipeline.settings(replace(finished.config, epochs=2), finished.work, finished.data, finished.config.new)
    (finished.work / "settings.json").write_text(json.dumps(settings))
    due = finished.due()
    assert due.keys() == TRAIN | DOWNSTREAM
    assert "--epochs 1 " in due["train dropout"].partition(", are ")[0]
    assert "--epochs 2 " in due["train dropout"].partition(", are ")[2]
    settings = pipeline.settings(
        replace(finished.config, threshold=0.1), finished.work, finished.data, finished.config.new
    )
    (finished.work / "settings.json").write_text(json.dumps(settings))
    assert finished.due().keys() == {"publish", "predict"}


def test_changed_code_reruns_the_stages_that_use_it(finished, tmp_path, monkeypatch):
    for package in ("ch06_cnn", "ch09_pipeline", "common"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(engine, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "executable", PYTHON)
    assert not finished.due()
    with (tmp_path / "ch09_pipeline/stages/compare.py").open("a") as file:
        file.write("# a comment\n")
    due = finished.due()
    assert due.keys() == {"compare", "publish", "predict"}
    assert due["compare"] == "the stage's code has changed"


def test_status_lists_due_jobs_without_running_them(finished, capsys):
    (finished.data / "batch-2.bin").unlink()
    shutil.copyfile(finished.data / "batch-1.bin", finished.data / "batch-6.bin")
    (finished.data / "batch-6.bin").write_bytes(bytes(1000))
    assert status.train(status.Config(finished.data, finished.config.run)) == {"jobs": 7, "quarantined": 2}
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"data     my batches: {finished.data}"
    assert "prepare  up to date" in lines
    assert "train    dropout, nodropout: a datum was added or removed" in lines
    assert (
        sum(line.startswith("broken   in quarantine: batch-6.bin is not a CIFAR-10 binary file") for line in lines) == 1
    )
    assert "broken   in quarantine: broken.png cannot be read: it is not an image" in lines
    assert lines[-1] == "jobs     7 due"


def test_status_reports_quarantine_of_current_files_only(finished):
    """Files that were replaced or removed, or that no stage has read yet, are not reported."""
    shutil.copyfile(finished.data / "batch-1.bin", finished.data / "batch-6.bin")
    (finished.config.new / "later.png").write_bytes(b"no picture")
    folders = finished.work, finished.data, finished.config.new
    assert pipeline.quarantined(*folders) == ["broken.png cannot be read: it is not an image"]
    (finished.config.new / "broken.png").unlink()
    assert pipeline.quarantined(*folders) == []


# File names.


ODD = ("x{y}", "-w<o>rk #1; 100%7B|&", "a'b\"c *?[a] $HOME `id` \\", "ünï漢 ~,=: ")


def long_name(length: int) -> str:
    """Return a name that has `length` bytes when encoded, and no repetitions."""
    return "{ü}" + "".join(f"{number:03}" for number in range(length))[: length - len("%7Bü%7D".encode())]


@pytest.mark.slow
def test_any_file_name_works(tmp_path, capsys):
    """Snakemake interprets braces and angle brackets, the shell the other characters; two names have maximum length."""
    longest = [long_name(names.MAX_NAME_BYTES - len(suffix)) for suffix in (".safetensors", ".json.png")]
    data = write_batches(tmp_path / "da{t}a <o> *", [*ODD, longest[0], "test {z}"], images=20)
    new = write_pictures(tmp_path / "n{e}w")
    for name in (*ODD, longest[1]):
        shutil.copyfile(new / "0.png", new / f"{name}.png")
    (new / "x{y}.json").write_text("{")
    options = RunOptions(device="cpu", precision="fp32", threads=1, out=tmp_path / "the runs")
    config = Config(data=data, new=new, variants=("nodropout",), epochs=1, threshold=0, run=options)
    metrics, output = run(config)
    assert metrics["jobs"] == 6 + 5
    assert metrics["datums"] == 6
    assert metrics["quarantined"] == 2
    assert "broken   in quarantine: x{y}.json cannot be read: it is not an image" in output.splitlines()
    work = pipeline.work_folder(options, data)
    published = read_card(work / "publish/card.json")
    assert published.facts["datums"] == dict.fromkeys((*ODD, longest[0]), 20)
    tables = {path.name: path.read_text().splitlines() for path in (work / "predict").glob("*.csv")}
    assert len(tables) == 3 + len(ODD) + 2
    assert tables["x%7By%7D.png.csv"][1].startswith("x{y}.png,0,")
    assert len(tables["x%7By%7D.json.csv"]) == 1, "a header and no rows"
    assert read_card(work / "prepare/x%7By%7D.json").inputs == {"x{y}.bin": checksum(data / "x{y}.bin")}
    assert not engine.plan(work)
    config = provenance.Config(data=data, run=options)
    assert provenance.train(config) == {"files": 7, "data_changed": 0, "code_changed": 0}

    (data / "x{y}.bin").unlink()
    shutil.copyfile(data / f"{ODD[1]}.bin", data / f"{ODD[2]}.bin")
    (new / "x{y}.png").unlink()
    due = {job.name: job.reason for job in engine.plan(work)}
    assert due.keys() == {
        f"prepare {ODD[2]}",
        "train nodropout",
        "evaluate nodropout",
        *DOWNSTREAM - {"evaluate dropout"},
    }
    assert due[f"prepare {ODD[2]}"] == "its content has changed"
    assert graph.train(graph.Config(data, options)) == {"jobs": 5 + 5, "due": 6}
    capsys.readouterr()
    assert status.train(status.Config(data, options)) == {"jobs": 6, "quarantined": 2}
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"data     da{{t}}a <o> *: {data}"
    assert f"prepare  {ODD[2]}: its content has changed" in lines
    assert "broken   in quarantine: x{y}.json cannot be read: it is not an image" in lines


@given(st.text(st.characters(exclude_categories=()), max_size=20))
def test_encoded_names_can_be_decoded_and_contain_no_braces(name):
    assert names.decode(names.encode(name)) == name
    assert not set("{}<>") & set(names.encode(name))
    assert names.encode("Batch-1 (ü)~") == "Batch-1 (ü)~"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "two\nlines",
            "'.*two.nlines.*': its name has a line break, a control character or a non-UTF-8 byte: rename it",
        ),
        ("bell\a", "its name has a line break, a control character"),
        ("next\u0085line", "its name has a line break, a control character"),
        ("line\u2028", "its name has a line break, a control character"),
        ("paragraph\u2029", "its name has a line break, a control character"),
        ("byte\udcff", "a non-UTF-8 byte"),
        (long_name(243), r"{ü}.*: with the suffix of results, its name is \d+ bytes too long: rename it"),
    ],
)
def test_an_unusable_name_is_reported_before_any_job_runs(tmp_path, name, message):
    data, new = write_batches(tmp_path / "data", ["batch", "test"], images=5), tmp_path / "new"
    new.mkdir()
    options = RunOptions(device="cpu", out=tmp_path / "runs")
    picture = new / name
    picture.touch()
    with pytest.raises(ValueError, match=message):
        pipeline.train(Config(data=data, new=new, run=options))
    with pytest.raises(ValueError, match=message):
        status.folders({"data": str(data), "new": str(new)})
    picture.unlink()
    (data / f"{name}.bin").touch()
    with pytest.raises(ValueError, match=message):
        pipeline.train(Config(data=data, new=new, run=options))
    with pytest.raises(ValueError, match=message):
        status.folders({"data": str(data), "new": str(new)})
    assert not options.out.exists(), "a job ran"


def test_batches_and_images_that_cannot_be_read_are_reported(tmp_path, monkeypatch):
    data, new = write_batches(tmp_path / "data", ["batch", "test"], images=5), tmp_path / "new"
    new.mkdir()
    (new / "folder").mkdir()
    names.check_batches(data)
    names.check_pictures(new)
    for length, kind in ((233, "batch"), (240, "picture")):
        folder, suffix = (data, ".bin") if kind == "batch" else (new, "")
        check = names.check_batches if kind == "batch" else names.check_pictures
        (folder / f"{long_name(length)}{suffix}").touch()
        check(folder)
        path = folder / f"{long_name(length + 1)}{suffix}"
        path.touch()
        with pytest.raises(ValueError, match=r"\{ü\}0.* its name is 1 bytes too long"):
            check(folder)
        path.unlink()
    (data / ("0" * 19 + ".bin")).touch()
    names.check_batches(data)
    (data / ("x" + "01" * 20 + ".bin")).touch()
    with pytest.raises(ValueError, match=r"x0101.*\.bin: its name ends in a part repeated 20 times"):
        names.check_batches(data)
    (data / ("x" + "01" * 20 + ".bin")).unlink()
    (data / "link.bin").symlink_to("nowhere")
    with pytest.raises(ValueError, match=r"link\.bin is not a file, or a broken link: remove it or restore it"):
        names.check_batches(data)
    (data / "link.bin").unlink()
    (data / "x.bin").mkdir()
    with pytest.raises(ValueError, match=r"x\.bin is not a file"):
        names.check_batches(data)
    (new / "link").symlink_to("nowhere")
    with pytest.raises(ValueError, match="link is not a file, or a broken link"):
        names.check_pictures(new)
    (new / "link").unlink()
    monkeypatch.setattr(os, "access", lambda path, mode: path.name != long_name(240))
    with pytest.raises(ValueError, match="no read permission: change its permissions"):
        names.check_pictures(new)


def test_a_work_folder_with_wildcards_in_its_path_is_rejected(tmp_path):
    for name in ("{x}", "a<b"):
        options = RunOptions(device="cpu", out=tmp_path / name)
        with pytest.raises(ValueError, match=rf"^--out must be a folder without {{}} and <> in its path, got .*{name}"):
            pipeline.train(Config(run=options))
        assert not options.out.exists()


def test_a_missing_folder_of_the_last_run_is_reported(tmp_path):
    (tmp_path / "data").mkdir()
    settings = {"data": str(tmp_path / "data"), "new": str(tmp_path / "new")}
    with pytest.raises(
        FileNotFoundError, match=r"/new, the folder of new images of the last run, does not exist: restore it"
    ):
        status.folders(settings)


def test_the_progress_bar_shows_markup_in_names_literally(tmp_path, monkeypatch):
    """Rich interprets [/x] as the end of a style."""

    class Eager(Progress):
        def update(self, *arguments, **named) -> None:
            super().update(*arguments, **named)
            self.refresh()

    job = Job(1, "prepare", "[/x] [bold]", "not made yet")
    monkeypatch.setattr(pipeline, "Progress", Eager)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(engine, "plan", lambda work: [job])
    monkeypatch.setattr(engine, "run", lambda *_: (engine.Event(kind, job) for kind in ("start", "finish")))
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        assert pipeline.run_jobs(tmp_path, 1, 0) == [job]
    assert " prepare [/x] [bold]" in output.getvalue(), "the progress bar"
    assert "prepare  [/x] [bold]: not made yet" in output.getvalue()


@pytest.mark.slow
def test_a_rejected_model_fails_every_run_and_the_published_one_is_kept(finished):
    before = {path.name: path.read_bytes() for path in (finished.work / "publish").iterdir()}
    for _ in range(2):
        with pytest.raises(
            ValueError, match=r"^publish: refused: the best model, .* below --threshold 1; .*publish.log"
        ):
            run(replace(finished.config, threshold=1.0))
    assert {path.name: path.read_bytes() for path in (finished.work / "publish").iterdir()} == before
    metrics, _ = run(finished.config)
    assert metrics["jobs"] == 2, "publish and predict"


@pytest.mark.parametrize("lost", ["publish", "publish/model.safetensors"])
def test_lost_published_files_are_restored(finished, lost):
    path = finished.work / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    metrics, _ = run(finished.config)
    assert metrics["jobs"] == 2
    assert cnn.restore(finished.work / "publish")


# Provenance and graph.


def test_provenance_lists_data_code_and_parameters(finished, capsys):
    run(finished.config)
    capsys.readouterr()
    config = provenance.Config(data=finished.data, run=finished.config.run)
    assert provenance.train(config) == {"files": 8, "data_changed": 0, "code_changed": 0}
    output = capsys.readouterr().out
    for name in ("batch-1.bin", "batch-6.bin", "test-1.bin", "batches.meta.txt"):
        assert f"{name} " in output
        assert checksum(finished.data / name)[:16] in output
    assert checksum(finished.work / "publish/model.safetensors") in output
    assert "epochs 1, batch size 64, learning rate 0.002, seed 0" in output
    assert "in quarantine: batch-6.bin" in output
    assert f"torch {torch.__version__.partition('+')[0]}" in output
    (finished.data / "batch-1.bin").write_bytes(b"another")
    (finished.data / "batch-2.bin").unlink()
    assert provenance.train(config)["data_changed"] == 2


def test_a_copied_model_keeps_its_provenance_and_a_changed_one_is_rejected(finished, tmp_path):
    run(finished.config)
    copy = tmp_path / "copy"
    shutil.copytree(finished.work / "publish", copy)
    config = provenance.Config(model=copy, data=finished.data, run=finished.config.run)
    assert provenance.train(config)["data_changed"] == 0
    weights = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"model.safetensors does not match its card card.json"):
        provenance.train(config)
    with pytest.raises(FileNotFoundError, match=r"has no card.json: --model takes a folder"):
        provenance.train(replace(config, model=tmp_path))
    with pytest.raises(ValueError, match="is a result of the stage compare and contains no model"):
        provenance.train(replace(config, model=finished.work / "compare"))


def test_an_incomplete_lineage_is_reported():
    made = {"stage": "prepare", "inputs": {"x.bin": "1"}, "outputs": {"x.safetensors": "2"}}
    used = {"stage": "train", "inputs": {"prepare/x.safetensors": "2"}, "outputs": {"model.safetensors": "3"}}
    provenance.check_chain([made, used])
    with pytest.raises(ValueError, match=r"it has no stage that wrote prepare/x.safetensors, which train read"):
        provenance.check_chain([used])


def test_the_diagram_merges_jobs_with_the_same_neighbours_and_state(finished):
    run(finished.config)
    shutil.copyfile(finished.data / "batch-1.bin", finished.data / "test-1.bin")
    metrics = graph.train(graph.Config(finished.data, finished.config.run))
    assert metrics == {"jobs": 14, "due": 6}
    (folder,) = (finished.config.run.out / "ch09_pipeline/graph").iterdir()
    text = (folder / "pipeline.dot").read_text()
    assert "prepare: 6 jobs\\nbatch-1, batch-2, batch-3 and 3 more" in text
    assert "prepare\\ntest-1\\ndue" in text
    assert "evaluate\\nnodropout\\ndue" in text
    assert 'train\\ndropout"' in text
    with Image.open(folder / "pipeline.png") as picture:
        assert picture.size[0] > 300


# Interruption. These tests change the shared results, so they come last.


def stage_of(work: Path, name: str) -> list[int]:
    """Find the processes of a stage in a work folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (path / "cmdline").read_bytes().decode().split("\0")
            if f"ch09_pipeline.stages.{name}" in words and (path / "cwd").resolve() == work.resolve():
                found.append(int(path.name))
    return found


def start_long_training(config: Config) -> subprocess.Popen[str]:
    """Start the pipeline as a command, and wait until it trains."""
    words = ["--data", config.data, "--new", config.new, "--out", config.run.out, "--device", "cpu", "--jobs", 2]
    words += ["--epochs", 5000, "--variants", "nodropout", "--precision", "fp32"]
    command = [PYTHON, "-m", "ch09_pipeline.train", "pipeline", *map(str, words)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    work = pipeline.work_folder(config.run, config.data)
    before = time.time()
    for _ in range(3000):  # this takes minutes on a busy machine
        time.sleep(0.1)
        if any(path.stat().st_mtime > before for path in work.glob("train/.nodropout/*/*/*/metrics.jsonl")):
            return process
        assert process.poll() is None, process.communicate()
    process.kill()
    raise AssertionError("the training did not start", process.communicate())


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="finds processes in /proc")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_every_process_and_releases_the_lock(finished, number, code):
    process = start_long_training(finished.config)
    with pytest.raises(ValueError, match="another run uses"):
        run(finished.config)
    process.send_signal(number)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == code
    assert errors == ""
    assert "stopped  finished jobs are kept; continue with: python -m ch09_pipeline.train pipeline --data" in output
    assert not stage_of(finished.work, "train")
    with engine.locked(finished.work):
        pass


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="finds processes in /proc")
def test_a_run_after_a_kill_equals_stages_run_by_hand(finished, tmp_path):
    config = finished.config
    path = finished.data / "batch-2.bin"
    path.write_bytes(path.read_bytes()[: 30 * CIFAR_RECORD])
    (finished.data / "batch-1.bin").unlink()
    shutil.copyfile(finished.data / "batch-3.bin", finished.data / "batch-7.bin")
    process = start_long_training(config)
    (number,) = stage_of(finished.work, "train")
    process.kill()
    process.communicate()
    with pytest.raises(ValueError, match="another run uses"):  # Snakemake is still running
        run(config)
    os.killpg(os.getpgid(number), signal.SIGKILL)  # Snakemake and its stage
    for _ in range(100):
        time.sleep(0.1)
        with contextlib.suppress(ValueError), engine.locked(finished.work):
            break
    assert not (finished.work / "train/nodropout/card.json").exists()
    metrics, _ = run(config)
    assert metrics["jobs"] == 7, "results of prepare from before the kill are complete, and must not be made again"
    assert metrics["datums"] == 6
    facts = read_card(finished.work / "publish/card.json").facts
    assert facts["datums"] == {"batch-2": 30, "batch-3": 60, "batch-4": 60, "batch-5": 60, "batch-6": 0, "batch-7": 60}
    stage = [PYTHON, "-m", "ch09_pipeline.stages"]
    flags = ["--variant", facts["variant"], "--epochs", 1, "--seed", 0, "--device", "cpu", "--precision", "fp32"]
    by_hand = [
        ["prepare", "--in", finished.data, "--out", tmp_path / "prepare"],
        ["train", "--in", tmp_path / "prepare", finished.data, "--out", tmp_path / "train", *flags],
    ]
    for name, *words in by_hand:
        command = [*stage[:2], f"{stage[2]}.{name}", *map(str, words)]
        assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0
    mine, published = (
        tmp_path / f"train/{facts['variant']}/model.safetensors",
        finished.work / "publish/model.safetensors",
    )
    assert checksum(mine) == checksum(published)


# Lists of jobs, and settings of stages.


def test_jobs_are_listed_by_reason_and_long_lists_are_shortened():
    jobs = [Job(n, "prepare", f"batch-{n}", "not made yet") for n in range(1, 8)]
    jobs.append(Job(8, "prepare", "batch-8", "its content has changed"))
    assert pipeline.list_by_reason(jobs) == [
        "batch-1, batch-2, batch-3 and 4 more: not made yet",
        "batch-8: its content has changed",
    ]
    assert pipeline.list_by_reason([Job(1, "compare", "", "not made yet")]) == ["not made yet"]


def test_settings_are_passed_to_the_stages():
    options = RunOptions(seed=7, device="cuda", precision="bf16", threads=3, limit=100)
    config = Config(
        variants=("nodropout", "dropout", "nodropout"),
        epochs=2,
        batch_size=32,
        learning_rate=0.01,
        threshold=0.25,
        run=options,
    )
    settings = pipeline.settings(config, Path("/work"), Path("/data"), Path("/new"))
    training = "--epochs 2 --batch-size 32 --learning-rate 0.01 --seed 7 --limit 100"
    assert settings == {
        "python": sys.executable,
        "data": "/data",
        "new": "/new",
        "publish": "/work/publish",
        "profile": None,
        "variants": ["dropout", "nodropout"],
        "threads": 3,
        "flags": {
            "prepare": "",
            "train": f"{training} --threads 3 --device cuda --precision bf16",
            "evaluate": "--threads 3",
            "compare": "",
            "publish": "--threshold 0.25",
            "predict": "--threads 3",
        },
    }
    for number, threads in ((0, os.cpu_count()), (None, 1)):
        settings = pipeline.settings(Config(run=RunOptions(threads=number)), Path("/w"), Path("/data"), Path("/new"))
        assert settings["threads"] == threads
        assert settings["flags"]["predict"] == f"--threads {threads}"
        assert "--limit" not in settings["flags"]["train"]


def test_the_number_of_parallel_jobs_is_the_setting_or_that_of_the_processors(finished, monkeypatch):
    cores_used = []
    monkeypatch.setattr(pipeline, "run_jobs", lambda work, cores, lock: cores_used.append(cores) or [])
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    for jobs in (2, None):
        run(replace(finished.config, jobs=jobs))
    assert cores_used == [2, 7]
    monkeypatch.setattr(engine, "find_profile", lambda name: Path(name))
    for jobs in (2, None):
        run(replace(finished.config, jobs=jobs, profile="slurm"))
    assert cores_used[2:] == [2, None], "without --jobs, the profile decides"


# User errors.


def test_user_errors_are_reported(tmp_path, monkeypatch):
    options = RunOptions(device="cpu", out=tmp_path / "runs")
    config = Config(run=options)
    with pytest.raises(FileNotFoundError, match=r"--data .*nowhere: no such folder; omit --data"):
        pipeline.train(replace(config, data=tmp_path / "nowhere"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data/batch.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=r"contains 1 training batches and 0 test batches"):
        pipeline.train(replace(config, data=tmp_path / "data"))
    (tmp_path / "data/test.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=r"--new must be a folder, got .*nowhere"):
        pipeline.train(replace(config, data=tmp_path / "data", new=tmp_path / "nowhere"))
    assert not (tmp_path / "runs").exists(), "no folder may be created after an error"
    with pytest.raises(ValueError, match=r"--resume is not needed"):
        pipeline.train(replace(config, run=replace(options, resume=True)))
    with pytest.raises(FileNotFoundError, match=r"no pipeline has run in .*: start with python -m ch09_pipeline.train"):
        status.train(status.Config(run=RunOptions(out=tmp_path / "none")))
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"Snakemake is not installed: pip install '.\[pipeline\]'"):
        pipeline.train(replace(config, data=tmp_path / "data", new=tmp_path / "data"))


def test_data_folders_of_the_same_name_do_not_share_a_work_folder(finished, tmp_path):
    other = Path(shutil.copytree(finished.data, tmp_path / finished.data.name))
    message = r"the last run in .* was on .*my batches, not on .*my batches: choose another --out"
    with pytest.raises(ValueError, match=message):
        pipeline.train(replace(finished.config, data=other))
    with pytest.raises(ValueError, match=message):
        status.train(status.Config(other, finished.config.run))
    (tmp_path / "settings.json").write_text(json.dumps({"data": str(tmp_path / "gone")}))
    pipeline.check_repository(tmp_path, other)  # the earlier data folder no longer exists: it may have been moved here


def test_provenance_needs_a_published_model(tmp_path):
    options = RunOptions(out=tmp_path)
    work = pipeline.work_folder(options, None)
    work.mkdir(parents=True)
    (work / "settings.json").write_text(json.dumps({"data": str(work / "data")}))
    with pytest.raises(FileNotFoundError, match=r"^nothing is published in .*publish yet: run python -m ch09_pipeline"):
        provenance.train(provenance.Config(run=options))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"epochs": 0}, "--epochs must be a number above 0, got 0"),
        ({"jobs": 0}, "--jobs must be a number above 0, got 0"),
        ({"variants": ()}, "--variants needs at least one"),
        ({"threshold": 1.5}, "--threshold must be between 0 and 1, got 1.5"),
    ],
)
def test_invalid_settings_are_rejected(bad, message):
    with pytest.raises(ValueError, match=message):
        Config(**bad)


def test_a_run_without_valid_batches_is_one_error(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for name in ("batch", "test"):
        (data / f"{name}.bin").write_bytes(b"broken")
    options = RunOptions(device="cpu", out=tmp_path / "runs")
    with pytest.raises(ValueError, match=r"^train nodropout: none of 0 images is in the train split: add batches \("):
        run(Config(data=data, new=data, variants=("nodropout",), run=options))


# Embedded data.


def test_embedded_batches_are_repeatable_and_written_once(tmp_path):
    repository.embed_batches(tmp_path / "a")
    repository.embed_batches(tmp_path / "b")
    one, two = (repository.describe(tmp_path / name, name="shapes", embedded=True) for name in "ab")
    assert one.sha256 == two.sha256
    assert one.description.startswith("20 training batches, 2 test batches, 5,500 images, embedded")
    (tmp_path / "a/batch-01.bin").unlink()
    repository.embed_batches(tmp_path / "a")
    assert not (tmp_path / "a/batch-01.bin").exists(), "a batch that the user removed must not be restored"
    assert repository.describe(tmp_path / "a", name="shapes", embedded=True).sha256 != two.sha256
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_if_two_processes_create_a_folder_the_first_wins(tmp_path):
    folder = tmp_path / "data"

    def fill(scratch: Path) -> None:
        (scratch / "second").touch()
        folder.mkdir()  # the other process finishes first
        (folder / "first").touch()

    repository._fill_once(folder, fill)
    assert [path.name for path in folder.iterdir()] == ["first"]
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_embedded_images_are_named_after_their_classes(tmp_path):
    repository.embed_pictures(tmp_path / "new")
    pictures = names.pictures(tmp_path / "new")
    assert len(pictures) == 12
    assert pictures[0].name == "01-disc.png"
    with Image.open(pictures[0]) as picture:
        assert picture.size == (32, 32)


# Many batches; real batches.


@pytest.mark.slow
def test_number_of_jobs_after_each_change(tmp_path):
    options = RunOptions(device="cpu", precision="fp32", threads=1, limit=100, out=tmp_path / "runs")
    metrics = rerun_costs.train(rerun_costs.Config(epochs=1, run=options))
    recorded = json.loads((ROOT / "results/ch09/rerun-costs.json").read_text())["metrics"]
    jobs = [name for name in metrics if name.endswith("_jobs")]
    assert [metrics[name] for name in jobs] == [29, 0, 8, 7, 6] == [recorded[name]["mean"] for name in jobs]
    assert len(list(options.out.glob("*/rerun_costs/*/changed_batch.png"))) == 1


@pytest.mark.slow
def test_two_of_50_batches_are_quarantined_and_the_others_used(tmp_path):
    names = [f"batch-{n:03}" for n in range(45)] + [f"test-{n}" for n in range(5)]
    data = write_batches(tmp_path / "many", names, images=4)
    (data / "batch-007.bin").write_bytes(b"")
    (data / "test-3.bin").write_bytes(bytes(CIFAR_RECORD))
    options = RunOptions(device="cpu", precision="fp32", threads=1, out=tmp_path / "runs")
    config = Config(data=data, variants=("nodropout",), epochs=1, threshold=0, run=options)
    metrics, output = run(config)
    assert metrics["jobs"] == 50 + 5
    assert metrics["datums"] == 48
    assert metrics["quarantined"] == 2
    assert "broken   in quarantine: batch-007.bin is not a CIFAR-10 binary file: 0 bytes" in output
    assert "broken   in quarantine: test-3.bin has an image of a single colour, number 0" in output


@pytest.mark.slow
@pytest.mark.data
def test_the_pipeline_runs_on_the_published_cifar_10_files(tmp_path):
    options = RunOptions(device="cpu", threads=1, limit=500, out=tmp_path / "runs")
    data = REAL_DATA_DIR / "cifar-10-batches-bin"
    metrics, output = run(Config(data=data, variants=("nodropout",), epochs=1, threshold=0, run=options))
    assert output.startswith("data     cifar-10-batches-bin: 5 training batches, 1 test batches, 60,000 images")
    assert metrics["datums"] == 6
    published = read_card(pipeline.work_folder(options, data) / "publish/card.json")
    assert published.facts["class_names"][:2] == ["airplane", "automobile"]
