"""Sentiment: the rule of the grammar, the files of SST-2, the classifiers and their training."""

import random
import re
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ch05_rnn import classify_sentence
from ch05_rnn.sentences import sentiment
from ch05_rnn.sentences.explanation import log_odds, winning_ngrams
from ch05_rnn.sentences.padding import PAD
from ch05_rnn.sentences.sentiment import BagOfWords, BiLSTM, Config, TextCNN
from common import cli
from common.best_weights import BestWeights
from common.data.source import DataUnavailable
from common.data.text import sentences
from common.data.text.sentences import BAD, GOOD, UNFAMILIAR, Sentences, SentenceSet, load_sentences
from common.data.text.vocabulary import UNKNOWN
from common.data.words.vector_files import VectorFile, write_vectors
from common.drawing import text_plots
from conftest import train_until


@pytest.fixture(scope="module")
def grammar():
    return load_sentences("grammar", limit=400)


@pytest.fixture
def config(options):
    return Config(data="grammar", epochs=2, embedding_size=12, hidden_size=8, filters=5, run=options)


def vocabulary_of(data):
    return sentiment.build_vocabulary(data, minimum_count=1)


CLASSIFIERS = {"bilstm": BiLSTM, "textcnn": TextCNN, "bag": BagOfWords}


def make(name: str, words: int, config: Config):
    """Build one of the three classifiers."""
    if name == "bag":
        return sentiment.make_bag(words, config)
    return sentiment.make_network(words, replace(config, network=name))


def label_of(text: str) -> int:
    """Derive the label from the words, independently of the grammar: find the part that decides, and read it."""
    text = text.replace("anything but", "anything-but")
    if " but " in text:
        text = text.split(" but ")[1]
    elif (
        "although " in text
    ):  # either "the B was ... although the A was ...", or "although the A was ... the B was ..."
        first, last = text.split("although ")
        text = first if " was " in first else last.rpartition(" the ")[2]
    labels = set()
    for part in text.split(" and "):
        opinion = part.split(" was ")[1]
        negated = opinion.replace("-", " ").startswith(tuple(f"{word} " for word in sentences.NEGATIONS))
        word = opinion.split()[-1]
        assert (word in GOOD) != (word in BAD)
        labels.add(int((word in GOOD) != negated))
    (label,) = labels
    return label


def test_every_label_follows_from_the_rule():
    splits = sentences.draw_splits()
    for split in splits:
        assert [label_of(text) for text in split.texts] == split.labels
        assert 0.45 < sum(split.labels) / len(split) < 0.55
    assert [len(split) for split in splits] == [2_000, 1_000, 4_000]
    assert [set(split.kinds) for split in splits] == [set(sentences.KINDS[:-1]), *[set(sentences.KINDS)] * 2]


def test_no_sentence_is_in_two_splits_and_unfamiliar_ones_are():
    train, valid, test = sentences.draw_splits()
    texts = [*train.texts, *valid.texts, *test.texts]
    assert len(set(texts)) == len(texts)
    negated = re.compile(rf"({'|'.join(sentences.NEGATIONS)}) ({'|'.join(UNFAMILIAR)})\b")
    assert not any(negated.search(text) for text in train.texts)
    for split in (valid, test):
        assert all(
            bool(negated.search(text)) == (kind == "unfamiliar")
            for text, kind in zip(split.texts, split.kinds, strict=True)
        )
    assert all(any(word in text for text in train.texts) for word in UNFAMILIAR), "they are known, but never negated"


def swapped(text: str) -> str:
    """The same words with the two parts in each other's place."""
    opening = next(o for o in sorted(sentences.OPENINGS, key=len, reverse=True) if text.startswith(o))
    body = text.removeprefix(opening).replace("anything but", "anything-but")
    if body.startswith("although "):
        first, _, second = body.removeprefix("although ").rpartition(" the ")
        return f"{opening}although the {second} {first}".replace("-", " ")
    word = " but " if " but " in body else " although "
    first, second = body.split(word)
    return f"{opening}{second}{word}{first}".replace("-", " ")


