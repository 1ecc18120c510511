"""The translation program: batches, training step, what it writes, `translate` and `converse`."""

import io
import math
import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from torch import nn

from ch05_rnn import converse, translate
from ch05_rnn.sentences import seq2seq
from ch05_rnn.sentences.encoder_decoder import END, START
from ch05_rnn.sentences.padding import PAD
from ch05_rnn.translation import batches, evaluation, translation
from ch05_rnn.translation.batches import TokenisedPairs, batch_count, batches_by_tokens, decode, encode
from ch05_rnn.translation.bpe import FIRST, BytePairEncoding
from ch05_rnn.translation.translation import Config
from common import cli
from common.data.sentence_pairs.dates import load_dates
from common.data.sentence_pairs.german import load_german
from common.data.sentence_pairs.pairs import Pairs, PairSet
from conftest import train_until

NETWORKS = ("transformer", "gru")


@pytest.fixture(scope="module")
def german() -> PairSet:
    return load_german(limit=24)


@pytest.fixture
def config(options):
    return Config(merges=150, embedding_size=16, hidden_size=16, epochs=2, batch_tokens=60, beam=2, run=options)


@pytest.fixture(params=NETWORKS)
def network(request):
    return request.param


def make(config, pairs):
    torch.manual_seed(0)
    encoding = BytePairEncoding.learn([f" {text}" for text in (*pairs.sources, *pairs.targets)], config.merges)
    return encoding, translation.make_model(len(encoding), config).eval()


def newest(config):
    return max(config.run.out.rglob("model.safetensors"), key=lambda path: path.stat().st_mtime_ns)


# Pairs as tokens, in batches.


def test_texts_become_tokens_and_texts_again():
    encoding = BytePairEncoding.learn([" der Mann der Mann"], 20)
    assert encode(encoding, "der Mann")[-1] == END
    assert len(encode(encoding, "der der")) == 3, "the first word has the token of the second"
    for text in ("der Mann", " x", "", "日本"):
        assert decode(encoding, encode(encoding, text)) == text
        assert decode(encoding, [*encode(encoding, text), FIRST + 65, PAD]) == text, "nothing after the end"
    assert decode(encoding, encode(encoding, "der Mann")[:-1]) == "der Mann", "also without an end"


def test_pairs_are_padded_and_long_ones_left_out():
    encoding = BytePairEncoding(())
    pairs = Pairs(["ab", "abcdef", "a", "a"], ["x", "y", "xyzuvw", "xy"], ["all"] * 4)
    found = TokenisedPairs.of(pairs, encoding, max_length=5)
    assert found.source_lengths.tolist() == [4, 3] and found.target_lengths.tolist() == [3, 4], "a space and the end"
    assert found.targets[:, 0].tolist() == [START] * 2 and found.targets[1, -1] == END
    assert found.targets[0, -1] == PAD == found.sources[1, -1]
    sources, targets = found.batch(torch.tensor([0]), torch.device("cpu"))
    assert sources.tolist() == [encode(encoding, "ab")] and targets.tolist() == [[START, *encode(encoding, "x")]]
    assert len(TokenisedPairs.of(pairs, encoding).sources) == 4
    with pytest.raises(ValueError, match="--max-length must leave at least one training pair, got 2"):
        TokenisedPairs.of(pairs, encoding, max_length=2)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=300),
    st.integers(1, 400),
    st.integers(0, 5),
)
def test_an_epoch_has_every_pair_once_in_equal_batches(lengths, tokens, seed):
    sources, targets = (torch.tensor(column) for column in zip(*lengths, strict=True))
    generator = torch.Generator().manual_seed(seed)
    count = batch_count(targets, tokens)
    for _ in range(2):
        epoch = batches_by_tokens(sources, targets, tokens, generator)
        assert sorted(torch.cat(epoch).tolist()) == list(range(len(lengths)))
        assert len(epoch) == count, "a run counts on it"
        for batch in epoch:
            assert len(batch) > 0 and abs(int(targets[batch].sum()) - int(targets.sum()) / count) <= int(targets.max())


