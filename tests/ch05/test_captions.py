"""Image captions: the decoder against its equations, beam search against all texts, what a run leaves."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from PIL import Image

from ch05_rnn import describe
from ch05_rnn.captions import captioning, evaluation
from ch05_rnn.captions.captioning import RESERVED, Config, TokenisedCaptions, caption_loss
from ch05_rnn.captions.network import GRID, Captioner, Encoder, SpatialAttention, add_noise
from ch05_rnn.captions.visualise import DARK, highlight
from ch05_rnn.sentences.encoder_decoder import END, START
from ch05_rnn.sentences.padding import PAD
from common import cli
from common.data.captions.captioned import CaptionSet
from common.data.captions.loading import load_scenes
from common.data.text.vocabulary import Vocabulary
from conftest import train_until
from test_captions_data import put_flickr8k

B, T, V, L, E, H, A = 2, 4, 9, GRID * GRID, 4, 6, 3
D = 5  # three channels and the coordinates


@pytest.fixture(scope="module")
def scenes() -> CaptionSet:
    return load_scenes(limit=60)


@pytest.fixture
def config(options):
    return Config(
        epochs=2,
        batch_size=32,
        feature_size=16,
        embedding_size=8,
        hidden_size=16,
        attention_size=8,
        word_noise=0.1,
        run=options,
    )


def make(attention="additive", words=V) -> Captioner:
    """A small network in float64, without randomness."""
    torch.manual_seed(0)
    sizes = {"feature_size": D - 2, "embedding_size": E, "hidden_size": H, "attention_size": A}
    return Captioner(words, attention=attention, image_size=16, **sizes).double().eval()


@pytest.fixture(params=["additive", "none"])
def model(request) -> Captioner:
    return make(request.param)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(256, (B, 3, 16, 16), generator=generator, dtype=torch.uint8)
    tokens = torch.tensor([[START, 5, 6, 7, END], [START, 8, END, PAD, PAD]], dtype=torch.int32)
    return images, tokens


# The network.


def test_attention_is_a_plain_loop():
    torch.manual_seed(0)
    attention = SpatialAttention(E, H, A, D).double()
    hidden, embedded, grid = (torch.randn(*shape).double() for shape in ((B, H), (B, E), (B, L, D)))
    context, weights = attention(hidden, embedded, grid, attention.additive.U(grid))
    W, b, U, v = *attention.additive.W.parameters(), attention.additive.U.weight, attention.additive.v.weight[0]
    for n in range(B):
        query = torch.tensor([*hidden[n], *embedded[n]])
        e = [v @ torch.tanh(W @ query + b + U @ grid[n, i]) for i in range(L)]
        alpha = [one.exp() / sum(other.exp() for other in e) for one in e]
        beta = 1 / (1 + torch.exp(-(attention.gate.weight[0] @ hidden[n] + attention.gate.bias[0])))
        torch.testing.assert_close(weights[n], torch.stack(alpha))
        torch.testing.assert_close(context[n], beta * sum(alpha[i] * grid[n, i] for i in range(L)))


def test_attention_has_the_gradient_of_finite_differences():
    torch.manual_seed(0)
    attention = SpatialAttention(E, H, A, D).double()
    inputs = [torch.randn(*shape).double().requires_grad_() for shape in ((B, H), (B, E), (B, 4, D))]
    assert torch.autograd.gradcheck(lambda h, y, a: attention(h, y, a, attention.additive.U(a)), inputs)


def sigmoid(x):
    return 1 / (1 + torch.exp(-x))


def test_the_decoder_is_its_equations(model, batch):
    """Teacher forcing against Xu et al. 2015, one image and one word at a time."""
    images, tokens = batch
    logits, weights = model(images, tokens[:, :-1])
    grid = model.encoder(images)
    W_i, b_i, W_h, b_h = (model.cell.weight_ih, model.cell.bias_ih, model.cell.weight_hh, model.cell.bias_hh)
    for n in range(B):
        mean = torch.stack([grid[n, i] for i in range(L)]).sum(0) / L
        h, c = torch.tanh(model.initial.weight @ mean + model.initial.bias).split(H)
        for t in range(T):
            y = model.embedding.weight[tokens[n, t]]
            z = mean
            if model.attention is not None:
                W, b = model.attention.additive.W.weight, model.attention.additive.W.bias
                U, v = model.attention.additive.U.weight, model.attention.additive.v.weight[0]
                alpha = torch.stack(
                    [v @ torch.tanh(W @ torch.cat([h, y]) + b + U @ grid[n, i]) for i in range(L)]
                ).softmax(0)
                torch.testing.assert_close(weights[n, t], alpha)
                beta = sigmoid(model.attention.gate.weight[0] @ h + model.attention.gate.bias[0])
                z = beta * torch.stack([alpha[i] * grid[n, i] for i in range(L)]).sum(0)
            i, f, g, o = (W_i @ torch.cat([y, z]) + b_i + W_h @ h + b_h).split(H)
            c = sigmoid(f) * c + sigmoid(i) * torch.tanh(g)
            h = sigmoid(o) * torch.tanh(c)
            deep = y + model.hidden_output.weight @ h + model.hidden_output.bias + model.context_output.weight @ z
            torch.testing.assert_close(logits[n, t], model.output.weight @ deep + model.output.bias)
    assert (weights is None) == (model.attention is None)


def test_words_are_predicted_without_the_later_ones(model, batch):
    images, tokens = batch
    logits, _ = model(images, tokens[:, :-1])
    changed = tokens.clone()
    changed[:, 2:] = 8
    torch.testing.assert_close(model(images, changed[:, :-1])[0][:, :2], logits[:, :2])
    alone = model(images[1:], tokens[1:, :2])[0]
    torch.testing.assert_close(alone, logits[1:, :2]), "in company as alone"


def test_the_grid_is_the_image_row_by_row():
    """A feature sees the pixels around its own place: the gradient says which."""
    torch.manual_seed(0)
    encoder = Encoder(16, 16).double().eval()
    pixels = torch.full((1, 3, 16, 16), 0.3, dtype=torch.float64, requires_grad=True)
    for row, column in itertools.product((0, 3, 7), repeat=2):
        features = encoder.layers(pixels).flatten(2).transpose(1, 2)[0, GRID * row + column]
        (gradient,) = torch.autograd.grad(features.sum(), pixels)
        seen = gradient[0].abs().sum(0).nonzero().double()
        assert len(seen) > 0
        for place, axis in ((row, 0), (column, 1)):
            assert (seen[:, axis] >= 2 * place - 4).all() and (seen[:, axis] <= 2 * place + 4).all()
    grid = encoder(torch.zeros(1, 3, 16, 16, dtype=torch.uint8))[0]
    torch.testing.assert_close(grid[:, :-2], encoder.layers(-torch.ones(1, 3, 16, 16).double())[0].flatten(1).T)
    for i in range(L):
        expected = torch.tensor([2 * (i // GRID) / (GRID - 1) - 1, 2 * (i % GRID) / (GRID - 1) - 1])
        torch.testing.assert_close(grid[i, -2:], 4 * expected.double(), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("size", "layers"), [(16, 3), (32, 4), (128, 6)])
def test_larger_images_have_the_same_grid(size, layers):
    model = Captioner(
        V, attention="none", image_size=size, feature_size=40, embedding_size=E, hidden_size=H, attention_size=A
    )
    assert model.encoder(torch.zeros(1, 3, size, size, dtype=torch.uint8)).shape == (1, L, 42)
    assert len(model.encoder.layers) == layers


def test_greedy_takes_the_most_probable_word_and_ends(model, batch):
    images, _ = batch
    tokens, weights = model.greedy(images, max_length=5)
    assert tokens.shape[1] <= 5
    begun = torch.cat([torch.full((B, 1), START), tokens[:, :-1]], dim=1)
    logits, expected = model(images, begun)
    assert torch.equal(logits.argmax(2), tokens)
    if weights is not None:
        torch.testing.assert_close(weights, expected)
    with torch.no_grad():
        model.output.bias[END] = 1e4
    assert model.greedy(images, max_length=5)[0].tolist() == [[END]] * B


def test_greedy_decoding_stops_when_every_caption_has_ended(batch, monkeypatch):
    model, ends = make("none"), iter([[1, 0], [0, 1], [0, 0]])

    def step(tokens, state, features):
        logits = torch.zeros(B, V, dtype=torch.float64)
        logits[:, END] = 2 * torch.tensor(next(ends)).double() - 1
        return logits, state, None

    monkeypatch.setattr(model, "step", step)
    assert (model.greedy(batch[0], max_length=9)[0] == END).tolist() == [[True, False], [False, True]]


def test_noise_replaces_words_but_no_reserved_token():
    torch.manual_seed(0)
    tokens = torch.arange(V, dtype=torch.int32).repeat(4_000, 1)
    noisy = add_noise(tokens, 0.4, V)
    assert noisy.dtype == tokens.dtype
    assert torch.equal(noisy[:, : END + 1], tokens[:, : END + 1])
    assert noisy.min() == 0 and noisy[:, END + 1 :].unique().tolist() == list(range(END + 1, V))
    changed = (noisy != tokens)[:, END + 1 :].double().mean(0)
    words = V - END - 1  # a random word can be the same one
    torch.testing.assert_close(changed, torch.full_like(changed, 0.4 * (1 - 1 / words)), atol=0.03, rtol=0)
    assert torch.equal(add_noise(tokens, 0.0, V), tokens)


def test_noise_is_for_training_only(batch):
    model = make()
    model.word_noise = 0.9
    one, other = (model(*batch)[0] for _ in range(2))
    assert torch.equal(one, other)
    model.train()
    assert not torch.equal(model(*batch)[0], one)


# The loss.


def test_the_loss_is_equation_14(batch):
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(B, T, V, generator=generator, dtype=torch.float64)
    weights = torch.rand(B, T, L, generator=generator, dtype=torch.float64)
    targets = batch[1][:, 1:]
    expected = smoothed = 0.0
    for n in range(B):
        real = [t for t in range(T) if targets[n, t] != PAD]
        assert len(real) == (4, 2)[n]
        log_p = [logits[n, t].log_softmax(0) for t in real]
        expected -= sum(float(its[targets[n, t]]) for t, its in zip(real, log_p, strict=True)) / B
        smoothed -= sum(float(its.mean()) for its in log_p) / B
        expected += 0.7 * sum((1 - sum(float(weights[n, t, i]) for t in real)) ** 2 for i in range(L)) / B
    assert float(caption_loss(logits, weights, targets, 0.7)) == pytest.approx(expected, rel=1e-12)
    without = caption_loss(logits, weights, targets, 0.0)
    both = caption_loss(logits, weights, targets, 0.0, smoothing=0.2)
    assert float(both) == pytest.approx(0.8 * float(without) + 0.2 * smoothed, rel=1e-12)
    torch.testing.assert_close(without, caption_loss(logits, None, targets, 0.7))
    once = torch.ones(B, T, L).double() / torch.tensor([4.0, 2]).view(B, 1, 1)  # every place gets attention 1 in all
    torch.testing.assert_close(caption_loss(logits, once, targets, 0.7), without)


@pytest.mark.parametrize("clip", [1e9, 0.1])
def test_step_follows_the_clipped_gradient(batch, monkeypatch, clip):
    monkeypatch.setattr(captioning, "CLIP", clip)
    images, tokens = batch
    model = make().train()
    logits, weights = model(images, tokens[:, :-1])
    loss = caption_loss(logits, weights, tokens[:, 1:], 0.3)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    norm = math.sqrt(sum(float(g.square().sum()) for g in gradients))
    before = [p.detach().clone() for p in model.parameters()]
    returned = captioning.train_step(model, torch.optim.SGD(model.parameters(), lr=0.1), images, tokens, penalty=0.3)
    torch.testing.assert_close(returned, loss.detach().float())
    for old, new, g in zip(before, model.parameters(), gradients, strict=True):
        torch.testing.assert_close(new.detach(), old - 0.1 * g * min(1, clip / norm), rtol=1e-4, atol=1e-6)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.bf16
def test_a_step_in_bfloat16_is_close(batch):
    images, tokens = batch
    losses = []
    for bf16 in (False, True):
        model = make().float()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        losses.append(captioning.train_step(model, optimizer, images, tokens, penalty=0.1, bf16=bf16))
    assert losses[1].dtype == torch.float32
    torch.testing.assert_close(losses[1], losses[0], rtol=0.02, atol=0)


# Captions as tokens.


def test_one_caption_per_image_is_drawn(scenes):
    vocabulary = Vocabulary.build(["x", "y", "z"], reserved=RESERVED)
    split = replace(scenes.train[:3], captions=[["x", "y x"], ["z"], ["x", "y", "z z z"]])
    captions = TokenisedCaptions.of(split, vocabulary)
    assert captions.count.tolist() == [2, 1, 3]
    assert vocabulary.decode(captions.tokens[int(captions.first[2]) + 2]) == ["<start>", "z", "z", "z", "<end>"]
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([captions.draw(generator) for _ in range(600)])
    assert [sorted(set(column.tolist())) for column in drawn.T] == [[0, 1], [2], [3, 4, 5]]
    assert (drawn[:, 2].bincount()[3:] > 150).all(), "each about as often"


# Beam search; its algorithm is tested in test_beam.py.


@pytest.mark.parametrize("width", [2, 5])
def test_a_beam_describes_images_one_by_one_as_together(model, batch, width):
    images = batch[0]
    together = evaluation.beam(model, images, width, max_length=4)
    for n in range(B):
        alone = evaluation.beam(model, images[n : n + 1], width, max_length=4)[0].tolist()
        assert together[n].tolist()[: len(alone)] == alone
        best = max(all_texts_of(model, images[n : n + 1], 2), key=lambda each: each[1])
        wide = evaluation.beam(model, images[n : n + 1], V * V, max_length=2)[0].tolist()
        assert tuple(wide[: len(best[0])]) == best[0], "the features of one image, and its initial state"


def test_the_features_of_an_image_are_repeated_side_by_side(model, batch):
    features, _ = model.encode(batch[0])
    for part, its in zip(features.repeat(3), features, strict=True):
        if its is not None:
            assert all(torch.equal(part[3 * n + k], its[n]) for n in range(B) for k in range(3))


def all_texts_of(model, image, length):
    """Texts of a network's words, with the log-probability of teacher forcing."""
    for size in range(1, length + 1):
        for text in itertools.product(range(V), repeat=size):
            if END in text[:-1] or (size < length and text[-1] != END):
                continue
            with torch.inference_mode():
                log_p = model(image, torch.tensor([[START, *text[:-1]]]))[0][0].log_softmax(1)
            if PAD not in text:
                yield text, float(log_p[range(size), list(text)].sum())


