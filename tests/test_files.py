"""Files and checkpoints: atomic, flushed to disk, and with clear errors."""

import errno
import io
import json
import os
import pickle
import random
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from common import checkpoint, files
from common.checkpoint import Progress, load_checkpoint, save_checkpoint
from common.files import (
    DiskFullError,
    atomic_path,
    explain_unwritable,
    read_json,
    sync_folder,
    write_json,
    write_text,
)
from common.run import Run
from test_run import MODULE, Config, walk

FULL = Path("/dev/full")
PROGRESS = Progress(epoch=3, history=[{"epoch": 3, "loss": 0.5}], train_seconds=1.5, seconds=2.5, items=7, unit="steps")

needs_full = pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")


@pytest.fixture
def config(options):
    return Config(run=options)


# Durability.


def test_a_file_is_flushed_before_the_rename_and_the_folder_after_it(tmp_path, monkeypatch):
    events = []
    sync, rename = os.fsync, Path.replace

    def fsync(handle):
        status = os.fstat(handle)
        path = next(path for path in [tmp_path, *tmp_path.iterdir()] if path.stat().st_ino == status.st_ino)
        events.append(("sync", path, "" if path.is_dir() else path.read_text()))
        sync(handle)

    def replace(self, target):
        events.append(("rename", self, target))
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    path = tmp_path / "a.txt"
    write_text(path, "whole")
    temporary = events[0][1]
    assert temporary.name.startswith(files.UNFINISHED)
    assert events == [("sync", temporary, "whole"), ("rename", temporary, path), ("sync", tmp_path, "")]


def test_a_new_run_folder_is_flushed_to_disk(config, monkeypatch):
    synced = []
    sync = os.fsync

    def fsync(handle):
        synced.append(os.fstat(handle).st_ino)
        sync(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with Run.open(MODULE, config) as run:
        assert run.folder.parent.stat().st_ino in synced


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_that_cannot_sync_folders_is_accepted(tmp_path, monkeypatch, number):
    def refuse(_):
        raise OSError(number, "no")

    monkeypatch.setattr(os, "fsync", refuse)
    sync_folder(tmp_path)
    monkeypatch.setattr(os, "open", None)
    monkeypatch.setattr(files.os, "name", "nt")
    sync_folder(tmp_path)


def test_other_errors_of_folder_sync_are_raised(tmp_path, monkeypatch):
    def fail(_):
        raise OSError(errno.EIO, "broken disk")

    handles = len(list(Path("/dev/fd").iterdir()))
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="broken disk"):
        sync_folder(tmp_path)
    assert len(list(Path("/dev/fd").iterdir())) == handles


def test_a_file_keeps_its_suffix_and_can_be_read_by_all(tmp_path):
    with atomic_path(tmp_path / "new" / "a.png") as temporary:
        assert temporary.suffix == ".png"
        assert temporary.parent == tmp_path / "new"
        temporary.write_text("x")
    assert (tmp_path / "new" / "a.png").stat().st_mode & 0o777 == 0o644


# A full disk.


@needs_full
def test_a_full_disk_names_the_file_and_the_remedy(tmp_path):
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(DiskFullError) as error, explain_unwritable(tmp_path), atomic_path(path):
        FULL.write_bytes(b"x")
    assert str(error.value) == (
        f"no space to write {path} (No space left on device): free some space or choose another folder, "
        "then run the command again; resume a training with --resume"
    )
    assert list(tmp_path.iterdir()) == []