def test_words_without_order_do_not_tell_a_contrast():
    """Each contrast and concession has a twin of the same words and the other label, drawn as often."""
    rng = random.Random(0)
    for kind in ("contrast", "concession"):
        drawn = [sentences.sentence(kind, rng) for _ in range(500)]
        for text, label in drawn:
            twin = swapped(text)
            assert sorted(twin.split()) == sorted(text.split())
            assert label_of(twin) == 1 - label
            assert swapped(twin) == text
    assert sentences.ceiling(["plain", "contrast", "negated", "concession"]) == 0.75


def test_without_sst_auto_takes_the_grammar_and_says_so(tmp_path):
    data = load_sentences("auto", limit=5)
    assert data.card.name == "grammar" and data.card.embedded
    assert data.card.description.startswith("5 train, 5 valid, 5 test, embedded, drawn here; SST-2 is not in")
    with pytest.raises(DataUnavailable, match=re.escape("--data grammar")):
        load_sentences("sst-2")
    assert load_sentences("grammar").card.sha256 == data.card.sha256


HEADER = "sentence\tlabel\n"


def write_sst(tmp_path, train=HEADER + "a Fine film \t1\nno\t0\n" * 20, dev=HEADER + 'so "good"\t1\n'):
    folder = tmp_path / "data" / "SST-2"
    folder.mkdir(parents=True)
    (folder / "train.tsv").write_text(train, encoding="utf-8")
    (folder / "dev.tsv").write_text(dev, encoding="utf-8")
    return folder


def test_glue_layout_holds_out_a_part_of_train_and_tests_on_dev(tmp_path):
    folder = write_sst(tmp_path, train=HEADER + "".join(f"text {n} \t{n % 2}\n" for n in range(40)))
    data = load_sentences("auto")
    assert data.card.published == "sst-2" and not data.card.embedded
    assert (len(data.train), len(data.valid)) == (38, 2)
    assert sorted(data.train.texts + data.valid.texts) == sorted(f"text {n}" for n in range(40))
    for split in (data.train, data.valid):
        assert all(int(text.split()[1]) % 2 == label for text, label in zip(split.texts, split.labels, strict=True))
    assert data.test == Sentences(['so "good"'], [1], ["all"])
    (folder / "test.tsv").write_text("index\tsentence\n0\tno label\n")
    assert load_sentences("sst-2") == data


@pytest.mark.parametrize("header", [HEADER, ""])
def test_a_labelled_test_file_is_the_test_set_and_dev_the_validation_set(tmp_path, header):
    folder = write_sst(tmp_path, train=header + "a fine film\t1\nno\t0\n", dev=header + "so good\t1\n")
    (folder / "test.tsv").write_text(header + "no\t0\nyes\t1\nno\t0\n")
    data = load_sentences("sst-2")
    assert data.train == Sentences(["a fine film", "no"], [1, 0], ["all"] * 2)
    assert data.valid == Sentences(["so good"], [1], ["all"])
    assert data.test == Sentences(["no", "yes", "no"], [0, 1, 0], ["all"] * 3)
    assert data.card.description.startswith("2 train, 1 valid, 3 test, from ")
    limited = load_sentences("sst-2", limit=1)
    assert [len(split) for split in (limited.train, limited.valid, limited.test)] == [1, 1, 1]
    assert limited.card.sha256 == data.card.sha256


def test_sst_is_downloaded_with_checksums(tmp_path, monkeypatch):
    files = {"train.tsv": "good\t1\nbad\t0\n", "dev.tsv": "fine\t1\n", "test.tsv": "dull\t0\n"}
    asked = []

    def fetch(mirrors, path: Path, checksum):
        asked.append((mirrors[0].rpartition("/")[2], checksum))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files[path.name])

    monkeypatch.setattr(sentences, "fetch", fetch)
    data = load_sentences("auto")
    assert (data.train.texts, data.valid.texts, data.test.texts) == (["good", "bad"], ["fine"], ["dull"])
    assert dict(asked) == sentences.SST_MD5
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["SST-2"]
    assert load_sentences("auto") == data and len(asked) == 3, "downloaded again"


