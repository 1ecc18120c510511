"""Recurrent highway networks: equal to their equations, forward and gradient; dropout; what the gates do."""

import math
from typing import Any

import pytest
import torch

from ch05_rnn.language import language_model
from ch05_rnn.language.language_model import Config
from ch05_rnn.recurrence.highway import GATE_BIAS, HighwayLayer
from conftest import train_until

T, B, IN, H = 5, 3, 4, 6


def double(*shape: int, grad: bool = False) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=grad)


def layer_of(depth: int, dropout: float = 0.0) -> HighwayLayer:
    torch.manual_seed(0)
    return HighwayLayer(IN, H, depth, dropout).double()


def written_out(layer: HighwayLayer, x: torch.Tensor, s: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Equations 6 to 9 of Zilly et al. with c = 1 - t: separate matrices, one sample and one step at a time"""
    weights = dict(layer.named_parameters())
    w_h, w_t = weights["input.weight"][:H], weights["input.weight"][H:]
    hidden = []
    for t in range(len(x)):
        rows = []
        for b in range(B):
            state = s[b]
            for number in range(len(layer.layers)):
                r, bias = weights[f"layers.{number}.weight"], weights[f"layers.{number}.bias"]
                h, gate = r[:H] @ (mask[b] * state) + bias[:H], r[H:] @ (mask[b] * state) + bias[H:]
                if number == 0:
                    h, gate = h + w_h @ x[t, b], gate + w_t @ x[t, b]
                transform = 1 / (1 + torch.exp(-gate))
                state = torch.tanh(h) * transform + state * (1 - transform)
            rows.append(state)
        s = torch.stack(rows)
        hidden.append(s)
    return torch.stack(hidden)


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("masked", [False, True])
def test_a_highway_layer_is_its_equations_forward_and_gradient(depth, masked, monkeypatch):
    layer, x, s = layer_of(depth), double(T, B, IN, grad=True), double(B, H, grad=True)
    mask = torch.tensor([0.0, 2.0], dtype=torch.float64)[torch.randint(2, (B, H))] if masked else torch.ones(B, H)
    monkeypatch.setattr(layer, "recurrent_mask", lambda _: mask)
    ours, (last,) = layer(x, (s,))
    theirs, weights = written_out(layer, x, s, mask), double(T, B, H)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    assert torch.equal(last, ours[-1])
    inputs = [x, s, *layer.parameters()]
    gradients = (torch.autograd.grad((hidden * weights).sum(), inputs) for hidden in (ours, theirs))
    for mine, other in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-12)


def test_two_halves_with_the_state_carried_are_the_whole():
    layer, x, s = layer_of(3), double(T, B, IN), double(B, H)
    whole, _ = layer(x, (s,))
    first, state = layer(x[:2], (s,))
    second, _ = layer(x[2:], state)
    torch.testing.assert_close(torch.cat([first, second]), whole, rtol=1e-12, atol=1e-12)


def test_closed_gates_carry_state_and_gradient():
    layer, x, s = layer_of(4), double(T, B, IN), double(B, H, grad=True)
    for each in layer.layers:
        torch.nn.init.constant_(each.get_parameter("bias")[H:].detach(), -50.0)
    hidden, _ = layer(x, (s,))
    torch.testing.assert_close(hidden, s.expand(T, B, H))
    (gradient,) = torch.autograd.grad(hidden[-1].sum(), s)
    torch.testing.assert_close(gradient, torch.ones_like(s))


def test_at_first_a_layer_carries_most_of_the_state():
    layer = HighwayLayer(IN, 500, depth=3)
    for each in layer.layers:
        bias = each.get_parameter("bias").detach()
        assert bias[500:].unique().tolist() == [GATE_BIAS]
        assert bias[:500].unique().numel() > 1
    assert 1 / (1 + math.exp(-GATE_BIAS)) == pytest.approx(0.12, abs=0.005)


def test_one_mask_for_all_steps_of_a_sequence():
    """With inputs and candidate weights of zero, only dropped units can differ: the same ones at every step."""
    torch.manual_seed(0)
    layer = layer_of(2, dropout=0.5)
    mask = layer.recurrent_mask(double(B, 200))
    assert mask.unique().tolist() == [0, 2]
    assert 0.4 < float(mask.mean() / 2) < 0.6
    assert not torch.equal(mask[0], mask[1]), "each stream has a mask of its own"
    drawn = []
    usual = layer.recurrent_mask
    layer.recurrent_mask = lambda s: drawn.append(usual(s)) or drawn[-1]
    x, s = double(T, B, IN), double(B, H)
    hidden, _ = layer(x, (s,))
    assert len(drawn) == 1
    torch.testing.assert_close(hidden, written_out(layer, x, s, drawn[0]))
    layer.eval()
    assert torch.equal(usual(s), torch.ones_like(s))


def test_in_bfloat16_the_state_keeps_single_precision():
    layer = HighwayLayer(IN, H, 3)
    x, s = torch.randn(T, B, IN), torch.randn(B, H)
    exact, _ = layer(x, (s,))
    with torch.autocast("cpu", torch.bfloat16):
        rounded, (last,) = layer(x, (s,))
    assert last.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, rtol=0.02, atol=0.02)


# In the language model.


def make(**settings: Any) -> language_model.LanguageModel:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"cell": "rhn", "embedding_size": 8, "hidden_size": 16}
    return language_model.make_recurrent(9, Config(**sizes | settings))


def test_the_number_of_parameters_follows_the_depth():
    counts = [sum(p.numel() for p in make(depth=depth).parameters()) for depth in (1, 2, 3)]
    assert counts[1] - counts[0] == counts[2] - counts[1] == 2 * 16 * (16 + 1)
    assert counts[0] == 9 * 8 + 2 * 16 * 8 + 2 * 16 * (16 + 1) + 9 * (16 + 1)


def test_locked_dropout_is_on_the_recurrent_connections_too():
    assert [layer.dropout for layer in make(dropout=0.3, locked=True, layers=2).layers] == [0.3, 0.3]
    assert [layer.dropout for layer in make(dropout=0.3).layers] == [0.0]


def test_one_batch_is_learned_by_heart():
    model = make(depth=3)
    optimizer = torch.optim.AdamW(model.parameters(), 0.03)
    tokens = torch.randint(9, (9, 2), generator=torch.Generator().manual_seed(1))
    losses = []

    def step():
        state = model.initial_state(2)
        losses.append(language_model.train_step(model, optimizer, tokens[:-1], tokens[1:], state)[0])

    train_until(lambda: float(losses[-1]) < 0.1, step, at_most=1_000)


def test_it_trains_prints_its_parameters_and_restores(options, tmp_path, capsys):
    path = tmp_path / "story.txt"
    path.write_text("the cat sat on the mat.\n" * 60)
    sizes: dict[str, Any] = {"embedding_size": 8, "hidden_size": 16, "batch_size": 8, "steps": 16}
    config = Config(text=str(path), cell="rhn", depth=2, locked=True, epochs=2, ngram_orders=(2,), run=options, **sizes)
    metrics = language_model.train(config)
    (folder,) = (found.parent for found in options.out.rglob("model.safetensors"))
    model, _, restored = language_model.restore(folder)
    assert restored == config and config.by == "loop"
    count = sum(p.numel() for p in model.parameters())
    assert metrics["parameters"] == count
    assert f"model    rhn, {count:,} parameters" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cell": "rhn", "by": "hand"}, "--cell rhn has no other implementation than --by loop, got hand"),
        ({"cell": "rhn", "initial": "chrono"}, "--initial does not apply to --cell rhn: leave it out, got chrono"),
        ({"cell": "lstm", "depth": 2}, "--depth needs a recurrent highway network, --cell rhn, got 2"),
        ({"cell": "rhn", "depth": 0}, "--depth must be a number above 0"),
    ],
)
def test_nonsense_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Config(**settings)