def test_batches_hold_similar_lengths_and_differ_between_epochs():
    generator = torch.Generator().manual_seed(0)
    sources = torch.randint(5, 40, (6_000,), generator=generator)
    targets = sources + torch.randint(-4, 9, (6_000,), generator=generator)
    first, second = (batches_by_tokens(sources, targets, 1_000, generator) for _ in range(2))
    assert len(first) == int(targets.sum()) // 1_000
    for lengths in (sources, targets):
        assert sum(len(batch) * int(lengths[batch].max()) for batch in first) < 1.13 * int(lengths.sum())
    assert {tuple(sorted(batch.tolist())) for batch in first}.isdisjoint(tuple(sorted(b.tolist())) for b in second)
    sizes = [len(batch) for batch in first]
    assert sizes != sorted(sizes) and max(sizes) > 3 * min(sizes), "many short texts, or few long ones"


def test_several_processes_all_get_texts(monkeypatch):
    monkeypatch.setattr(batches.distributed, "world_size", lambda: 3)
    lengths = torch.tensor([30, 1, 2, 3, 29, 30, 28, 30, 4, 30, 30, 30])
    epoch = batches_by_tokens(lengths, lengths, 10, torch.Generator().manual_seed(0))
    assert len(epoch) > 1 and all(len(batch) >= 3 for batch in epoch)


# One step.


@pytest.mark.parametrize("clip", [1e9, 0.1])
def test_step_follows_the_clipped_gradient_of_the_smoothed_loss(german, config, network, monkeypatch, clip):
    monkeypatch.setattr(translation, "CLIP", clip)
    config = replace(config, network=network, dropout=0.0)
    encoding, model = make(config, german.train)
    pairs = TokenisedPairs.of(german.train[:7], encoding)
    sources, targets = pairs.batch(torch.arange(7), torch.device("cpu"))
    log_p = model(sources, targets[:, :-1]).log_softmax(2)
    picked = log_p.gather(2, targets[:, 1:].long().unsqueeze(2)).squeeze(2)
    real = targets[:, 1:] != PAD
    assert not real.all()
    expected = -(0.8 * picked + 0.2 * log_p.mean(2))[real].mean()
    gradients = torch.autograd.grad(expected, list(model.parameters()))
    norm = math.sqrt(sum(float(g.square().sum()) for g in gradients))
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = translation.train_step(model, optimizer, sources, targets, smoothing=0.2)
    torch.testing.assert_close(loss, expected.detach())
    for old, new, g in zip(before, model.parameters(), gradients, strict=True):
        scale = min(1, clip / norm)
        torch.testing.assert_close(new.detach(), old - 0.1 * g * scale, rtol=1e-4, atol=1e-6)
    assert all(p.grad is None for p in model.parameters())


@torch.inference_mode()
def test_the_loss_of_a_set_is_the_mean_over_all_tokens(german, config, network, monkeypatch):
    encoding, model = make(replace(config, network=network, dropout=0.5), german.train)
    monkeypatch.setattr(evaluation, "AT_ONCE", 4)
    pairs = TokenisedPairs.of(german.train[:9], encoding)
    losses = []
    for source, target in zip(german.train.sources[:9], german.train.targets[:9], strict=True):
        tokens = encode(encoding, target)
        log_p = model(torch.tensor([encode(encoding, source)]), torch.tensor([[START, *tokens[:-1]]])).log_softmax(2)[0]
        losses += (-log_p[range(len(tokens)), tokens]).tolist()
    model.train()
    assert evaluation.mean_loss(model, pairs) == pytest.approx(sum(losses) / len(losses), rel=1e-4)
    assert model.training


def test_texts_are_translated_together_as_alone(german, config, network, monkeypatch):
    encoding, model = make(replace(config, network=network), german.train)
    for parameter in model.double().parameters():
        nn.init.normal_(parameter, std=0.5)
    monkeypatch.setattr(evaluation, "AT_ONCE", 5)
    texts = german.train.sources[:8]
    for beam in (1, 3):
        search = {"max_length": 7, "beam": beam, "length_penalty": 0.5}
        together = evaluation.translate(model, encoding, texts, **search)
        assert together == [evaluation.translate(model, encoding, [text], **search)[0] for text in texts]
        assert len(set(together)) > 1


def test_the_search_gets_the_settings(german, config, monkeypatch):
    encoding, model = make(config, german.train)
    search, found = evaluation.beam_search, []
    monkeypatch.setattr(evaluation, "beam_search", lambda *its, **given: found.append(given) or search(*its, **given))
    evaluation.translate(model, encoding, ["Der Mann"], max_length=4, beam=3, length_penalty=0.5)
    tokens = {"start": START, "end": END, "pad": PAD}
    assert found == [{"width": 3, "max_length": 4, "length_penalty": 0.5, **tokens}]