def test_captions_are_decoded_in_parts_up_to_the_end(scenes, config, monkeypatch):
    torch.manual_seed(0)
    vocabulary = Vocabulary.build(["word"], reserved=RESERVED)
    model = captioning.make_model(len(vocabulary), config).train()
    pixels = scenes.test.pixels[:7]
    whole = evaluation.caption(model, vocabulary, pixels, width=1, max_length=4)
    monkeypatch.setattr(evaluation, "IMAGES_AT_ONCE", 3)
    assert evaluation.caption(model, vocabulary, pixels, width=1, max_length=4) == whole
    assert evaluation.caption(model, vocabulary, pixels, width=2, max_length=4)
    assert model.training, "as it was"
    assert evaluation.decode(vocabulary, [4, END, 4]) == "word"
    assert evaluation.decode(vocabulary, [4, 4]) == "word word"


# Measures and baseline.


def test_true_captions_score_one(scenes):
    first = [captions[0] for captions in scenes.test.captions]
    assert evaluation.measure(first, scenes.test) == {"true_rate": 1.0, "bleu": pytest.approx(1.0)}
    half = [text if n % 2 else text.replace("small", "tiny").replace("large", "tiny") for n, text in enumerate(first)]
    measures = evaluation.measure(half, scenes.test)
    assert measures["true_rate"] == 0.5 and 0.5 < measures["bleu"] < 0.95