def test_a_failed_download_leaves_no_files(tmp_path, monkeypatch):
    def fetch(mirrors, path: Path, checksum):
        if path.name == "test.tsv":
            raise DataUnavailable("no answer")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("good\t1\n")

    monkeypatch.setattr(sentences, "fetch", fetch)
    with pytest.raises(DataUnavailable, match="cannot be downloaded"):
        load_sentences("sst-2")
    assert list((tmp_path / "data").iterdir()) == []
    assert load_sentences("auto", limit=5).card.name == "grammar"


def test_sst_is_unpacked_from_glue_archive(tmp_path):
    (tmp_path / "data").mkdir()
    with zipfile.ZipFile(tmp_path / "data" / "SST-2.zip", "w") as archive:
        archive.writestr("SST-2/train.tsv", HEADER + "good\t1\nbad\t0\n" * 10)
        archive.writestr("SST-2/dev.tsv", HEADER + "fine\t1\n")
        archive.writestr("SST-2/test.tsv", "index\tsentence\n0\tno label\n")
    assert len(load_sentences("sst-2").train) == 19
    assert sorted(path.name for path in (tmp_path / "data" / "SST-2").iterdir()) == ["dev.tsv", "train.tsv"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "contains no sentences"),
        ("text\tlabel\n", r"line 1 is 'text\tlabel': a line is a sentence, a tab, and 0 or 1"),
        ("good\t1\n" + HEADER, r"line 2 is 'sentence\tlabel': a line is"),
        (HEADER, "contains no sentences"),
        (HEADER + "good\t1\nbad\n", "line 3 is 'bad': a line is a sentence, a tab, and 0 or 1"),
        (HEADER + "good\t2\n", r"line 2 is 'good\t2': a line is"),
        (HEADER + "\t1\n", r"line 2 is '\t1': a line is"),
        (HEADER + "a\tb\t1\n", r"line 2 is 'a\tb\t1': a line is"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path, text, message):
    folder = write_sst(tmp_path, train=text)
    with pytest.raises(ValueError, match=re.escape(f"{folder / 'train.tsv'} {message}")):
        load_sentences("sst-2")


def test_a_missing_file_and_a_broken_archive_are_named(tmp_path):
    folder = write_sst(tmp_path)
    (folder / "dev.tsv").unlink()
    with pytest.raises(ValueError, match=re.escape(f"{folder / 'dev.tsv'} not found: put it there, or remove")):
        load_sentences("auto")
    (tmp_path / "data" / "SST-2.zip").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="is a corrupt archive"):
        load_sentences("auto")
    (folder / "train.tsv").write_bytes(HEADER.encode() + b"\xff\t1\n")
    (folder / "dev.tsv").write_text(HEADER + "x\t1\n")
    with pytest.raises(ValueError, match="is not UTF-8: byte 15 cannot be decoded"):
        load_sentences("auto")


def test_every_word_is_drawn_in_its_cell():
    figure = text_plots.shaded_words([["a", "b"], ["c"]], [torch.tensor([0.0, 1.0]), torch.tensor([0.5])], label="p")
    axes = figure.axes[0]
    assert [(text.get_text(), text.get_position()) for text in axes.texts] == [
        ("a", (0, 0)),
        ("b", (1, 0)),
        ("c", (0, 1)),
    ]
    values = axes.images[0].get_array()
    assert values is not None
    np.testing.assert_array_equal(np.ma.filled(values, -1), [[0, 1], [0.5, -1]])


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_padding_does_not_change_the_logits(config, grammar, kind):
    torch.manual_seed(0)
    vocabulary = vocabulary_of(grammar)
    model = make(kind, len(vocabulary), config).eval()
    words, lengths = sentiment.encode(vocabulary, grammar.train.texts[:20])
    assert int(lengths.min()) < int(lengths.max())
    together = model(words, lengths)
    torch.testing.assert_close(model(F.pad(words, (0, 9)), lengths), together)
    for n in range(20):
        alone = model(words[n : n + 1, : lengths[n]], lengths[n : n + 1])
        torch.testing.assert_close(alone[0], together[n], rtol=1e-4, atol=1e-6)
    predicted = sentiment.predict(model, vocabulary, grammar.train.texts[:20])
    torch.testing.assert_close(predicted, together.detach(), rtol=1e-4, atol=1e-6)


