"""The encoder-decoder: what it is output, what it writes, what it leaves."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from ch05_rnn import translate
from ch05_rnn.sentences import seq2seq
from ch05_rnn.sentences.encoder_decoder import END, START
from ch05_rnn.sentences.padding import PAD
from ch05_rnn.sentences.seq2seq import Config, Tokeniser
from common import cli
from common.data.sentence_pairs.dates import load_dates
from common.data.sentence_pairs.pairs import Pairs, PairSet
from conftest import train_until


@pytest.fixture(scope="module")
def dates() -> PairSet:
    return load_dates(limit=300)


@pytest.fixture
def config(options):
    return Config(hidden_size=16, embedding_size=8, epochs=2, batch_size=64, run=options)


@pytest.fixture(params=["none", "additive", "dot"])
def attention(request):
    return request.param


def tokeniser_and_model(config, pairs):
    torch.manual_seed(0)
    tokeniser = Tokeniser.fit(pairs, config)
    return tokeniser, seq2seq.make_model(len(tokeniser.source), len(tokeniser.target), config).eval()


def test_tokens_and_text_convert_there_and_back(dates, config):
    tokeniser = Tokeniser.fit(dates.train, config)
    symbols, lengths = tokeniser.encode_source(["3 may 1999", "May"])
    assert symbols.dtype == torch.int32 and lengths.tolist() == [10, 3]
    assert "".join(tokeniser.source.decode(symbols[1, :3])) == "may"
    targets = tokeniser.encode_target(["1999-05-03"])
    assert targets[0, 0] == START and targets[0, -1] == END
    assert tokeniser.decode_target(targets[0, 1:].tolist()) == "1999-05-03"
    assert tokeniser.decode_target(targets[0, 1:-1].tolist()) == "1999-05-03", "also without an end"
    assert tokeniser.source.symbols[PAD] == tokeniser.target.symbols[PAD] == "<pad>"
    assert tokeniser.target.symbols[START] == "<start>" and tokeniser.target.symbols[END] == "<end>"


def test_words_are_words_and_marks():
    assert seq2seq.tokenise("Don't go, Tom!", by_character=False) == ["don't", "go", ",", "tom", "!"]
    assert seq2seq.tokenise("C'est ça.", by_character=False) == ["c'est", "ça", "."]
    assert seq2seq.tokenise("Go.", by_character=True) == ["g", "o", "."]


def test_networks_with_and_without_attention_have_the_same_weights(dates, config):
    sizes = {}
    for kind in ("none", "additive", "dot"):
        _, model = tokeniser_and_model(replace(config, attention=kind), dates.train)
        sizes[kind] = sum(p.numel() for p in model.parameters())
    assert sizes["none"] == sizes["dot"]
    assert sizes["additive"] == sizes["dot"] + 2 * 16 * 8 + 8 + 8  # W, U, its bias and v


def test_the_decoder_step_by_step_is_the_decoder_at_once(dates, config, attention):
    """Teacher forcing in one call gives what feeding one symbol after the other gives; the future is not seen."""
    tokeniser, model = tokeniser_and_model(replace(config, attention=attention), dates.train)
    sources, lengths = tokeniser.encode_source(dates.train.sources[:4])
    targets = tokeniser.encode_target(dates.train.targets[:4])
    logits = model(sources, lengths, targets[:, :-1])
    encoding = model.encode(sources, lengths)
    state = encoding.final
    for t in range(targets.shape[1] - 1):
        one, state, weights = model.decode(targets[:, t : t + 1], state, encoding)
        torch.testing.assert_close(one[:, 0], logits[:, t])
        assert (weights is None) == (attention == "none")
    changed = targets.clone()
    changed[:, 6:] = END
    torch.testing.assert_close(model(sources, lengths, changed[:, :-1])[:, :6], logits[:, :6])


def test_the_step_after_the_decoder_is_the_formula(dates, config):
    tokeniser, model = tokeniser_and_model(replace(config, attention="none"), dates.train)
    sources, lengths = tokeniser.encode_source(dates.train.sources[:3])
    encoding = model.encode(sources, lengths)
    tokens = torch.full((3, 1), START)
    logits, _, _ = model.decode(tokens, encoding.final, encoding)
    q = model.decoder(model.target_embedding(tokens), encoding.final)[0][:, 0]
    c = encoding.final[0][0]  # without attention: the encoder's last state
    W_c, b_c, W_y, b_y = *model.combine.parameters(), *model.output.parameters()
    expected = torch.tanh(torch.cat([c, q], 1) @ W_c.T + b_c) @ W_y.T + b_y
    torch.testing.assert_close(logits[:, 0], expected)


def test_padding_changes_no_answer(dates, config, attention):
    tokeniser, model = tokeniser_and_model(replace(config, attention=attention), dates.train)
    sources, lengths = tokeniser.encode_source(dates.train.sources[:12])
    tokens = tokeniser.encode_target(dates.train.targets[:12])[:, :-1]
    together = model(sources, lengths, tokens)
    wider = model(F.pad(sources, (0, 7)), lengths, tokens)
    torch.testing.assert_close(wider, together)
    for n in range(12):
        alone = model(sources[n : n + 1, : lengths[n]], lengths[n : n + 1], tokens[n : n + 1])
        torch.testing.assert_close(alone[0], together[n], rtol=1e-4, atol=1e-5)


def test_greedy_takes_the_likeliest_symbol_and_ends(dates, config, attention):
    tokeniser, model = tokeniser_and_model(replace(config, attention=attention), dates.train)
    sources, lengths = tokeniser.encode_source(dates.train.sources[:5])
    tokens, weights = model.greedy(sources, lengths, max_length=9)
    assert tokens.shape[1] <= 9
    begun = torch.cat([torch.full((5, 1), START), tokens[:, :-1]], dim=1)
    assert torch.equal(model(sources, lengths, begun).argmax(2), tokens)
    if attention == "none":
        assert weights is None
    else:
        assert weights is not None
        assert weights.shape == (*tokens.shape, sources.shape[1])
    with torch.no_grad():
        model.output.bias[END] = 1e4
    assert model.greedy(sources, lengths, max_length=9)[0].tolist() == [[END]] * 5


def test_step_is_adams_on_the_mean_over_real_symbols(dates, config):
    tokeniser, model = tokeniser_and_model(config, dates.train)
    sources, lengths = tokeniser.encode_source(dates.train.sources[:8])
    targets = tokeniser.encode_target([*dates.train.targets[:6], "1", "23"])  # rows with padding
    logits = model(sources, lengths, targets[:, :-1])
    picked = logits.log_softmax(2).gather(2, targets[:, 1:].long().unsqueeze(2)).squeeze(2)
    real = targets[:, 1:] != PAD
    expected = -picked[real].sum() / real.sum()
    gradients = torch.autograd.grad(expected, list(model.parameters()))
    norm = math.sqrt(sum(float(g.square().sum()) for g in gradients))
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = seq2seq.train_step(model, optimizer, sources, lengths, targets)
    torch.testing.assert_close(loss, expected.detach())
    for old, new, g in zip(before, model.parameters(), gradients, strict=True):
        torch.testing.assert_close(new.detach(), old - 0.1 * g * min(1, seq2seq.CLIP / norm), rtol=1e-4, atol=1e-6)
    assert all(p.grad is None for p in model.parameters()), "the next step would add to this one's gradients"


def test_large_gradients_are_cut(dates, config):
    tokeniser, model = tokeniser_and_model(config, dates.train)
    with torch.no_grad():
        model.output.weight.mul_(100)
    sources, lengths = tokeniser.encode_source(dates.train.sources[:8])
    targets = tokeniser.encode_target(dates.train.targets[:8])
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    seq2seq.train_step(model, optimizer, sources, lengths, targets)
    moved = math.sqrt(
        sum(float((p.detach() - old).square().sum()) for old, p in zip(before, model.parameters(), strict=True))
    )
    assert moved == pytest.approx(seq2seq.CLIP, rel=1e-3)


@pytest.mark.parametrize(
    ("attention", "bf16"),
    [("none", False), ("additive", False), ("dot", False), pytest.param("dot", True, marks=pytest.mark.bf16)],
    indirect=["attention"],
)
def test_one_batch_is_learned_by_heart(dates, config, attention, bf16):
    few = dates.train[:16]
    config = replace(config, attention=attention, hidden_size=32, learning_rate=0.02)
    tokeniser, model = tokeniser_and_model(config, few)
    optimizer = seq2seq.make_optimizer(model, config)
    sources, lengths = tokeniser.encode_source(few.sources)
    targets = tokeniser.encode_target(few.targets)
    train_until(
        lambda: seq2seq.translate(model, tokeniser, few.sources, 12) == few.targets,
        lambda: seq2seq.train_step(model, optimizer, sources, lengths, targets, bf16=bf16),
        at_most=1_000,
        every=20,
    )
    answers = seq2seq.translate(model, tokeniser, few.sources, 12)
    assert seq2seq.exact_match(answers, few, tokeniser).all()


def test_an_answer_is_right_if_it_is_one_of_the_targets(config):
    pairs = Pairs(["hi .", "hi .", "go"], ["Salut !", "Coucou !", "Va"], ["all"] * 3)
    tokeniser = Tokeniser.fit(pairs, replace(config, level="word"))
    assert seq2seq.exact_match(["coucou !", "salut !", "va !"], pairs, tokeniser).tolist() == [True, True, False]


def test_bleu_is_over_the_tokens_and_all_targets_of_a_source(config):
    pairs = Pairs(["a", "a", "b"], ["Il y a un chat noir.", "Il y a un chat.", "Je ne le sais pas."], ["all"] * 3)
    tokeniser = Tokeniser.fit(pairs, replace(config, level="word"))
    right = ["il y a un chat .", "il y a un chat noir .", "je ne le sais pas ."]
    assert seq2seq.bleu_score(right, pairs, tokeniser) == 1
    wrong = [*right[:2], "je ne le vois pas ."]
    # 6 + 7 + 6 words; the wrong one is in 1 of the 1-grams, 2 of the 2-grams, 3 of the 3-grams, all three 4-grams
    expected = (18 / 19 * 14 / 16 * 10 / 13 * 7 / 10) ** (1 / 4)
    assert seq2seq.bleu_score(wrong, pairs, tokeniser) == pytest.approx(expected)


def test_training_repeats_and_restores(config, dates, capsys, fails):
    first, second = seq2seq.train(config, dates), seq2seq.train(config, dates)
    one, two = (path.parent for path in sorted(config.run.out.rglob("model.safetensors")))
    (model, tokeniser, restored), (other, _, _) = seq2seq.restore(one), seq2seq.restore(two)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert first["test_accuracy"] == second["test_accuracy"]
    assert restored == config
    answers = seq2seq.translate(model, tokeniser, dates.test.sources, 12)
    rows = [line.split("\t") for line in (one / "answers.tsv").read_text().splitlines()]
    assert rows[0] == ["verdict", "source", "answer", "target"]
    assert [row[2] for row in rows[1:]] == answers
    assert [row[0] == "right" for row in rows[1:]] == [row[2] == row[3] for row in rows[1:]]
    for name in ("attention", "kinds", "curves"):
        assert (one / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    capsys.readouterr()
    translate.main([dates.test.sources[0], "3 \u0444 1999", "--out", str(config.run.out)])
    output = capsys.readouterr().out
    assert answers[0] in output
    assert "'\u0444' in '3 \u0444 1999': read as <unknown>" in output
    assert "has no finished run" in fails(translate.main, ["3 may 1999", "--out", str(one)])
    assert "give a text in quotes" in fails(translate.main, [" "])


def test_an_interrupted_run_ends_with_the_same_weights(config, dates, monkeypatch):
    seq2seq.train(config, dates)
    whole = max(config.run.out.rglob("model.safetensors"), key=lambda path: path.stat().st_mtime_ns).read_bytes()
    steps, step = [], seq2seq.train_step

    def interrupted(*arguments, **named):
        steps.append(1)
        if len(steps) == 8:  # of five an epoch: in the second one
            raise KeyboardInterrupt
        return step(*arguments, **named)

    monkeypatch.setattr(seq2seq, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        seq2seq.train(config, dates)
    monkeypatch.setattr(seq2seq, "train_step", step)
    seq2seq.train(replace(config, run=replace(config.run, resume=True)), dates)
    newest = max(config.run.out.rglob("model.safetensors"), key=lambda path: path.stat().st_mtime_ns)
    assert newest.read_bytes() == whole


def test_choices_are_made_without_the_test_split(config, dates):
    nonsense = replace(dates, test=Pairs(["never seen"] * 3, ["0"] * 3, ["plain"] * 3))
    for data in (dates, nonsense):
        seq2seq.train(replace(config, epochs=1), data)
    one, two = (path.read_bytes() for path in config.run.out.rglob("model.safetensors"))
    assert one == two


def test_the_step_size_goes_through_one_cycle_in_the_whole_training(config, dates, monkeypatch):
    sizes = []
    monkeypatch.setattr(seq2seq, "set_learning_rate", lambda optimizer, size: sizes.append(size))
    seq2seq.train(config, dates)
    assert sizes == [seq2seq.one_cycle_at(step / 10, config.learning_rate) for step in range(10)]


def test_a_file_of_pairs_is_learned_word_by_word(config, tmp_path):
    words = [f"w{a} w{b}" for a in range(6) for b in range(6)]
    path = tmp_path / "pairs.txt"
    path.write_text("".join(f"{text}\t{text[::-1]}!\tCC-BY\n" for text in words), encoding="utf-8")
    metrics = seq2seq.train(replace(config, pairs=path))
    assert 0 <= metrics["test_accuracy"] <= 1
    folder = next(config.run.out.rglob("model.safetensors")).parent
    model, tokeniser, _ = seq2seq.restore(folder)
    assert "w3" in tokeniser.source
    assert len(seq2seq.translate(model, tokeniser, ["w3 never"], 9)) == 1, "an unknown word is one of its own"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--hidden-size", "7"], "--hidden-size must be an even number above 0, got 7"),
        (["--attention", "dots"], "invalid choice 'dots'"),
        (["--pairs", "no.txt"], "no.txt does not exist: --pairs takes a file with source, tab and target in each line"),
        (["--epochs", "0"], "--epochs must be a number above 0, got 0"),
    ],
)
def test_a_mistake_is_one_line(fails, tmp_path, words, message):
    assert message in fails(cli.main, seq2seq, arguments=["seq2seq", *words, "--out", str(tmp_path)])


@pytest.mark.slow
def test_attention_finds_the_dates_that_a_last_state_loses(options, monkeypatch):
    monkeypatch.setattr(seq2seq, "report", lambda *_: None)
    data = load_dates(limit=6_000)
    config = Config(epochs=6, batch_size=64, hidden_size=64, run=options)
    found = {kind: seq2seq.train(replace(config, attention=kind), data)["test_accuracy"] for kind in ("dot", "none")}
    assert found["dot"] > found["none"] + 0.2