def test_a_translation_is_right_if_it_is_one_of_the_targets():
    pairs = Pairs(["a", "a", "b"], ["There is a black cat.", "There is a cat.", "I do not know that."], ["all"] * 3)
    right = ["There is a cat.", "There is a black cat.", "I do not know that."]
    assert evaluation.measure(right, pairs) == pytest.approx({"bleu": 1, "lowercase_bleu": 1, "accuracy": 1})
    found = evaluation.measure([*right[:2], "i do not know that."], pairs)
    assert found["accuracy"] == pytest.approx(2 / 3) and found["lowercase_bleu"] == pytest.approx(1)
    # 5, 6 and 6 tokens, of which I is wrong: in 1 of the 1-, 2-, 3- and 4-grams
    assert found["bleu"] == pytest.approx((16 / 17 * 13 / 14 * 10 / 11 * 7 / 8) ** (1 / 4))


def test_each_kind_has_an_accuracy():
    pairs = Pairs(["a", "b", "c"], ["x", "y", "z"], ["first kind", "other", "first kind"])
    found = evaluation.measure(["x", "y", "y"], pairs)
    assert (found["first_kind_accuracy"], found["other_accuracy"]) == (0.5, 1)


@pytest.mark.parametrize(
    ("network", "bf16"),
    [("gru", False), ("transformer", False), pytest.param("transformer", True, marks=pytest.mark.bf16)],
    indirect=["network"],
)
def test_one_batch_is_learned_by_heart(german, config, network, bf16):
    few, sizes = german.train[:5], {"embedding_size": 32, "hidden_size": 32}
    config = replace(config, network=network, dropout=0.0, learning_rate=0.01, **sizes)
    encoding, model = make(config, few)
    optimizer = translation.make_optimizer(model, config)
    batch = TokenisedPairs.of(few, encoding).batch(torch.arange(5), torch.device("cpu"))
    train_until(
        lambda: evaluation.translate(model, encoding, few.sources, max_length=80) == few.targets,
        lambda: translation.train_step(model, optimizer, *batch, smoothing=0.1, bf16=bf16),
        at_most=400,
        every=10,
    )
    assert evaluation.translate(model, encoding, few.sources, max_length=80, beam=3) == few.targets


# A run.


def test_training_repeats_restores_and_translates(config, german, capsys, fails, tmp_path, monkeypatch):
    first = translation.train(config, german)
    assert {"test_bleu", "test_lowercase_bleu", "test_accuracy", "best_epoch", "parameters"} <= first.keys()
    folder = newest(config).parent
    assert {path.name for path in folder.iterdir() if path.suffix == ".png"} >= {"curves.png", "kinds.png"}
    with monkeypatch.context() as patch:
        patch.setattr(translation, "report", lambda *_: None)
        second = translation.train(config, german)
    (model, encoding, restored), (other, _, _) = translation.restore(folder), translation.restore(newest(config).parent)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert first["test_bleu"] == second["test_bleu"] and restored == config
    lines = [line.split("\t") for line in (folder / "translations.tsv").read_text(encoding="utf-8").splitlines()]
    assert lines[0] == ["verdict", "source", "translation", "target"]
    assert [row[1::2] for row in lines[1:]] == [list(pair) for pair in zip(*astuple(german.test), strict=True)]
    assert all((row[0] == "right") == (row[2] == row[3]) for row in lines[1:])
    longest = TokenisedPairs.of(german.train, encoding).targets.shape[1]
    answers = evaluation.translate(model, encoding, german.test.sources, max_length=longest, beam=2)
    assert [" ".join(answer.split()) for answer in answers] == [row[2] for row in lines[1:]]

    capsys.readouterr()
    words, texts = ["--out", str(config.run.out), "--max-length", str(longest)], german.test.sources[:2]
    picture = tmp_path / "alignments.png"
    monkeypatch.setattr(evaluation, "draw_alignments", lambda *_: Figure(figsize=(1, 1)))
    translate.main([*texts, *words, "--draw", str(picture), "--folder", str(folder)])
    assert picture.read_bytes()[:4] == b"\x89PNG"
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{texts[0]}\n\n  {texts[1]}  \n"))
    capsys.readouterr()
    converse.main(words)
    assert capsys.readouterr().out.split("\n") == [answers[0], "", answers[1], ""]
    assert "has no finished run" in fails(converse.main, ["--out", str(tmp_path / "no")])
    assert "--beam must be a number above 0, got 0" in fails(converse.main, ["--beam", "0"])