def test_the_bag_ignores_word_order_and_the_networks_do_not(config, grammar):
    torch.manual_seed(0)
    vocabulary = vocabulary_of(grammar)
    words = vocabulary.encode(["the", "plot", "was", "dull", "but", "the", "music", "was", "fresh"]).unsqueeze(0)
    mixed = words[:, torch.tensor([0, 6, 2, 8, 4, 5, 1, 7, 3])]
    length = torch.tensor([9])
    bag, lstm, cnn = (make(kind, len(vocabulary), config).eval() for kind in ("bag", "bilstm", "textcnn"))
    torch.testing.assert_close(bag(words, length), bag(mixed, length))
    assert not torch.allclose(lstm(words, length), lstm(mixed, length), atol=1e-4)
    assert not torch.allclose(cnn(words, length), cnn(mixed, length), atol=1e-4)


def test_the_bag_is_the_mean_of_its_words(config):
    bag = sentiment.make_bag(7, config).eval()
    words = torch.tensor([[3, 4, 4], [5, PAD, PAD]])
    table = bag.embedding.weight
    expected = bag.layers(torch.stack([(table[3] + 2 * table[4]) / 3, table[5]]))
    torch.testing.assert_close(bag(words, torch.tensor([3, 1])), expected)


def test_the_lstm_reads_both_ways(config):
    """The recurrent weights of either direction change the logits."""
    torch.manual_seed(0)
    model, words, length = make("bilstm", 9, config).eval(), torch.tensor([[2, 3, 4]]), torch.tensor([3])
    before = model(words, length)
    for name in ("weight_hh_l0", "weight_hh_l0_reverse"):
        parameter = getattr(model.lstm, name)
        kept = parameter.detach().clone()
        parameter.data.mul_(-1)
        assert not torch.allclose(model(words, length), before)
        parameter.data.copy_(kept)


def test_measures_by_hand():
    split = Sentences(["a", "b", "c"], [1, 0, 1], ["plain", "negated", "plain"])
    logits = torch.tensor([[0.0, 2.0], [0.0, 2.0], [3.0, 1.0]])
    measures = sentiment.measure(logits, split)
    assert measures["accuracy"] == pytest.approx(1 / 3)
    assert (measures["plain_accuracy"], measures["negated_accuracy"]) == (0.5, 0)
    assert measures["loss"] == pytest.approx(float(F.cross_entropy(logits, torch.tensor([1, 0, 1]))))
    assert set(sentiment.measure(logits, replace(split, kinds=["all"] * 3))) == {"accuracy", "loss"}


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_one_batch_is_overfitted(config, grammar, kind):
    torch.manual_seed(0)
    config = replace(config, dropout=0.0, learning_rate=0.02)
    plain = [n for n, its in enumerate(grammar.train.kinds) if its == "plain"][:32]
    texts, labels = [grammar.train.texts[n] for n in plain], torch.tensor([grammar.train.labels[n] for n in plain])
    vocabulary = vocabulary_of(grammar)
    model = make(kind, len(vocabulary), config)
    optimizer = sentiment.make_optimizer(model, config)
    words, lengths = sentiment.encode(vocabulary, texts)
    train_until(
        lambda: torch.equal(sentiment.predict(model, vocabulary, texts).argmax(1), labels),
        lambda: sentiment.train_step(model, optimizer, words, lengths, labels),
        at_most=500,
    )
    assert model.training, "a prediction left the network in another mode"
    assert all(p.grad is None for p in model.parameters())