def test_copied_captions_are_never_true_of_held_out_scenes(scenes):
    assert scenes.held_out is not None
    copied = evaluation.nearest_captions(scenes.held_out.pixels, scenes.train)
    assert set(copied) <= {captions[0] for captions in scenes.train.captions}
    assert evaluation.measure(copied, scenes.held_out)["true_rate"] == 0


def test_the_nearest_image_is_that_of_a_loop(scenes):
    images = scenes.test.pixels[:9]
    distances = [[float((a.double() - b.double()).square().sum()) for b in scenes.train.pixels] for a in images]
    expected = [scenes.train.captions[row.index(min(row))][0] for row in distances]
    assert evaluation.nearest_captions(images, scenes.train) == expected
    own = [captions[0] for captions in scenes.train.captions]
    assert evaluation.nearest_captions(scenes.train.pixels, scenes.train) == own


def test_the_brightest_place_is_where_the_attention_is():
    image = torch.full((3, 32, 32), 255, dtype=torch.uint8)
    alpha = torch.full((2, L), 0.001)
    alpha[0, GRID * 2 + 5] = alpha[1, GRID * 6 + 1] = 0.9
    bright = highlight(image, alpha)
    assert bright.shape == (2, 3, 32, 32) and bright.max() <= 1
    for n, (row, column) in enumerate([(2, 5), (6, 1)]):
        places = (bright[n, 0] > 0.9 * bright[n, 0].max()).nonzero()
        assert ((places // 4) == torch.tensor([row, column])).all()
        assert bright[n].min() == pytest.approx(DARK, abs=0.01)


# The program.


@pytest.mark.parametrize("attention", ["additive", "none"])
def test_one_batch_is_learned_by_heart(scenes, config, attention):
    few = scenes.train[:12]
    few = replace(few, captions=[captions[:1] for captions in few.captions])
    config = replace(config, attention=attention, feature_size=32, hidden_size=48, embedding_size=16)
    vocabulary = Vocabulary.build((w for its in few.captions for w in its[0].split()), reserved=RESERVED)
    torch.manual_seed(0)
    model = captioning.make_model(len(vocabulary), config)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    tokens = TokenisedCaptions.of(few, vocabulary).tokens
    expected = [captions[0] for captions in few.captions]
    train_until(
        lambda: evaluation.caption(model, vocabulary, few.pixels, width=1, max_length=15) == expected,
        lambda: captioning.train_step(model, optimizer, few.pixels, tokens, penalty=0.001),
        at_most=600,
        every=10,
    )


def test_training_repeats_restores_and_describes(config, scenes, capsys, fails, tmp_path, monkeypatch):
    first = captioning.train(config, scenes)
    with monkeypatch.context() as patch:
        patch.setattr(captioning, "report", lambda *_: None)  # once is enough: figures take long
        second = captioning.train(config, scenes)
    measured = ["test_true_rate", "test_bleu", "held_out_true_rate", "held_out_bleu"]
    measured += ["test_nearest_true_rate", "test_nearest_bleu", "held_out_nearest_true_rate", "held_out_nearest_bleu"]
    assert measured == [name for name in first if name not in ("train_seconds", "images_per_second")]
    assert all(first[name] == second[name] for name in measured)
    one, two = (path.parent for path in sorted(config.run.out.rglob("model.safetensors")))
    (model, vocabulary, restored), (other, _, _) = captioning.restore(one), captioning.restore(two)
    assert restored == config
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))
    captions = evaluation.caption(model, vocabulary, scenes.held_out.pixels, width=1, max_length=14)
    rows = [line.split("\t") for line in (one / "held_out_captions.tsv").read_text().splitlines()]
    assert rows[0] == ["verdict", "caption", "reference"]
    assert [row[1] for row in rows[1:]] == captions
    assert {row[0] for row in rows[1:]} <= {"true", "false"}
    for name in ("attention", "curves"):
        assert (one / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    capsys.readouterr()
    out = ["--out", str(config.run.out)]
    describe.main(["--scene", "3", "--beam", "2", "--draw", str(tmp_path / "seen.png"), *out])
    output = capsys.readouterr().out
    lines = dict(line.split(maxsplit=1) for line in output.splitlines())
    assert set(lines) == {"saved", "caption", "scene", "true"} and lines["true"] in ("yes", "no")
    assert lines["scene"].count(" at (") == 2
    assert (tmp_path / "seen.png").read_bytes()[:4] == b"\x89PNG"
    Image.new("RGB", (50, 40), (9, 9, 9)).save(tmp_path / "grey.jpg")
    describe.main(["--image", str(tmp_path / "grey.jpg"), *out])
    assert capsys.readouterr().out.startswith("caption  "), "nobody can tell whether it is true"
    assert "no.jpg does not exist" in fails(describe.main, ["--image", "no.jpg", *out])
    assert "has no finished run" in fails(describe.main, ["--scene", "1", "--out", str(one)])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give --image FILE or --scene SEED, got neither"),
        (["--scene", "1", "--image", "a.png"], "give --image FILE or --scene SEED, got image and scene"),
        (["--scene", "-1"], "--scene must be a seed of at least 0, got -1"),
        (["--scene", "1", "--beam", "0"], "--beam must be a number above 0, got 0"),
    ],
)
def test_what_cannot_be_described_is_one_line(fails, words, message):
    assert message in fails(describe.main, words)