def astuple(pairs):
    return pairs.sources, pairs.targets


def test_translate_takes_the_newest_run_of_either_program(config, german, capsys, fails, monkeypatch, tmp_path):
    for module in (seq2seq, translation):
        monkeypatch.setattr(module, "report", lambda *_: None)
    small = seq2seq.Config(hidden_size=8, embedding_size=8, epochs=1, run=config.run)
    seq2seq.train(small, load_dates(limit=50))
    out = ["--out", str(config.run.out), "--max-length", "3"]
    assert "--beam needs a run of translation" in fails(translate.main, ["3 may 1999", *out, "--beam", "2"])
    draw = ["--draw", str(tmp_path / "no.png")]
    assert "--draw needs a run of translation" in fails(translate.main, ["3 may 1999", *out, *draw])
    assert not (tmp_path / "no.png").exists()
    asked = []
    monkeypatch.setattr(evaluation, "translate", lambda *its, **search: asked.append(search["beam"]) or ["found"])
    translate.main(["3 may 1999", *out])
    assert asked == []
    translation.train(replace(config, epochs=1, beam=4), german)
    asked.clear()
    translate.main(["Der Mann", *out])
    translate.main(["Der Mann", *out, "--beam", "1"])
    assert asked == [4, 1]
    assert "found" in capsys.readouterr().out