def test_step_is_the_gradients_of_cross_entropy(config, grammar):
    torch.manual_seed(0)
    model = make("bilstm", 50, replace(config, dropout=0.0))
    words, lengths, labels = (
        torch.randint(1, 50, (6, 5)),
        torch.tensor([5, 5, 4, 3, 2, 1]),
        torch.tensor([0, 1, 1, 0, 1, 0]),
    )
    words[torch.arange(5) >= lengths.unsqueeze(1)] = PAD
    expected = torch.autograd.grad(F.cross_entropy(model(words, lengths), labels), list(model.parameters()))
    before = [p.detach().clone() for p in model.parameters()]
    sentiment.train_step(model, torch.optim.SGD(model.parameters(), lr=0.5), words, lengths, labels)
    norm = float(torch.stack([g.norm() for g in expected]).norm())
    for old, new, g in zip(before, model.parameters(), expected, strict=True):
        torch.testing.assert_close(new.detach(), old - 0.5 * g * min(1, sentiment.CLIP / norm), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("network", ["bilstm", "textcnn"])
def test_training_repeats_restores_and_shows(config, grammar, capsys, network):
    config = replace(config, network=network)
    first, second = sentiment.train(config, grammar), sentiment.train(config, grammar)
    one, two = (path.parent for path in sorted(config.run.out.rglob("model.safetensors")))
    (model, vocabulary, restored), (other, _, _) = sentiment.restore(one), sentiment.restore(two)
    assert type(model) is CLASSIFIERS[network]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    for name in ("test_loss", "test_bag_loss", "test_ngram_loss"):
        assert first[name] == second[name]
    assert restored == config
    logits = sentiment.predict(model, vocabulary, grammar.test.texts)
    assert sentiment.measure(logits, grammar.test)["loss"] == pytest.approx(first["test_loss"], rel=1e-5)
    wrong = int((logits.argmax(1) != torch.tensor(grammar.test.labels)).sum())
    assert len((one / "mistakes.tsv").read_text().splitlines()) == 1 + wrong
    assert first["test_any_bag_accuracy"] == sentences.ceiling(grammar.test.kinds)
    figures = {"reading", "contributions", "curves"} | ({"ngrams"} if network == "textcnn" else set())
    assert {path.stem for path in one.glob("*.png")} == figures
    capsys.readouterr()
    classify_sentence.main(["The plot was zzz-dull", "--out", str(config.run.out), "--folder", str(one)])
    output = capsys.readouterr().out
    p = float(sentiment.predict(model, vocabulary, ["the plot was zzz dull"]).softmax(1)[0, 1])
    z = log_odds(model, vocabulary, ["the plot was zzz dull", "the plot was zzz"])
    assert "'zzz': read as <unknown>" in output
    rows = [row.split() for row in output.splitlines()]
    assert ["dull", f"{100 * p:.1f}", f"{z[0] - z[1]:+.2f}"] in rows
    found = winning_ngrams(model, vocabulary, "the plot was zzz dull") if isinstance(model, TextCNN) else []
    assert [row for row in rows if found and row and row[-1] == f"{found[0].contribution:+.2f}"] or not found
    assert ("maximum over time" in output) == bool(found)


def test_a_command_without_a_run_or_a_sentence_is_one_line(fails, tmp_path):
    assert "has no finished run" in fails(classify_sentence.main, ["fine", "--out", str(tmp_path)])
    assert "give a sentence in quotes" in fails(classify_sentence.main, [" "])


def test_the_epoch_with_the_fewest_validation_errors_is_kept(config, grammar, monkeypatch):
    """Of the network and of the bag of words, each with its own errors."""
    errors = {BiLSTM: [0.3, 0.1, 0.2], BagOfWords: [0.3, 0.2, 0.1]}
    seen: dict[type, list[torch.Tensor]] = {BiLSTM: [], BagOfWords: []}
    scores, predict, restore, restored = [], sentiment.predict, BestWeights.restore, []

    def watch(model, vocabulary, texts):
        if texts is grammar.valid.texts:
            seen[type(model)].append(model.embedding.weight.detach().clone())
            scores.append(errors[type(model)][len(seen[type(model)]) - 1])
        return predict(model, vocabulary, texts)

    def remember(best):
        restore(best)
        restored.append((type(best.model), best.epoch, best.model.embedding.weight.detach().clone()))

    monkeypatch.setattr(sentiment, "predict", watch)
    monkeypatch.setattr(sentiment, "selection_error", lambda *_: scores.pop(0))
    monkeypatch.setattr(BestWeights, "restore", remember)
    monkeypatch.setattr(sentiment, "report", lambda *_: None)
    sentiment.train(replace(config, epochs=3), grammar)
    assert [(kind, epoch) for kind, epoch, _ in restored] == [(BiLSTM, 2), (BagOfWords, 3)]
    for kind, epoch, weight in restored:
        assert torch.equal(weight, seen[kind][epoch - 1])


def test_equal_error_rates_are_decided_by_the_loss():
    labels = torch.tensor([0, 1, 1])
    logits = torch.tensor([[2.0, 0.0], [0.0, 2.0], [1.0, 0.0]])
    surer = torch.tensor([[4.0, 0.0], [0.0, 4.0], [1.0, 0.0]])
    better = torch.tensor([[0.1, 0.0], [0.0, 0.1], [0.0, 0.1]])
    first, second, third = (sentiment.selection_error(its, labels) for its in (logits, surer, better))
    assert third < second < first
    assert (first, third) == (pytest.approx(1 / 3, abs=1e-5), pytest.approx(0, abs=1e-5))


def test_max_norm_holds_after_every_step_of_textcnn_only(config, grammar, monkeypatch):
    """The rows of its output layer are rescaled; the other classifiers are not constrained."""
    norms = []
    step = sentiment.train_step

    def watch(model: Any, *arguments, **named):
        loss = step(model, *arguments, **named)
        last: Any = model.layers[-1] if isinstance(model, BagOfWords) else model.output
        norms.append((type(model), float(last.weight.detach().norm(dim=1).max())))
        return loss

    monkeypatch.setattr(sentiment, "train_step", watch)
    monkeypatch.setattr(sentiment, "report", lambda *_: None)
    sentiment.train(replace(config, network="textcnn", max_norm=0.1), grammar)
    textcnn = [norm for kind, norm in norms if kind is TextCNN]
    assert textcnn and max(textcnn) <= 0.1 + 1e-6
    assert min(norm for kind, norm in norms if kind is BagOfWords) > 0.2


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("The plot was DULL, but well-acted.", "the plot was dull , but well-acted ."),
        ("It's good and doesn't bore", "it 's good and does n't bore"),
        ("We’re sure they’d've liked 'Fargo'", "we 're sure they 'd 've liked ' fargo '"),
    ],
)
def test_a_sentence_is_cut_as_the_treebank_cuts_it(sentence, words):
    assert classify_sentence.tokenise(sentence) == words.split()