def test_other_write_errors_are_not_disk_full_errors(tmp_path):
    with pytest.raises(OSError, match="Permission denied") as error, atomic_path(tmp_path / "a"):
        raise PermissionError(errno.EACCES, "Permission denied")
    assert not isinstance(error.value, DiskFullError)
    message = rf"cannot write to {tmp_path} \(Permission denied\): choose another folder with --out"
    with pytest.raises(OSError, match=message), explain_unwritable(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied")


@needs_full
def test_a_full_disk_while_logging_an_epoch_is_reported(config):
    with Run.open(MODULE, config) as run:
        next(run.epochs(1, 1))
        run.step(torch.tensor(1.0), samples=1)
        (run.folder / "metrics.jsonl").symlink_to(FULL)
        with pytest.raises(DiskFullError, match=f"no space to write {run.folder / 'metrics.jsonl'}"):
            run.log()


def test_a_full_disk_while_saving_weights_is_reported(config, monkeypatch):
    import safetensors.torch
    from safetensors import SafetensorError

    said = "Error while serializing: I/O error: No space left on device (os error 28)"

    def full(model, name):
        raise SafetensorError(said)

    monkeypatch.setattr(safetensors.torch, "save_model", full)
    with Run.open(MODULE, config) as run:
        path = run.folder / "model.safetensors"
        with pytest.raises(
            DiskFullError, match=rf"no space to write {path} \(No space left on device\): free some space"
        ):
            run.save(torch.nn.Linear(1, 1))
        said = "Error while serializing: something else"
        with pytest.raises(OSError, match=f"cannot write {path}: Error while serializing: something else"):
            run.save(torch.nn.Linear(1, 1))


# JSON.


def test_json_is_readable_and_strict(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"b": [1]})
    assert path.read_text() == '{\n  "b": [\n    1\n  ]\n}\n'
    assert read_json(path) == {"b": [1]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, float("nan"))
    path.write_bytes(b"\xff")
    with pytest.raises(ValueError, match=f"{path} is not valid JSON"):
        read_json(path)


# Checkpoints.


def save(path: Path, **changes) -> dict:
    """Save a checkpoint of one layer, with changes to its content; return the content."""
    save_checkpoint(path, PROGRESS, {"model": torch.nn.Linear(2, 1)}, torch.Generator(), torch.device("cpu"))
    content = torch.load(path, weights_only=True) | changes
    torch.save({name: value for name, value in content.items() if value is not None}, path)
    return content


def load(path: Path, **parts) -> Progress:
    parts = parts or {"model": torch.nn.Linear(2, 1)}
    return load_checkpoint(path, parts, torch.Generator(), torch.device("cpu"))


def test_a_checkpoint_restores_progress_parts_and_every_generator(tmp_path):
    path = tmp_path / "checkpoint.pt"
    model, order = torch.nn.Linear(2, 1), torch.Generator().manual_seed(3)
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(4)
    torch.rand(3, generator=order)
    save_checkpoint(path, PROGRESS, {"model": model}, order, torch.device("cpu"))

    def draw(generator):
        return random.random(), np.random.random(), torch.rand(()).item(), torch.rand((), generator=generator).item()

    expected = draw(order)
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    other, again = torch.nn.Linear(2, 1), torch.Generator()
    assert load_checkpoint(path, {"model": other}, again, torch.device("cpu")) == PROGRESS
    assert draw(again) == expected
    assert torch.equal(other.weight, model.weight)


@pytest.mark.parametrize(("name", "index"), [("cuda", 0), ("cuda:1", 1), ("mps", 2)])
def test_the_generator_of_the_accelerator_is_restored_too(tmp_path, monkeypatch, name, index):
    """CPU generators replace those of two GPUs and of an Apple chip."""
    generators = [torch.Generator().manual_seed(seed) for seed in range(3)]
    monkeypatch.setattr(torch.cuda, "default_generators", tuple(generators[:2]))
    monkeypatch.setattr(torch.mps, "_get_default_mps_generator", lambda: generators[2])
    path, device = tmp_path / "checkpoint.pt", torch.device(name)
    save_checkpoint(path, PROGRESS, {}, torch.Generator(), device)
    first = [torch.rand((), generator=generator).item() for generator in generators]
    load_checkpoint(path, {}, torch.Generator(), device)
    again = [torch.rand((), generator=generator).item() for generator in generators]
    assert [a == b for a, b in zip(first, again, strict=True)] == [number == index for number in range(3)]
    load_checkpoint(path, {}, torch.Generator(), torch.device("cpu"))  # of another machine


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("evil",)


