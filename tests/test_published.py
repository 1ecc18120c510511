"""Published data sets: a part or a variant is used, but not under the plain name."""

import gzip
import hashlib
import json
from typing import get_args

import pytest
import torch

from ch03_autoencoder_rbm.digits import feedforward
from ch05.test_forecast import write_etth1
from ch05.test_sentiment import write_sst
from ch08_vae import sample
from ch08_vae.autoencoding import vae
from ch09_pipeline import repository
from ch10_deploy.exporting import export
from common.data import published, source
from common.data.captions.loading import CaptionSetName, load_captions
from common.data.images.loading import FOLDER, ImageSetName, load_images
from common.data.published import RELEASES, Release, title
from common.data.ratings.collection import RatingSetName
from common.data.ratings.loading import load_ratings
from common.data.sentence_pairs.pairs import load_pairs
from common.data.sentence_pairs.translations import PairSetName, load_translations
from common.data.series.series import SeriesName, load_csv, load_series
from common.data.text.corpora import CorpusName, load_corpus
from common.data.text.sentences import load_sentences
from common.records import ledger, tables
from common.run import Run
from test_captions_data import put_flickr8k
from test_corpora import put_wikitext
from test_images import write_cifar, write_mnist
from test_ratings import SMALL, WHOLE, write_set
from test_translations import put_multi30k


def put(name: str, tmp_path) -> None:
    """Write a few samples of a set as they are published."""
    if name in ("mnist", "fashion-mnist"):
        write_mnist(source.data_dir() / FOLDER[name])
    elif name == "cifar-10":
        write_cifar(source.data_dir() / FOLDER[name])
    elif name == "netflix":
        (source.data_dir() / name).mkdir(parents=True)
        lines = "".join(f"{user},3,2005-09-06\n" for user in range(12))
        (source.data_dir() / name / "mv_1.txt").write_text(f"1:\n{lines}")
    elif name.startswith("ml-"):
        write_set(name, SMALL if name in ("ml-latest-small", "ml-25m") else WHOLE)
    elif name == "tiny-shakespeare":
        path = source.data_dir() / "tinyshakespeare" / "input.txt"
        path.parent.mkdir(parents=True)
        path.write_text("Speak, speak.\n" * 50)
    elif name == "etth1":
        write_etth1()
    elif name == "flickr8k":
        put_flickr8k(6)
    elif name == "multi30k":
        put_multi30k()
    elif name == "wikitext-2":
        put_wikitext(source.data_dir(), packed=False)
    else:
        write_sst(tmp_path)


def load(name: str, limit: int | None = None) -> source.DataCard:
    if name in FOLDER:
        return load_images(name, limit=limit).card  # pyright: ignore[reportArgumentType]
    if name in get_args(RatingSetName):
        return load_ratings(name, limit=limit).card  # pyright: ignore[reportArgumentType]
    if name in get_args(CorpusName):
        return load_corpus(name, level="word", minimum_count=1, limit=limit).card  # pyright: ignore[reportArgumentType]
    if name == "etth1":
        return load_series(name, limit=limit).card
    if name == "flickr8k":
        return load_captions(name, limit=limit).card
    if name == "multi30k":
        return load_translations(name, limit=limit).card
    assert name == "sst-2"
    return load_sentences(name, limit=limit).card


PARTS = {
    "mnist": "partial: 60 of 60,000 train images",
    "fashion-mnist": "partial: 60 of 60,000 train images",
    "cifar-10": "partial: 100 of 50,000 train images",
    "ml-latest-small": "partial: 14 of 100,836 ratings",
    "ml-100k": "partial: 14 of 100,000 ratings",
    "ml-1m": "partial: 14 of 1,000,209 ratings",
    "ml-25m": "partial: 14 of 25,000,095 ratings",
    "netflix": "partial: 12 of 100,480,507 ratings",
    "tiny-shakespeare": "partial: 700 of 1,115,394 characters",
    "wikitext-2": "partial: 34 of 10,780,437 train characters",
    "etth1": "partial: 14,500 of 17,420 values",
    "sst-2": "partial: 40 of 6,920 train sentences",
    "flickr8k": "partial: 2 of 6,000 train images",
    "multi30k": "partial: 30 of 29,000 train pairs",
}


@pytest.mark.parametrize("name", PARTS)
def test_a_part_of_a_published_set_is_marked(name, tmp_path):
    put(name, tmp_path)
    card = load(name)
    assert card.name == f"{name} ({PARTS[name]})"
    assert card.record() == {"name": card.name, "embedded": False, "sha256": card.sha256, "published": name}
    assert source.option_of(card.record()) == name