def test_a_picture_of_attention_needs_attention(config, scenes, fails, tmp_path):
    captioning.train(replace(config, attention="none", epochs=1), scenes)
    (folder,) = (path.parent for path in config.run.out.rglob("model.safetensors"))
    assert not (folder / "attention.png").exists()
    words = ["--scene", "1", "--draw", str(tmp_path / "no.png"), "--folder", str(folder)]
    assert "--draw needs a model with attention" in fails(describe.main, words)
    assert not (tmp_path / "no.png").exists()


def test_an_interrupted_run_ends_with_the_same_weights(config, scenes, monkeypatch):
    monkeypatch.setattr(captioning, "report", lambda *_: None)
    captioning.train(config, scenes)
    whole = max(config.run.out.rglob("model.safetensors"), key=lambda path: path.stat().st_mtime_ns).read_bytes()
    steps, step = [], captioning.train_step

    def interrupted(*arguments, **named):
        steps.append(1)
        if len(steps) == 4:  # of two an epoch: in the second one
            raise KeyboardInterrupt
        return step(*arguments, **named)

    monkeypatch.setattr(captioning, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        captioning.train(config, scenes)
    monkeypatch.setattr(captioning, "train_step", step)
    captioning.train(replace(config, run=replace(config.run, resume=True)), scenes)
    newest = max(config.run.out.rglob("model.safetensors"), key=lambda path: path.stat().st_mtime_ns)
    assert newest.read_bytes() == whole


def test_choices_are_made_without_the_test_splits(config, scenes, monkeypatch):
    monkeypatch.setattr(captioning, "report", lambda *_: None)
    other = replace(scenes, test=scenes.valid[:4], held_out=scenes.valid[4:8])
    for data in (scenes, other):
        captioning.train(replace(config, epochs=1), data)
    one, two = (path.read_bytes() for path in config.run.out.rglob("model.safetensors"))
    assert one == two


def test_photographs_are_captioned(config, fails, tmp_path):
    put_flickr8k()
    photographs = Config(data="flickr8k", image_size=16, minimum_count=2, run=config.run)
    assert (photographs.hidden_size, photographs.dropout) == (512, 0.5)
    small = {name: getattr(config, name) for name in ("feature_size", "embedding_size", "hidden_size")}
    metrics = captioning.train(replace(photographs, **small, epochs=1, batch_size=4, beam=2))
    assert {"test_bleu", "test_nearest_bleu"} <= metrics.keys()
    assert not any("true_rate" in name or "held_out" in name for name in metrics)
    (path,) = config.run.out.rglob("test_captions.tsv")
    assert [line.split("\t")[0] for line in path.read_text().splitlines()] == ["verdict", "unknown", "unknown"]
    assert not list(config.run.out.rglob("held_out*"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--image-size", "33"], "--image-size must be one of [16, 32, 64, 128, 256, 512], got 33"),
        (["--attention-penalty", "-1"], "--attention-penalty must be a number of at least 0, got -1"),
        (["--dropout", "1"], "--dropout must be at least 0 and below 1, got 1"),
        (["--label-smoothing", "-0.1"], "--label-smoothing must be at least 0 and below 1, got -0.1"),
        (["--word-noise", "1"], "--word-noise must be at least 0 and below 1, got 1"),
        (["--beam", "0"], "--beam must be a number above 0, got 0"),
        (["--attention", "dot"], "invalid choice 'dot'"),
        (["--data", "flickr8k"], "flickr8k does not exist: put Flickr8k's Images/ and captions.txt there"),
    ],
)
def test_a_mistake_is_one_line(fails, tmp_path, words, message):
    assert message in fails(cli.main, captioning, arguments=["captioning", *words, "--out", str(tmp_path)])


def test_settings_follow_the_data():
    assert (Config().image_size, Config(data="flickr8k").image_size) == (32, 128)
    assert (Config().label_smoothing, Config(data="flickr8k").label_smoothing) == (0.1, 0)
    assert Config(data="flickr8k", hidden_size=7).hidden_size == 7
