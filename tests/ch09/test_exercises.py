"""Exercises of chapter 9: three typical wrong answers each, and what the reader is told."""

import hashlib
import json
import zlib

import pytest

from ch09_pipeline.exercises import checks
from ch09_pipeline.exercises.checks.ex3_split import crc32_by_bits
from ch09_pipeline.exercises.checks.ex4_atomic_write import Killed, SimulatedDisk
from common.exercises.check import check


def one_level(stages, changed):
    return [stage for stage, inputs in stages.items() if changed & set(inputs) or stage in changed]


def as_a_set(stages, changed):
    return set(checks.DUE_JOBS.reference(stages, changed))


def code_is_ignored(stages, changed):
    due = []
    for stage, inputs in stages.items():
        if set(inputs) & ((changed - set(stages)) | set(due)):
            due.append(stage)
    return due


def dumped_in_order(parameters, inputs):
    return hashlib.sha256(json.dumps([parameters, inputs]).encode()).hexdigest()


def contents_only(parameters, inputs):
    return json.dumps([sorted(parameters.items(), key=str), sorted(inputs.values())])


def as_hash(parameters, inputs):
    return hash(json.dumps([parameters, inputs], sort_keys=True))


def write_in_place(disk, name, text):
    disk.write(name, text)


def delete_then_write(disk, name, text):
    if name in disk.files:
        disk.delete(name)
    disk.write(name, text)


def rename_too_early(disk, name, text):
    disk.rename("temporary", name)
    disk.write("temporary", text)


def counted_again(inputs, folder):
    folder.clear()
    return {name: text.count("\n") for name, text in inputs.items()}


def stale(inputs, folder):
    return {**folder, **{name: len(text.splitlines()) for name, text in inputs.items()}}


def newest_only(inputs, folder):
    return {name: len(text.splitlines()) for name, text in inputs.items() if name not in folder}


def records(batch, pixels):
    return [batch[start : start + 1 + pixels] for start in range(0, len(batch), 1 + pixels)]


def off_by_one_label(batch, pixels, classes):
    if not batch or len(batch) % (1 + pixels):
        return "truncated" if batch else "empty"
    if any(record[0] > classes for record in records(batch, pixels)):
        return "label"
    return "single colour" if any(len(set(record[1:])) == 1 for record in records(batch, pixels)) else ""


def label_counts_as_a_pixel(batch, pixels, classes):
    if not batch or len(batch) % (1 + pixels):
        return "truncated" if batch else "empty"
    if any(record[0] >= classes for record in records(batch, pixels)):
        return "label"
    return "single colour" if any(len(set(record)) == 1 for record in records(batch, pixels)) else ""


def length_of_the_images_only(batch, pixels, classes):
    return "empty" if not batch else "truncated" if len(batch) % pixels else ""


def by_counts(training, new):
    return sum(abs(p - q) for p, q in zip(training, new, strict=True)) / (sum(training) + sum(new))


def largest(training, new):
    return max(abs(p / sum(training) - q / sum(new)) for p, q in zip(training, new, strict=True))


def divided_by_the_share(training, new):
    pairs = [(p / sum(training), q / sum(new)) for p, q in zip(training, new, strict=True)]
    return sum(abs(p - q) / p for p, q in pairs) / 2


WRONG = [
    (checks.DUE_JOBS, one_level, "a stage is due as well if one of its inputs is a stage that is due"),
    (checks.DUE_JOBS, as_a_set, "you return set(), expected []"),
    (checks.DUE_JOBS, code_is_ignored, "a stage whose code has changed is due"),
    (checks.CACHE_KEY, dumped_in_order, "the order of the names must not matter: sort them"),
    (checks.CACHE_KEY, contents_only, "the jobs have 'the same key', expected 'different keys'"),
    (checks.CACHE_KEY, as_hash, "the jobs have 'a key of the type int', expected 'the same key'"),
    (checks.SPLIT, lambda images: [i % 10 == 0 for i in range(len(images))], "only its content may decide"),
    (checks.SPLIT, lambda images: [sum(image) % 10 == 0 for image in images], "expected [True]"),
    (checks.SPLIT, lambda images: [zlib.crc32(image) % 10 for image in images], "you return [0], expected [True]"),
    (checks.ATOMIC_WRITE, write_in_place, "a reader finds 'new ', expected 'the old or the new text'"),
    (checks.ATOMIC_WRITE, delete_then_write, "killed_in_step = 2 a reader finds 'new '"),
    (checks.ATOMIC_WRITE, rename_too_early, "FileNotFoundError: the disk has no file temporary"),
    (checks.STAGE, counted_again, "your function changes its argument folder in place"),
    (checks.STAGE, stale, "results of removed files remain"),
    (checks.STAGE, newest_only, "the second run has the same result"),
    (checks.QUARANTINE, off_by_one_label, "labels start at 0, so the number of classes is not a label"),
    (checks.QUARANTINE, label_counts_as_a_pixel, "you return '', expected 'single colour'"),
    (checks.QUARANTINE, length_of_the_images_only, "you return 'truncated', expected ''"),
    (checks.DRIFT, by_counts, "shares are compared, not counts"),
    (checks.DRIFT, largest, "all classes count"),
    (checks.DRIFT, divided_by_the_share, "ZeroDivisionError"),
]


@pytest.mark.parametrize(("exercise", "wrong", "part"), WRONG, ids=lambda value: getattr(value, "file", None))
def test_wrong_answers_are_explained(exercise, wrong, part):
    verdict = check(exercise, wrong)
    assert verdict.status == "wrong"
    assert part in f"{verdict.message}\n{verdict.note}"


def test_the_checksum_by_bits_is_that_of_zlib():
    for data in (b"", b"a", bytes(range(256))):
        assert crc32_by_bits(data) == zlib.crc32(data)


def test_a_killed_process_leaves_half_of_a_file_and_changes_nothing_else():
    disk = SimulatedDisk({"a": "1234"}, 2)
    disk.copy("a", "b")
    with pytest.raises(Killed):
        disk.write("a", "5678")
    assert disk.files == {"a": "56", "b": "1234"}
    for operation in (lambda disk: disk.rename("a", "b"), lambda disk: disk.delete("a")):
        disk = SimulatedDisk({"a": "1234"}, 1)
        with pytest.raises(Killed):
            operation(disk)
        assert disk.files == {"a": "1234"}