def test_every_named_set_has_a_release():
    embedded = {"digits", "shapes", "planted", "pydoc", "curve", "delayed", "scenes", "german"}
    names = {*get_args(ImageSetName), *get_args(RatingSetName), *get_args(CorpusName), *get_args(SeriesName), "sst-2"}
    names |= {*get_args(CaptionSetName), *get_args(PairSetName)}
    assert names - embedded == PARTS.keys()
    assert PARTS.keys() <= RELEASES.keys()


@pytest.mark.parametrize("name", ["digits", "planted"])
def test_an_embedded_set_keeps_its_name(name):
    card = load_images("digits").card if name == "digits" else load_ratings("planted").card
    assert card.record() == {"name": name, "embedded": True, "sha256": card.sha256}
    assert source.option_of(card.record()) == name


# Partial and altered sets.

SETS = {
    "one": (Release({"train": 5, "test": 3}, {"train": "a", "labels": "b"}),),
    "several": (Release({"ratings": 10, "users": 4}, {"ratings": "x"}), Release({"ratings": 12, "users": 5})),
    "older": (Release({"train": 10, "test": 3}), Release({"train": 5, "test": 3}, {"train": "a"})),
}


@pytest.mark.parametrize(
    ("name", "counts", "sums", "expected"),
    [
        ("one", (5, 3), "ab", "one"),
        ("one", (4, 3), "ab", "one (partial: 4 of 5 train)"),
        ("one", (5, 2), "ab", "one (partial: 2 of 3 test)"),
        ("one", (6, 2), "ab", "one (partial: 2 of 3 test)"),
        ("one", (6, 3), "ab", "one (not as published: 6 instead of 5 train)"),
        ("one", (5, 3), "aB", "one (altered: labels)"),
        ("one", (5, 3), "AB", "one (altered: train, labels)"),
        ("several", (10, 4), "x", "several"),
        ("several", (12, 5), "y", "several"),
        ("several", (10, 4), "y", "several (altered: ratings)"),
        ("several", (10, 5), "x", "several (not as published: 5 instead of 4 users)"),
        ("several", (11, 4), "x", "several (not as published: 11 instead of 10 ratings)"),
        ("several", (9, 4), "x", "several (partial: 9 of 10 ratings)"),
        ("older", (5, 3), "b", "older (altered: train)"),
        ("older", (6, 3), "a", "older (partial: 6 of 10 train)"),
        ("unknown", (1, 1), "", "unknown"),
    ],
)
def test_a_set_is_compared_with_its_releases(monkeypatch, name, counts, sums, expected):
    monkeypatch.setattr(published, "RELEASES", SETS)
    releases = SETS.get(name, SETS["one"])
    named = dict(zip(releases[0].counts, counts, strict=True))
    parts = [part for release in releases for part in release.sha256]
    assert title(name, named, dict(zip(parts, sums, strict=False))) == expected


def test_the_readers_pass_published_counts_and_checksums(monkeypatch):
    """Each checksum is that of the named part, gzipped or not; one changed label is detected."""
    folder = source.data_dir() / FOLDER["mnist"]
    write_mnist(folder)
    seen = {}
    monkeypatch.setattr(published, "title", lambda name, counts, sha256: seen.update(sha256) or name)
    load_images("mnist", limit=2)
    first = dict(seen)
    assert first.keys() == RELEASES["mnist"][0].sha256.keys()
    assert first["test labels"] == source.sha256_of(load_images("mnist").test.labels.to(torch.uint8))
    for path in list(folder.iterdir()):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    load_images("mnist")
    assert seen == first
    path = folder / "t10k-labels-idx1-ubyte.gz"
    data = bytearray(gzip.decompress(path.read_bytes()))
    data[-1] = (data[-1] + 1) % 10
    path.write_bytes(gzip.compress(bytes(data)))
    load_images("mnist")
    assert {name for name in seen if seen[name] != first[name]} == {"test labels"}


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_line_ends_do_not_change_a_text(ends, monkeypatch):
    text = "Speak, speak.\n" * 50
    whole = Release({"characters": len(text)}, {"characters": hashlib.sha256(text.encode()).hexdigest()})
    monkeypatch.setitem(RELEASES, "tiny-shakespeare", (whole,))
    path = source.data_dir() / "tinyshakespeare" / "input.txt"
    path.parent.mkdir(parents=True)
    path.write_bytes(text.replace("\n", ends).encode())
    assert load("tiny-shakespeare").name == "tiny-shakespeare"
    path.write_bytes(text.replace("Speak", "Smeak", 1).replace("\n", ends).encode())
    assert load("tiny-shakespeare").name == "tiny-shakespeare (altered: characters)"