def pickled(value) -> bytes:
    memory = io.BytesIO()
    torch.save(value, memory)
    return memory.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        pickled({"progress": Evil()}),
        pickle.dumps(Evil()),
        pickled(torch.nn.Linear(1, 1)),
        b"",
        b"PK\x03\x04",
        b"x" * 99,
    ],
    ids=["code", "pickle", "module", "empty", "cut", "noise"],
)
def test_a_rejected_checkpoint_error_does_not_recommend_weights_only_false(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"the checkpoint {path} is damaged, or holds more than") as error:
        load(path)
    assert str(error.value).endswith("plain values: remove it to begin this run again, or start without --resume")
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parts": None}, r"has no 'parts' \(model\)"),
        ({"parts": {}}, r"has no 'model' \(model\)"),
        ({"progress": None}, r"has no 'progress' \(progress\)"),
        ({"order": None}, r"has no 'order' \(order\)"),
        ({"random": None}, r"has no 'random' \(random\)"),
        ({"random": {}}, r"has no 'python' \(random\)"),
        ({"progress": {"epoch": 1}}, r"does not fit \(progress: .*missing 5 required positional arguments"),
        (
            {"progress": asdict(PROGRESS) | {"more": 1}},
            r"does not fit \(progress: .*unexpected keyword argument 'more'",
        ),
        ({"parts": {"model": {}}}, r"does not fit \(model: Error\(s\) in loading state_dict for Linear: Missing key"),
        ({"order": torch.zeros(3, dtype=torch.uint8)}, r"does not fit \(order: "),
        ({"parts": 3}, r"does not fit \(model: "),
    ],
)
def test_a_missing_checkpoint_entry_is_one_line(tmp_path, changes, message):
    path = tmp_path / "checkpoint.pt"
    save(path, **changes)
    with pytest.raises(ValueError, match=f"^the checkpoint {path} {message}") as error:
        load(path)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(": remove it to begin this run again, or start without --resume")


def test_many_missing_keys_are_still_one_short_line(tmp_path):
    path = tmp_path / "checkpoint.pt"
    save(path, parts={"model": {}})
    deep = torch.nn.Sequential(*(torch.nn.Linear(1, 1) for _ in range(200)))
    with pytest.raises(ValueError, match=r"does not fit \(model: .* \.\.\.\): remove it") as error:
        load(path, model=deep)
    assert len(str(error.value)) < 500 + len(str(path))


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), OSError(5, "broken")])
@pytest.mark.parametrize("where", ["file", "part"])
def test_memory_and_disk_errors_are_not_reported_as_a_damaged_checkpoint(tmp_path, monkeypatch, error, where):
    path = tmp_path / "checkpoint.pt"
    save(path)

    def fail(*_, **__):
        raise error

    model = torch.nn.Linear(2, 1)
    monkeypatch.setattr(*((checkpoint.torch, "load") if where == "file" else (model, "load_state_dict")), fail)
    with pytest.raises(type(error)) as raised:
        load(path, model=model)
    assert raised.value is error


def test_a_checkpoint_of_another_program_is_one_line(config, capsys):
    """The checkpoint is of a model that is larger than this one."""
    with pytest.raises(KeyboardInterrupt):
        walk(config, stop_after=1)
    (path,) = config.run.out.rglob("checkpoint.pt")
    content = torch.load(path, weights_only=True)
    del content["parts"]["optimizer"]
    torch.save(content, path)
    with pytest.raises(ValueError, match=rf"the checkpoint {path} has no 'optimizer' \(optimizer\): remove it"):
        walk(replace(config, run=replace(config.run, resume=True)))
    assert json.loads((path.parent / "config.json").read_text())["program"] == "program"