def test_an_interrupted_run_ends_with_the_same_weights(config, german, monkeypatch):
    monkeypatch.setattr(translation, "report", lambda *_: None)
    translation.train(config, german)
    whole, steps, step = newest(config).read_bytes(), [], translation.train_step
    encoding, _ = make(config, german.train)
    per_epoch = batch_count(TokenisedPairs.of(german.train, encoding).target_lengths, config.batch_tokens)
    assert per_epoch > 2

    def interrupted(*arguments, **named):
        steps.append(1)
        if len(steps) == per_epoch + 2:  # in the second epoch
            raise KeyboardInterrupt
        return step(*arguments, **named)

    monkeypatch.setattr(translation, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        translation.train(config, german)
    monkeypatch.setattr(translation, "train_step", step)
    translation.train(replace(config, run=replace(config.run, resume=True)), german)
    assert newest(config).read_bytes() == whole


def test_choices_are_made_without_the_test_split(config, german, monkeypatch):
    monkeypatch.setattr(translation, "report", lambda *_: None)
    nonsense = replace(german, test=Pairs(["never seen"] * 3, ["0"] * 3, ["all"] * 3))
    for data in (german, nonsense):
        translation.train(replace(config, epochs=1), data)
    one, two = (path.read_bytes() for path in config.run.out.rglob("model.safetensors"))
    assert one == two


def test_the_epoch_with_the_highest_validation_bleu_is_kept(config, german, monkeypatch):
    """Choose among three epochs whose validation scores are 0.2, 0.5 and 0.3."""
    monkeypatch.setattr(translation, "report", lambda *_: None)
    scores, weights = [0.2, 0.5, 0.3], []

    def score(outputs, references):
        weights.append([p.detach().clone() for p in models[0].parameters()])
        return scores[len(weights) - 1]

    models, build = [], translation.make_model
    monkeypatch.setattr(translation, "make_model", lambda *its: models.append(build(*its)) or models[-1])
    monkeypatch.setattr(translation.bleu, "score", score)
    monkeypatch.setattr(translation, "measure", lambda *_: {"bleu": 0.0})
    metrics = translation.train(replace(config, epochs=3), german)
    assert metrics["best_epoch"] == 2
    monkeypatch.setattr(translation, "make_model", build)
    model, _, _ = translation.restore(newest(config).parent)
    assert all(torch.equal(p, its) for p, its in zip(model.parameters(), weights[1], strict=True))


def test_the_learning_rate_goes_through_one_cycle(config, german, monkeypatch):
    monkeypatch.setattr(translation, "report", lambda *_: None)
    rates = []
    monkeypatch.setattr(translation, "set_learning_rate", lambda optimizer, rate: rates.append(rate))
    translation.train(config, german)
    done = [number / len(rates) for number in range(len(rates))]
    cycle = [translation.one_cycle_at(part, config.learning_rate, warm_up=translation.WARM_UP) for part in done]
    assert rates == pytest.approx(cycle)


def test_a_file_of_pairs_is_learned_by_grus(config, tmp_path):
    path = tmp_path / "dialogue.tsv"
    path.write_text("".join(f"w{a} w{b}\tw{b} w{a}!\n" for a in range(6) for b in range(6)), encoding="utf-8")
    metrics = translation.train(replace(config, network="gru", pairs=path, epochs=1))
    assert 0 <= metrics["test_accuracy"] <= 1
    folder = newest(config).parent
    assert {path.name for path in folder.iterdir()} >= {"alignments.png", "curves.png", "translations.tsv"}
    assert not (folder / "kinds.png").exists(), "all pairs are of one kind"
    model, encoding, restored = translation.restore(folder)
    assert restored.network == "gru"
    rows = [row.split("\t") for row in (folder / "translations.tsv").read_text(encoding="utf-8").splitlines()[1:]]
    found = evaluation.translate(model, encoding, [row[1] for row in rows], max_length=12, beam=2)
    assert all(" ".join(one.split()).startswith(row[2][:3]) for one, row in zip(found, rows, strict=True))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--merges", "-1"], "--merges must not be negative, got -1"),
        (["--embedding-size", "20"], "--embedding-size must be a multiple of 2 x --heads = 8, got 20"),
        (["--network", "gru", "--heads", "8"], "--heads does not apply to --network gru: leave it out, got 8"),
        (["--network", "gru", "--layers", "4"], "--layers does not apply to --network gru: leave it out, got 4"),
        (["--network", "gru", "--hidden-size", "9"], "--hidden-size must be even with --network gru, got 9"),
        (["--network", "lstm"], "invalid choice 'lstm'"),
        (["--dropout", "1"], "--dropout must be at least 0 and below 1, got 1"),
        (["--label-smoothing", "1"], "--label-smoothing must be at least 0 and below 1, got 1"),
        (["--length-penalty", "-1"], "--length-penalty must be a number of at least 0, got -1"),
        (["--beam", "0"], "--beam must be a number above 0, got 0"),
        (["--batch-tokens", "0"], "--batch-tokens must be a number above 0, got 0"),
        (["--pairs", "no.tsv"], "no.tsv does not exist: --pairs takes a file with source, tab and target"),
        (["--pairs", "x.tsv", "--data", "multi30k"], "--pairs takes the place of --data: give one of them"),
        (["--data", "multi30k"], "cannot be downloaded (DATA_OFFLINE is set, so nothing is downloaded)"),
        (["--max-length", "3"], "--max-length must leave at least one training pair, got 3"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_files(fails, tmp_path, words, message):
    out = tmp_path / "runs"
    assert message in fails(cli.main, translation, arguments=["translation", *words, "--out", str(out)])
    assert not out.exists()


def test_settings_follow_data_and_network():
    assert (Config().merges, Config(data="multi30k").merges) == (300, 8_000)
    assert Config(data="multi30k").dropout == 0.3 and Config(data="multi30k", network="gru").dropout == 0.4
    assert Config(data="multi30k", merges=7).merges == 7
    assert Config(data="multi30k", network="gru").layers == 3, "which GRUs do not use"


def test_standard_input_that_is_not_utf8_is_one_line(config, german, fails, monkeypatch):
    monkeypatch.setattr(translation, "report", lambda *_: None)
    translation.train(replace(config, epochs=1), german)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Der Mann\n\xff\n"), encoding="utf-8"))
    assert "standard input is not UTF-8" in fails(converse.main, ["--out", str(config.run.out)])


def test_lines_are_typed_at_a_prompt_until_ctrl_d(monkeypatch, capsys):
    typed = iter(["one", "two"])

    def read(prompt):
        assert prompt == converse.PROMPT
        try:
            return next(typed)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", read)
    assert list(converse.typed_lines()) == ["one", "two"]
    assert capsys.readouterr().out == "\n"