def test_a_limit_is_not_marked_as_a_part(monkeypatch):
    write_set("ml-100k", WHOLE)
    monkeypatch.setitem(RELEASES, "ml-100k", (Release({"ratings": 14, "users": 13}),))
    assert load("ml-100k", limit=3).name == "ml-100k"


# Uses of the name.


def test_a_run_and_every_table_mark_a_part(options, capsys, monkeypatch, tmp_path):
    write_mnist(source.data_dir() / FOLDER["mnist"])
    name = "mnist (partial: 60 of 60,000 train images)"
    config = feedforward.Config(data="mnist", run=options)
    with Run.open("ch03_autoencoder_rbm.digits.feedforward", config, load_images("mnist").card) as run:
        run.finish(test={"accuracy": 0.5})
    assert capsys.readouterr().out.splitlines()[0].split(maxsplit=1)[1].startswith(f"{name}: 54 train")
    folder = run.folder
    config, summary = (json.loads((folder / f"{file}.json").read_text()) for file in ("config", "summary"))
    assert (config["data"]["name"], summary["data"]["name"]) == (name, name)
    entry = ledger.summarise(ledger.Record("x"), ["ch03_autoencoder_rbm.train", "feedforward"], [summary, summary])
    table = tables.render_table([{"targets": {}} | entry], ["test_accuracy"])
    assert f"| {name} | `feedforward` |" in table
    grid = tables.render_grid({"targets": {}} | entry, ["test"], ["accuracy"])
    assert f"feedforward` on {name}. " in grid
    classes = []
    monkeypatch.setitem(export.SOURCES, "digits", FakeSource(classes))
    with pytest.raises(StopIteration):
        export.export("digits", folder, None)  # pyright: ignore[reportArgumentType]
    assert classes == ["mnist"]


class FakeSource:
    """Record the name of the data for which a graph is requested."""

    def __init__(self, names: list[str]) -> None:
        self.names = names

    def graph(self, folder, data):
        self.names.append(data)
        raise StopIteration


def test_the_partial_data_of_a_run_are_loaded_again(tmp_path):
    write_mnist(source.data_dir() / FOLDER["mnist"], train=200, test=200)
    card = load_images("mnist").card
    assert card.published == "mnist"
    (tmp_path / "config.json").write_text(json.dumps({"data": card.record()}))
    config = vae.Config(data="mnist", latent_size=2, hidden=(8,))
    model = vae.make_model(config).eval()
    images = sample.interpolate(model, config, tmp_path, (3, 8), sample.Options(count=1), torch.Generator())
    assert len(images) == sample.STEPS


def test_own_files_never_have_a_published_name(tmp_path):
    text, csv, pairs = tmp_path / "wikitext-2", tmp_path / "mnist.csv", tmp_path / "ml-1m.txt"
    text.write_text("one, two\n" * 60)
    csv.write_text("x\n" + "".join(f"{n}\n" for n in range(60)))
    pairs.write_text("".join(f"a{n}\tb{n}\n" for n in range(40)))
    write_cifar(tmp_path / "cifar-10")
    names = [
        load_corpus("auto", text=str(text)).card.name,
        load_csv(csv, "x").card.name,
        load_pairs(pairs).card.name,
        repository.describe(tmp_path / "cifar-10", name="cifar-10", embedded=False).name,
    ]
    assert names == [f"{name} (own file)" for name in ("wikitext-2", "mnist", "ml-1m", "cifar-10")]
    assert repository.describe(tmp_path / "cifar-10", name="mine", embedded=False).name == "mine"


# Real data sets.


WHERE = {
    **FOLDER,
    "ml-latest-small": "ml-latest-small",
    "tiny-shakespeare": "tinyshakespeare",
    "wikitext-2": "wikitext-2.zip",
    "sst-2": "SST-2",
    "flickr8k": "flickr8k",
    "multi30k": "multi30k",
    "etth1": "ETT-small/ETTh1.csv",
}


@pytest.mark.parametrize("name", WHERE)
def test_a_complete_set_has_its_plain_name(name, real_data):
    if not (source.data_dir() / WHERE[name]).exists():
        pytest.skip(f"{name} is not in {source.data_dir()}")
    card = load(name, limit=100)
    assert (card.name, card.published) == (name, "")