def test_an_interrupted_run_ends_with_the_same_weights(config, grammar, monkeypatch):
    sentiment.train(config, grammar)
    whole = max(config.run.out.rglob("model.safetensors"), key=lambda path: path.stat().st_mtime_ns).read_bytes()
    steps, step = [], sentiment.train_step

    def interrupted(*arguments, **named):
        steps.append(1)
        if len(steps) == 19:  # two a batch, seven batches an epoch
            raise KeyboardInterrupt
        return step(*arguments, **named)

    monkeypatch.setattr(sentiment, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sentiment.train(config, grammar)
    monkeypatch.setattr(sentiment, "train_step", step)
    sentiment.train(replace(config, run=replace(config.run, resume=True)), grammar)
    newest = max(config.run.out.rglob("model.safetensors"), key=lambda path: path.stat().st_mtime_ns)
    assert newest.read_bytes() == whole


def test_sst_sentences_have_no_kinds(config, tmp_path):
    write_sst(tmp_path)
    metrics = sentiment.train(replace(config, data="sst-2", minimum_count=1))
    assert set(metrics) >= {"test_accuracy", "test_bag_accuracy", "test_ngram_accuracy"}
    assert not any("any_bag" in name or "plain" in name for name in metrics)


@pytest.mark.parametrize("network", ["bilstm", "textcnn"])
@pytest.mark.parametrize("freeze", [True, False])
def test_pretrained_vectors_are_kept_or_trained(config, grammar, tmp_path, capsys, monkeypatch, network, freeze):
    (tmp_path / "data").mkdir()
    words, vectors = ["superb", "dull", "elsewhere", "the"], torch.randn(4, 50)
    write_vectors(tmp_path / "data" / "glove.6B.50d.txt", words, vectors, "glove")
    monkeypatch.setattr(sentiment, "report", lambda *_: None)
    config = replace(config, network=network, vectors="glove-6b-50d", freeze=freeze, embedding_size=50)
    sentiment.train(config, grammar)
    (folder,) = (path.parent for path in config.run.out.rglob("model.safetensors"))
    model, vocabulary, restored = sentiment.restore(folder)
    everywhere = {w for split in (grammar.train, grammar.valid, grammar.test) for t in split.texts for w in t.split()}
    assert f"GloVe 6B: 3 of {len(everywhere)} words" in capsys.readouterr().out
    assert restored.freeze == freeze
    kept = model.embedding.weight[vocabulary.encode(["superb", "the"])]
    same = torch.allclose(kept, vectors[[0, 3]], rtol=1e-5, atol=1e-5)  # the file has six digits
    others = model.embedding.weight[vocabulary.encode(["was", UNKNOWN])]
    assert same == freeze and (others[0] == 0).all() == freeze
    assert (model.embedding.weight[PAD] == 0).all()


def test_the_network_and_the_bag_start_from_the_pretrained_vectors(grammar):
    config, vocabulary = Config(vectors="glove-6b-50d"), vocabulary_of(grammar)
    tables = [make(kind, len(vocabulary), config).embedding for kind in CLASSIFIERS]
    vectors = VectorFile(["the", "superb"], torch.ones(2, 50))
    expected = torch.zeros(len(vocabulary), 50)
    expected[vocabulary.encode(["the", "superb"])] = 1
    sentiment.initialise_embeddings(tables, vocabulary, vectors, freeze=False)
    for table in tables:
        assert torch.equal(table.weight, expected) and table.weight.requires_grad


def test_the_vocabulary_has_frequent_words_and_words_with_a_vector():
    """A word that occurs once, or in the test set only, is known if it has a pre-trained vector."""
    train, valid, test = (Sentences([text], [1], ["all"]) for text in ("a a rare odd", "seen", "new a"))
    data = SentenceSet(load_sentences("grammar", limit=1).card, train, valid, test)
    assert sentiment.build_vocabulary(data, minimum_count=2).symbols == ("<pad>", UNKNOWN, "a")
    vectors = VectorFile(["rare", "a", "new"], torch.zeros(3, 2))
    assert sentiment.build_vocabulary(data, 2, vectors).symbols == ("<pad>", UNKNOWN, "a", "rare", "new")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--freeze"], "--freeze keeps pre-trained vectors: give --vectors too, got none"),
        (
            ["--vectors", "glove-6b-50d", "--embedding-size", "64"],
            "--embedding-size must be 50 with --vectors glove-6b-50d, got 64",
        ),
        (["--dropout", "1"], "--dropout must be at least 0 and below 1, got 1.0"),
        (["--data", "sst2"], "invalid choice 'sst2'"),
        (["--data", "sst-2"], "use the embedded sentences: --data grammar"),
        (["--minimum-count", "0"], "--minimum-count must be a number above 0, got 0"),
        (["--widths", "3", "3"], "--widths must be one or more different widths, got 3 3"),
        (["--widths", "0"], "--widths must be a number above 0, got 0"),
        (["--max-norm", "0"], "--max-norm must be a number above 0, got 0.0"),
    ],
)
def test_a_mistake_is_one_line(fails, tmp_path, words, message):
    assert message in fails(cli.main, sentiment, arguments=["sentiment", *words, "--out", str(tmp_path)])


@pytest.mark.slow
def test_networks_learn_word_order_and_bags_cannot(options, monkeypatch):
    """Contrasts have an expected accuracy of at most 50 % without word order."""
    monkeypatch.setattr(sentiment, "report", lambda *_: None)
    epochs: dict[Literal["bilstm", "textcnn"], int] = {"bilstm": 8, "textcnn": 14}
    for network, count in epochs.items():
        metrics = sentiment.train(Config(network=network, data="grammar", epochs=count, run=options))
        assert metrics["test_contrast_accuracy"] > 0.9
        assert metrics["test_bag_contrast_accuracy"] < 0.6
        assert metrics["test_bag_plain_accuracy"] > 0.7
        assert metrics["test_ngram_plain_accuracy"] > 0.9
