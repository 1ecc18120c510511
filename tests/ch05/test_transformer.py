"""The Transformer: attention and norms by hand, positions, the key-value cache, its optimizer, training, generation."""

import json
import math
from copy import deepcopy
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ch05_rnn import generate
from ch05_rnn.language import budgets, evaluation, language_model, sampling, transformer
from ch05_rnn.language.attention import (
    EPSILON,
    MultiHeadAttention,
    angles,
    attend,
    causal_mask,
    rms_normalise,
    rotate,
    rotation,
)
from ch05_rnn.language.language_model import Config
from ch05_rnn.language.optimizer import ADAMW_SHARE, MuonAdamW
from ch05_rnn.language.transformer import RMSNorm, Transformer, sinusoidal
from common import device
from common.data.text.corpora import load_corpus
from common.data.text.vocabulary import UNKNOWN, Vocabulary
from conftest import train_until

B, T, E, H, C, V = 3, 7, 12, 2, 4, 9
D = E // H


def assert_same(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def double(*shape: int, grad: bool = False) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=grad)


def small(**options: Any) -> Transformer:
    """A Transformer in float64 whose weights are all random, also those that training starts from zero."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"width": E, "hidden_size": 16, "layers": 2, "heads": H, "context": C}
    model = Transformer(V, **sizes | options).double()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model.eval()


# Attention by hand.


def test_the_mask_lets_a_position_read_itself_and_the_last_ones_before_it():
    assert causal_mask(3, 3, 2).tolist() == [[True, False, False], [True, True, False], [False, True, True]]
    for new, positions, context in [(4, 4, 9), (2, 6, 3), (1, 5, 5), (6, 6, 1), (3, 8, 4)]:
        mask = causal_mask(new, positions, context)
        for row in range(new):
            t = positions - new + row
            assert mask[row].tolist() == [t - context < s <= t for s in range(positions)]


@pytest.mark.parametrize(("new", "positions", "context"), [(T, T, T), (T, T, C), (2, T, C), (1, T, T)])
def test_attention_by_hand_is_torchs_forward_and_gradient(new, positions, context):
    torch.manual_seed(0)
    mask = causal_mask(new, positions, context)
    inputs = [double(B, H, size, D, grad=True) for size in (new, positions, positions)]
    weights = double(B, H, new, D)
    q, k, v = inputs
    ours, theirs = attend(q, k, v, mask), F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    assert_same(ours, theirs)
    for mine, other in zip(*(torch.autograd.grad((y * weights).sum(), inputs) for y in (ours, theirs)), strict=True):
        assert_same(mine, other)


def empty_cache() -> tuple[torch.Tensor, torch.Tensor]:
    return double(B, H, 0, D), double(B, H, 0, D)


@pytest.mark.parametrize("by_hand", [True, False])
@pytest.mark.parametrize("context", [C, T, T + 5])
def test_several_heads_are_torchs_forward_and_gradient(context, by_hand):
    torch.manual_seed(0)
    ours = MultiHeadAttention(E, H, context, normalised=False, by_hand=by_hand).double()
    theirs = nn.MultiheadAttention(E, H, bias=False, batch_first=True).double()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.project.weight)
        theirs.out_proj.weight.copy_(ours.output.weight)
    x, weights = double(B, T, E, grad=True), double(B, T, E)
    mine, _ = ours(x, empty_cache())
    other, _ = theirs(x, x, x, attn_mask=~causal_mask(T, T, context), need_weights=False)
    assert_same(mine, other)
    ours_of, theirs_of = [ours.project.weight, ours.output.weight], [theirs.in_proj_weight, theirs.out_proj.weight]
    expected = torch.autograd.grad((other * weights).sum(), [x, *theirs_of])
    for gradient, reference in zip(torch.autograd.grad((mine * weights).sum(), [x, *ours_of]), expected, strict=True):
        assert_same(gradient, reference)


def test_normalised_queries_and_keys_bound_the_scores():
    torch.manual_seed(0)
    layer = MultiHeadAttention(E, H, T).double()
    x = 100 * double(B, T, E)
    _, (k, _) = layer(x, empty_cache())
    torch.testing.assert_close(k.square().mean(-1), torch.ones(B, H, T - 1, dtype=torch.float64))
    free = MultiHeadAttention(E, H, T, normalised=False).double()
    free.load_state_dict(layer.state_dict())
    assert not torch.allclose(layer(x, empty_cache())[0], free(x, empty_cache())[0])


def test_the_norm_by_hand_is_torchs_forward_and_gradient():
    torch.manual_seed(0)
    ours, theirs = RMSNorm(E).double(), nn.RMSNorm(E, eps=EPSILON).double()
    nn.init.normal_(ours.weight)
    theirs.load_state_dict(ours.state_dict())
    x, weights = double(B, T, E, grad=True), double(B, T, E)
    assert_same(ours(x), theirs(x))
    mine, other = (torch.autograd.grad((norm(x) * weights).sum(), [x, norm.weight]) for norm in (ours, theirs))
    for gradient, reference in zip(mine, other, strict=True):
        assert_same(gradient, reference)
    assert torch.equal(rms_normalise(torch.zeros(3)), torch.zeros(3))


# Positions.


def test_sinusoidal_positions_are_those_of_the_paper():
    places = torch.tensor([0, 1, 5, 1_000])
    features = sinusoidal(places, 6, torch.float64)
    for row, t in zip(features, places.tolist(), strict=True):
        for i in range(3):
            angle = t / 10_000 ** (2 * i / 6)
            assert row[2 * i : 2 * i + 2].tolist() == pytest.approx([math.sin(angle), math.cos(angle)])


def test_a_rotation_is_a_product_of_complex_numbers():
    torch.manual_seed(0)
    places = torch.tensor([0, 1, 2, 17])
    x = double(B, H, 4, D)
    turned = rotate(x, rotation(places, D, torch.float64))
    for i in range(D // 2):
        turns = torch.exp(1j * places.double() / 10_000 ** (2 * i / D))
        pairs = torch.complex(x[..., i], x[..., i + D // 2]) * turns
        assert_same(turned[..., i], pairs.real)
        assert_same(turned[..., i + D // 2], pairs.imag)
    assert torch.equal(turned[..., 0, :], x[..., 0, :]), "position 0 is not rotated"
    assert angles(torch.tensor([3]), 4, torch.float64).tolist() == [pytest.approx([3, 0.03])]


def test_rotated_dot_products_depend_on_the_distance_only():
    torch.manual_seed(0)
    q, k = double(1, D), double(1, D)

    def score(t: int, s: int) -> float:
        turned = (rotate(x, rotation(torch.tensor([place]), D, torch.float64)) for x, place in ((q, t), (k, s)))
        return float((next(turned) * next(turned)).sum())

    assert score(3, 1) == pytest.approx(score(103, 101)) == pytest.approx(score(2, 0))
    assert abs(score(3, 1) - score(3, 2)) > 1e-3
    assert abs(score(3, 1) - score(1, 3)) > 1e-3, "before is not after"


# The network, its window and its cache.


def reference(model: Transformer, tokens: torch.Tensor) -> torch.Tensor:
    """(N,) tokens -> (N, V) logits of the whole text at once, from the definitions, position by position"""
    weights = dict(model.named_parameters())
    x = weights["embedding.weight"][tokens]
    if model.positions == "sinusoidal":
        x = x + sinusoidal(torch.arange(len(tokens)), E, torch.float64)
    for number in range(len(model.blocks)):
        own = {name.removeprefix(f"blocks.{number}."): value for name, value in weights.items()}
        normed = F.rms_norm(x, (E,), own["attention_norm.weight"], EPSILON)
        q, k, v = (part.view(-1, H, D) for part in F.linear(normed, own["attention.project.weight"]).chunk(3, 1))
        q, k = F.rms_norm(q, (D,), eps=EPSILON), F.rms_norm(k, (D,), eps=EPSILON)
        if model.positions == "rotary":
            omega = torch.tensor([10_000.0 ** (-2 * i / D) for i in range(D // 2)], dtype=torch.float64)
            turns = torch.exp(1j * torch.arange(len(tokens)).unsqueeze(1) * omega).unsqueeze(1)  # (N, 1, D / 2)
            q, k = (torch.complex(*part.chunk(2, 2)) * turns for part in (q, k))
            q, k = (torch.cat([part.real, part.imag], 2) for part in (q, k))
        rows = []
        for t in range(len(tokens)):
            seen = slice(max(0, t - model.context + 1), t + 1)
            alpha = torch.einsum("hd,shd->hs", q[t], k[seen] / math.sqrt(D)).softmax(1)
            rows.append(torch.einsum("hs,shd->hd", alpha, v[seen]).flatten())
        x = x + F.linear(torch.stack(rows), own["attention.output.weight"])
        normed = F.rms_norm(x, (E,), own["feed_forward_norm.weight"], EPSILON)
        hidden = F.linear(normed, own["feed_forward.hidden.weight"]).relu() ** 2
        x = x + F.linear(hidden, own["feed_forward.output.weight"])
    return F.linear(F.rms_norm(x, (E,), weights["norm.weight"], EPSILON), weights["decoder.weight"], model.decoder.bias)


KINDS = [
    {"positions": name, "by_hand": by_hand} for name in ("rotary", "sinusoidal", "none") for by_hand in (True, False)
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", [(19,), (1,) * 19, (5, 1, 1, 9, 3)])
def test_logits_are_those_of_the_whole_text_with_and_without_the_cache(kind, sizes):
    """The text is 19 tokens long, the context 4: the window slides, and the cache forgets."""
    model = small(**kind)
    tokens = torch.randint(V, (19, 2), generator=torch.Generator().manual_seed(1))
    state, logits = model.initial_state(2), []
    for part in tokens.split(sizes):
        some, state = model(part, state)
        logits.append(some)
        kept = min(int(state[0][0]), C - 1)
        assert all(k.shape == v.shape == (2, H, kept, D) for k, v in state[1:]), "no more than later tokens read"
    for stream in (0, 1):
        assert_same(torch.cat(logits)[:, stream], reference(model, tokens[:, stream]))
    loss, _ = model(tokens[:-1], model.initial_state(2), tokens[1:])
    whole, _ = model(tokens[:-1], model.initial_state(2))
    assert_same(loss, F.cross_entropy(whole.flatten(0, 1), tokens[1:].flatten()))


@pytest.mark.parametrize("by_hand", [True, False])
def test_gradients_go_through_the_cache(by_hand):
    """Within one batch: two parts with the state carried over have the gradients of the whole."""
    model = small(by_hand=by_hand)
    tokens = torch.randint(V, (11, 2), generator=torch.Generator().manual_seed(1))
    parameters = list(model.parameters())
    whole = torch.stack([reference(model, column)[:-1] for column in tokens.T], 1)
    expected = torch.autograd.grad(F.cross_entropy(whole.flatten(0, 1), tokens[1:].flatten()), parameters)
    first, state = model(tokens[:6], model.initial_state(2))
    second, _ = model(tokens[6:-1], state)
    loss = F.cross_entropy(torch.cat([first, second]).flatten(0, 1), tokens[1:].flatten())
    for mine, other in zip(torch.autograd.grad(loss, parameters), expected, strict=True):
        assert_same(mine, other)


@pytest.mark.parametrize("by_hand", [True, False])
def test_a_layer_reads_the_last_tokens_and_no_others(by_hand):
    model = small(layers=1, by_hand=by_hand)
    tokens = torch.randint(V - 1, (T, 1), generator=torch.Generator().manual_seed(1))
    before, _ = model(tokens, model.initial_state(1))
    for place in range(T):
        changed = tokens.clone()
        changed[place] += 1
        after, _ = model(changed, model.initial_state(1))
        differs = (before != after).any(2).squeeze(1).tolist()
        assert differs == [place <= t < place + C for t in range(T)]


def test_without_positions_the_order_of_the_context_is_lost():
    tokens = torch.tensor([1, 2, 3, 4]).unsqueeze(1)
    swapped = torch.tensor([2, 1, 3, 4]).unsqueeze(1)
    for positions in ("none", "rotary", "sinusoidal"):
        model = small(layers=1, positions=positions)
        one, two = (model(text, model.initial_state(1))[0][-1] for text in (tokens, swapped))
        assert torch.allclose(one, two) == (positions == "none")


def test_a_new_network_predicts_all_tokens_alike():
    model = Transformer(V, width=E, hidden_size=16, layers=2, heads=H, context=C)
    tokens = torch.randint(V, (T, B))
    loss, _ = model(tokens[:-1], model.initial_state(B), tokens[1:])
    assert float(loss.detach()) == pytest.approx(math.log(V))
    hidden, _ = model.hidden(tokens, model.initial_state(B))
    torch.testing.assert_close(hidden, model.norm(model.embedding(tokens)), msg="every block is the identity")


def test_dropout_acts_in_training_only():
    model = small(dropout=0.5)
    tokens = torch.randint(V, (T, B))
    one, two = (model(tokens, model.initial_state(B))[0] for _ in range(2))
    assert torch.equal(one, two)
    model.train()
    one, two = (model(tokens, model.initial_state(B))[0] for _ in range(2))
    assert not torch.equal(one, two)


def test_in_training_sinusoidal_positions_start_anywhere():
    model = small(positions="sinusoidal")
    assert model.initial_state(1)[0][0] == 0
    model.train()
    firsts = {int(model.initial_state(1)[0][0]) for _ in range(20)}
    assert len(firsts) > 10 and max(firsts) < transformer.SHIFT
    assert small(positions="rotary").train().initial_state(1)[0][0] == 0


# The optimizer.


def test_matrices_are_updated_by_muon_and_the_rest_by_adamw():
    torch.manual_seed(0)
    model = small().float()
    twin = small().float()
    ours = MuonAdamW(model, 0.03, weight_decay=0.1)
    matrices = [p for name, p in twin.named_parameters() if name.startswith("blocks") and p.dim() == 2]
    others = [p for name, p in twin.named_parameters() if not name.startswith("blocks") or p.dim() == 1]
    assert (len(matrices), len(others)) == (2 * 4, 2 * 2 + 1 + 3)
    theirs = [
        torch.optim.Muon(matrices, 0.03, momentum=0.95, weight_decay=0.1),
        torch.optim.AdamW(others, 0.006, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    ]
    for rate in (0.03, 0.01):
        language_model.set_learning_rate(ours, rate)
        for optimizer, share in zip(theirs, (1, ADAMW_SHARE), strict=True):
            language_model.set_learning_rate(optimizer, share * rate)
        for mine, other in zip(model.parameters(), twin.parameters(), strict=True):
            mine.grad = torch.randn_like(mine)
            other.grad = mine.grad.clone()
        for optimizer in (ours, *theirs):
            optimizer.step()
    for mine, other in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(mine, other)
    ours.zero_grad()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_state_of_the_optimizer_comes_back():
    model, twin = small().float(), small().float()
    first, second = (MuonAdamW(each, 0.03, 0.1) for each in (model, twin))
    for number in range(3):
        if number == 2:
            twin.load_state_dict(model.state_dict())
            second.load_state_dict(deepcopy(first.state_dict()))
        for mine, other in zip(model.parameters(), twin.parameters(), strict=True):
            mine.grad = torch.randn_like(mine)
            other.grad = mine.grad.clone()
        first.step()
    second.step()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


# Training.


@pytest.fixture
def config(options, tmp_path, monkeypatch):
    monkeypatch.setattr(language_model, "generation_speed", lambda *_, cached=True: 2.0 + cached)  # takes seconds
    path = tmp_path / "story.txt"
    path.write_text('the cat (a tabby) sat.\nthe dog said "no" and sat, too.\n' * 60)
    return Config(
        text=str(path),
        network="transformer",
        epochs=4,
        embedding_size=16,
        hidden_size=32,
        layers=2,
        heads=2,
        batch_size=4,
        steps=16,
        ngram_orders=(2,),
        run=options,
    )


@pytest.mark.parametrize("by", ["hand", "library"])
@pytest.mark.parametrize("positions", ["rotary", "sinusoidal"])
def test_one_batch_is_learned_by_heart(by, positions):
    torch.manual_seed(0)
    settings = Config(network="transformer", by=by, positions=positions, embedding_size=16, hidden_size=32, steps=8)
    model = language_model.make_model(V, settings)
    optimizer = language_model.make_optimizer(model, settings)
    tokens = torch.randint(V, (9, 2), generator=torch.Generator().manual_seed(1))
    losses = []

    def step():
        loss, _ = language_model.train_step(model, optimizer, tokens[:-1], tokens[1:], model.initial_state(2))
        losses.append(loss)

    train_until(lambda: float(losses[-1]) < 0.1, step, at_most=500)


def test_in_bfloat16_the_loss_stays_within_its_precision():
    model = small().float()
    tokens = torch.randint(V, (20, 8), generator=torch.Generator().manual_seed(1))
    exact, _ = model(tokens[:-1], model.initial_state(8), tokens[1:])
    with torch.autocast("cpu", torch.bfloat16):
        rounded, state = model(tokens[:-1], model.initial_state(8), tokens[1:])
    assert float(rounded.detach()) == pytest.approx(float(exact.detach()), rel=0.02)
    assert {part.dtype for layer in state[1:] for part in layer} == {torch.bfloat16}


def test_training_learns_repeats_and_restores(config):
    first, second = language_model.train(config), language_model.train(config)
    assert first["test_loss"] == second["test_loss"] < 1.0
    folder, other = sorted(path.parent for path in config.run.out.rglob("model.safetensors"))
    (model, _, restored), (twin, *_) = language_model.restore(folder), language_model.restore(other)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
    assert restored == config
    assert isinstance(model, Transformer)
    data = load_corpus("auto", text=config.text)
    assert language_model.evaluate(model, data.test, "char")["loss"] == pytest.approx(first["test_loss"])
    assert first["parameters"] == sum(p.numel() for p in model.parameters())
    assert (first["written_chars_per_second"], first["uncached_written_chars_per_second"]) == (3, 2)
    for name in ("curves", "predictions", "embeddings"):
        assert (folder / f"{name}.png").read_bytes()[:4] == b"\x89PNG"


def test_an_interrupted_run_ends_with_the_same_weights(config, monkeypatch):
    config = replace(config, run=replace(config.run, limit=900))
    whole = language_model.train(config)
    usual, calls = language_model.evaluate, []

    def interrupted(*arguments, **named):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return usual(*arguments, **named)

    monkeypatch.setattr(language_model, "evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        language_model.train(config)
    monkeypatch.setattr(language_model, "evaluate", usual)
    resumed = language_model.train(replace(config, run=replace(config.run, resume=True)))
    assert resumed["test_loss"] == whole["test_loss"]


@pytest.mark.parametrize("segments", [1, 2, 3])
def test_each_piece_starts_with_an_empty_context(config, monkeypatch, segments):
    usual, steps = language_model.train_step, []

    def step(model, optimizer, inputs, targets, state, **named):
        loss, after = usual(model, optimizer, inputs, targets, state, **named)
        steps.append((inputs, targets, state, after))
        return loss, after

    monkeypatch.setattr(language_model, "train_step", step)
    language_model.train(replace(config, epochs=1, segments=segments))
    assert len(steps) % segments == 0
    for number, (inputs, _, state, _) in enumerate(steps):
        lengths = {k.shape[2] for k, _ in state[1:]}
        if number % segments == 0:
            assert lengths == {0} and state[0][0] == 0
        else:
            _, targets, _, after = steps[number - 1]
            assert torch.equal(inputs[0], targets[-1])
            assert lengths == {config.steps - 1}
            assert all(now is last and not now[0].requires_grad for now, last in zip(state, after, strict=True))


def test_evaluation_reads_each_stream_with_a_sliding_window(config, monkeypatch):
    """Against the definition: every layer attends to the last C tokens of the stream, whatever is read at once."""
    data, model = load_corpus("auto", text=config.text), small()
    monkeypatch.setattr(evaluation, "STEPS", 5)
    model.embedding, model.decoder = (
        nn.Embedding(21, E, dtype=torch.float64),
        nn.Linear(E, 21, dtype=torch.float64),
    )
    assert len(data.vocabulary) == 21
    measured = evaluation.evaluate(model, data.valid, "char")["loss"]
    length = (len(data.valid) - 1) // evaluation.STREAMS
    assert length == 16 > C, "the window slides"
    losses = []
    for start in range(0, evaluation.STREAMS * length, length):
        tokens = data.valid.tokens[start : start + length + 1]
        losses.append(float(F.cross_entropy(reference(model, tokens[:-1]), tokens[1:]).detach()))
    assert measured == pytest.approx(sum(losses) / len(losses), rel=1e-10)


def test_the_learning_rate_rises_stays_and_falls(config, monkeypatch):
    rates = []
    monkeypatch.setattr(language_model, "set_learning_rate", lambda _, rate: rates.append(rate))
    language_model.train(replace(config, epochs=3, run=replace(config.run, limit=900)))
    count = len(rates)
    assert rates == [language_model.trapezoid_at(step / count, 0.03) for step in range(count)]
    assert rates[0] == 0 and max(rates) == 0.03


@pytest.mark.parametrize("settings", [{"level": "word"}, {"by": "hand"}, {"positions": "sinusoidal"}, {"dropout": 0.2}])
def test_every_kind_of_transformer_trains_and_restores(config, settings):
    settings = replace(config, epochs=1, run=replace(config.run, limit=300), **settings)
    measured = language_model.train(settings)
    assert math.isfinite(measured["test_loss"])
    (folder,) = (path.parent for path in config.run.out.rglob("model.safetensors"))
    assert language_model.restore(folder)[2] == settings


@pytest.mark.parametrize("limit", [3, 40])
def test_a_handful_of_characters_is_enough(config, limit):
    assert language_model.train(replace(config, run=replace(config.run, limit=limit), epochs=1))["test_loss"] > 0


def test_defaults_follow_the_network_and_the_level():
    transformer, words = Config(network="transformer"), Config(network="transformer", level="word")
    assert (transformer.embedding_size, transformer.hidden_size, transformer.layers) == (192, 768, 4)
    assert (transformer.steps, transformer.batch_size, transformer.learning_rate) == (128, 24, 0.03)
    assert (transformer.dropout, words.dropout, Config().dropout) == (0.0, 0.5, 0.1)
    assert (Config().embedding_size, Config(level="word").embedding_size, words.embedding_size) == (128, 256, 192)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tied": True}, "--tied does not apply to --network transformer: leave it out, got True"),
        ({"cell": "gru"}, "--cell does not apply to --network transformer"),
        ({"cutoffs": (2, 5)}, "--cutoffs does not apply to --network transformer"),
        ({"by": "loop"}, "--by must be hand or library with --network transformer, got loop"),
        ({"embedding_size": 20}, "--embedding-size must be a multiple of 2 x --heads = 8, got 20"),
        ({"heads": 0}, "--heads must be a number above 0"),
        ({"segments": 0}, "--segments must be a number above 0"),
        ({"network": "recurrent", "positions": "sinusoidal"}, "--positions does not apply to --network recurrent"),
    ],
)
def test_nonsense_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Config(**{"network": "transformer"} | settings)


def test_workload_is_the_training_step(config):
    work = language_model.workload(config, device.resolve_device("cpu"))
    assert work.items == 4 * 16
    work.step()


def test_the_losses_of_several_budgets_are_compared_and_drawn(config, monkeypatch):
    small: dict[str, Any] = {"embedding_size": 16, "hidden_size": 16, "batch_size": 4, "steps": 8}
    networks = {
        "lstm": ("LSTM", Config(**small)),
        "transformer": ("Transformer", Config(network="transformer", layers=1, heads=2, **small)),
    }
    monkeypatch.setattr(budgets, "NETWORKS", networks)
    monkeypatch.setattr(language_model, "report", lambda *_: None)
    options = replace(config.run, limit=300)
    metrics = budgets.train(budgets.Config(data="pydoc", budgets=(0.2, 0.1), run=options))
    expected = {
        f"{name}_{budget}_{measure}" for name in networks for budget in (0.1, 0.2) for measure in budgets.MEASURES
    }
    assert set(metrics) == expected
    (folder,) = options.out.glob("*/budgets/*")
    assert (folder / "budgets.png").read_bytes()[:4] == b"\x89PNG"
    for name, (_, settings) in networks.items():
        (own,) = folder.glob(f"networks/{name}-0.1/*/*/*")
        restored = language_model.restore(own)[2]
        assert restored == replace(settings, data="pydoc", budget=0.1, ngram_orders=(), run=restored.run)
        summary = json.loads((own / "summary.json").read_text())
        assert summary["metrics"]["held_out_loss"] == metrics[f"{name}_0.1_held_out_loss"]
    with pytest.raises(ValueError, match="--budgets must be a number above 0"):
        budgets.Config(budgets=(60, 0))


# Generation.


@pytest.mark.parametrize("positions", ["rotary", "sinusoidal"])
def test_cached_and_uncached_generation_have_the_same_logits(positions, monkeypatch):
    model, vocabulary = small(positions=positions), Vocabulary((UNKNOWN, *"abcdefgh"))
    seen: dict[bool, list[torch.Tensor]] = {True: [], False: []}
    usual = sampling.sampling_probabilities
    for cached, logits in seen.items():
        with monkeypatch.context() as patch:
            patch.setattr(
                sampling, "sampling_probabilities", lambda z, logits=logits, **how: logits.append(z) or usual(z, **how)
            )
            generator = torch.Generator().manual_seed(0)
            tokens = sampling.generate_tokens(model, vocabulary, [1, 2], generator=generator, cached=cached)
            assert len(list(islice(tokens, 5 * C))) == len(logits) == 5 * C
    assert_same(torch.stack(seen[True]), torch.stack(seen[False]))


def test_generation_leaves_a_model_in_training_as_it_was():
    model, vocabulary = small(positions="sinusoidal", dropout=0.5).train(), Vocabulary((UNKNOWN, *"abcdefgh"))
    texts = [
        list(islice(sampling.generate_tokens(model, vocabulary, [1], generator=torch.Generator().manual_seed(0)), 9))
        for _ in range(2)
    ]
    assert texts[0] == texts[1], "no dropout, and the first position is 0"
    assert model.training


def test_the_speed_of_generation_is_measured_both_ways():
    model, vocabulary = small(), Vocabulary((UNKNOWN, *"abcdefgh"))
    assert all(evaluation.generation_speed(model, vocabulary, 5, cached=cached) > 0 for cached in (True, False))


def test_generate_writes_with_and_without_the_cache(config, capsys):
    language_model.train(replace(config, epochs=1))
    for words in ([], ["--no-cache"]):
        capsys.readouterr()
        generate.main(["--out", str(config.run.out), "--prompt", "the c", "--length", "40", *words])
        first, *text, speed = capsys.readouterr().out.splitlines()
        assert first.startswith("model    transformer, vocabulary of ")
        assert len("\n".join(text)) == len("the c") + 40
        assert "40 chars in" in speed and speed.endswith(" chars/s")
