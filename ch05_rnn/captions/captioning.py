"""Image captioning: a convolutional encoder and an LSTM decoder with spatial attention (Xu et al. 2015).

    python -m ch05_rnn.train captioning
    python -m ch05_rnn.train captioning --attention none     # the decoder gets the mean of the features
    python -m ch05_rnn.train captioning --data flickr8k      # photographs, from DATA_DIR/flickr8k

The embedded data set consists of generated scenes with two objects. A caption of a scene can be checked for truth. The
held-out test scenes have combinations of colour and shape that do not occur in training.

Dimensions: N images, M captions, B batch, S image size, T words, L positions of the grid, V vocabulary size.
"""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch05_rnn.captions.evaluation import caption, measure, nearest_captions, truth
from ch05_rnn.captions.network import GRID, Captioner
from ch05_rnn.captions.visualise import draw_attention
from ch05_rnn.sentences.padding import PAD, batch_count, pad
from common import distributed
from common.benchmark import Workload
from common.config import RunOptions, default_by, fill_defaults, read_config, require, require_positive
from common.data.batches import Batches
from common.data.captions.captioned import CaptionedImages, CaptionSet
from common.data.captions.loading import load_captions
from common.data.text.vocabulary import UNKNOWN, Vocabulary
from common.progress import print_table
from common.run import Run, load_weights
from common.schedule import one_cycle_at, set_learning_rate

RESERVED = ("<pad>", UNKNOWN, "<start>", "<end>")
CLIP = 5.0
"""Maximum gradient norm; larger gradients are rescaled."""


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the captioner."""

    data: Literal["scenes", "flickr8k"] = "scenes"
    """Data set: generated scenes, or Flickr8k in DATA_DIR/flickr8k."""
    attention: Literal["additive", "none"] = "additive"
    """Attention mechanism; with none the decoder gets the mean of the features at every step."""
    attention_penalty: float = 0.0
    """Weight of the doubly stochastic regularisation."""
    epochs: int = default_by("data", scenes=12, flickr8k=20)
    """Number of epochs. Default: 12 for scenes, 20 for flickr8k."""
    batch_size: int = 64
    """Batch size in images, over all processes."""
    learning_rate: float = 3e-3
    """Peak learning rate of Adam (one-cycle schedule)."""
    image_size: int = default_by("data", scenes=32, flickr8k=128)
    """Height and width of the images. Default: 32 for scenes, 128 for flickr8k."""
    feature_size: int = default_by("data", scenes=128, flickr8k=256)
    """Channels of the grid of features. Default: 128 for scenes, 256 for flickr8k."""
    embedding_size: int = default_by("data", scenes=64, flickr8k=256)
    """Embedding size of the words. Default: 64 for scenes, 256 for flickr8k."""
    hidden_size: int = default_by("data", scenes=128, flickr8k=512)
    """Hidden units of the decoder. Default: 128 for scenes, 512 for flickr8k."""
    attention_size: int = default_by("data", scenes=32, flickr8k=256)
    """Hidden units of the attention's score. Default: 32 for scenes, 256 for flickr8k."""
    dropout: float = default_by("data", scenes=0.0, flickr8k=0.5)
    """Dropout probability before the output layers. Default: 0 for scenes, 0.5 for flickr8k."""
    minimum_count: int = default_by("data", scenes=1, flickr8k=5)
    """Minimum count of a word in the training captions; rarer words become <unknown>. Default: 1 for scenes, 5 for
    flickr8k."""
    word_noise: float = default_by("data", scenes=0.1, flickr8k=0.0)
    """Probability that an input word is replaced by a random word in training. Default: 0.1 for scenes, 0 for
    flickr8k."""
    label_smoothing: float = default_by("data", scenes=0.1, flickr8k=0.0)
    """Probability that is moved from the true word to all words alike. Default: 0.1 for scenes, 0 for flickr8k."""
    beam: int = 1
    """Beam width for the captions of the test images; 1 decodes greedily."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1, precision="fp32"))

    def __post_init__(self) -> None:
        fill_defaults(self)
        require_positive(self, "epochs", "batch_size", "learning_rate", "feature_size", "embedding_size")
        require_positive(self, "hidden_size", "attention_size", "minimum_count", "beam")
        doublings = [GRID << number for number in range(1, 7)]
        require(self.image_size in doublings, f"--image-size must be one of {doublings}", self.image_size)
        require(0 <= self.dropout < 1, "--dropout must be at least 0 and below 1", self.dropout)
        smooth = 0 <= self.label_smoothing < 1
        require(smooth, "--label-smoothing must be at least 0 and below 1", self.label_smoothing)
        require(0 <= self.word_noise < 1, "--word-noise must be at least 0 and below 1", self.word_noise)
        finite = 0 <= self.attention_penalty < float("inf")
        require(finite, "--attention-penalty must be a number of at least 0", self.attention_penalty)


@dataclass(frozen=True)
class TokenisedCaptions:
    """Captions of the training images as tokens, from <start> to <end>."""

    tokens: Tensor
    """(M, T) int32, padded"""
    first: Tensor
    """(N,) place of each image's first caption"""
    count: Tensor
    """(N,) number of captions of each image"""

    @classmethod
    def of(cls, split: CaptionedImages, vocabulary: Vocabulary) -> "TokenisedCaptions":
        """Tokenise all captions of a split."""
        rows = [["<start>", *text.split(), "<end>"] for texts in split.captions for text in texts]
        count = torch.tensor([len(texts) for texts in split.captions])
        return cls(pad([vocabulary.encode(row) for row in rows])[0], count.cumsum(0) - count, count)

    def draw(self, generator: torch.Generator) -> Tensor:
        """Draw one caption per image: (N,) places in the tokens."""
        return self.first + (torch.rand(len(self.first), generator=generator) * self.count).long()


def caption_loss(
    logits: Tensor, weights: Tensor | None, targets: Tensor, penalty: float, smoothing: float = 0.0
) -> Tensor:
    """(B, T, V) logits, (B, T, L) attention weights, (B, T) targets -> loss in nats per caption

    The mean over the batch of -log p(y) + lambda sum_i (1 - sum_t alpha_ti)^2 (Xu et al. 2015, equation 14). The second
    term is small if the attention to every position of the grid adds up to about 1 over the caption.
    """
    losses = F.cross_entropy(
        logits.transpose(1, 2), targets.long(), ignore_index=PAD, label_smoothing=smoothing, reduction="none"
    )  # (B, T)
    loss = losses.sum(dim=1).mean()
    if weights is not None and penalty > 0:
        real = (targets != PAD).unsqueeze(2)
        loss = loss + penalty * (1 - (weights * real).sum(dim=1)).square().sum(dim=1).mean()
    return loss


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    tokens: Tensor,
    *,
    penalty: float = 0.0,
    smoothing: float = 0.0,
    bf16: bool = False,
) -> Tensor:
    """Take one gradient step on (B, 3, S, S) images and (B, T) tokens from <start> to <end>; return the loss.

    Teacher forcing: the decoder predicts word t from the true words up to t - 1.
    """
    with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
        logits, weights = model(images, tokens[:, :-1])
    loss = caption_loss(logits.float(), None if weights is None else weights.float(), tokens[:, 1:], penalty, smoothing)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


def make_model(words: int, config: Config) -> Captioner:
    """Build the network for a vocabulary of this size."""
    return Captioner(
        words,
        attention=config.attention,
        image_size=config.image_size,
        feature_size=config.feature_size,
        embedding_size=config.embedding_size,
        hidden_size=config.hidden_size,
        attention_size=config.attention_size,
        dropout=config.dropout,
        word_noise=config.word_noise,
    )


def make_optimizer(model: nn.Module, config: Config) -> torch.optim.Optimizer:
    """Adam (Kingma & Ba 2015), all parameters in one fused step."""
    return torch.optim.Adam(model.parameters(), config.learning_rate, fused=True)


def train(config: Config, data: CaptionSet | None = None) -> dict[str, float]:
    """Train the captioner and return its test metrics."""
    data = data or load_captions(config.data, size=config.image_size, limit=config.run.limit)
    vocabulary = Vocabulary.build(
        (word for texts in data.train.captions for text in texts for word in text.split()),
        minimum_count=config.minimum_count,
        reserved=RESERVED,
    )
    captions = TokenisedCaptions.of(data.train, vocabulary)
    max_length = captions.tokens.shape[1] - 1  # the words of the longest caption and its end
    describe = partial(caption, vocabulary=vocabulary, max_length=max_length)
    with Run.open(__name__, config, data.card) as run:
        pixels, tokens = data.train.pixels.to(run.device), captions.tokens.to(run.device)
        model = make_model(len(vocabulary), config).to(run.device)
        parallel = distributed.wrap(model)
        optimizer = make_optimizer(model, config)
        places = torch.arange(len(pixels))
        steps = batch_count(len(pixels), config.batch_size)
        for epoch in run.epochs(config.epochs, steps, model=model, optimizer=optimizer):
            drawn = captions.draw(run.generator)
            batches = Batches(places, drawn, batch_size=config.batch_size, generator=run.generator, device=run.device)
            for step, (image, text) in enumerate(batches, start=(epoch - 1) * steps):
                set_learning_rate(optimizer, one_cycle_at(step / (config.epochs * steps), config.learning_rate))
                batch = pixels[image], tokens[text]
                loss = train_step(
                    parallel,
                    optimizer,
                    *batch,
                    penalty=config.attention_penalty,
                    smoothing=config.label_smoothing,
                    bf16=run.bf16,
                )
                run.step(loss, images=len(image))
            run.log(valid=measure(describe(model, pixels=data.valid.pixels, width=1), data.valid))
        tests = {"test": data.test} | ({} if data.held_out is None else {"held_out": data.held_out})
        outputs = {name: describe(model, pixels=split.pixels, width=config.beam) for name, split in tests.items()}
        measures = {name: measure(outputs[name], split) for name, split in tests.items()}
        for name, split in tests.items():
            measures[f"{name}_nearest"] = measure(nearest_captions(split.pixels, data.train), split)
        run.save(model)
        if run.is_main:
            vocabulary.save(run.folder / "vocabulary.json")
            report(run, tests, model.eval(), vocabulary, outputs, max_length)
        return run.finish(**measures)


def report(
    run: Run,
    tests: dict[str, CaptionedImages],
    model: Captioner,
    vocabulary: Vocabulary,
    outputs: dict[str, list[str]],
    max_length: int,
) -> None:
    """Write all captions; print some; draw the attention word by word, and the curves."""
    from common.drawing import plots

    for name, split in tests.items():
        verdicts = ["true" if its else "false" for its in truth(outputs[name], split)] if split.scenes else None
        with run.writing(f"{name}_captions.tsv") as path:
            rows = zip(verdicts or ["unknown"] * len(split), outputs[name], split.captions, strict=True)
            lines = (f"{verdict}\t{ours}\t{theirs[0]}" for verdict, ours, theirs in rows)
            path.write_text("\n".join(["verdict\tcaption\treference", *lines, ""]), encoding="utf-8")
    name, split = list(tests.items())[-1]
    shown = [(ours, theirs[0]) for ours, theirs in zip(outputs[name][:6], split.captions, strict=False)]
    print_table(["caption", "one of the references"], shown, title=f"{name.replace('_', ' ')} images")
    if model.attention is not None:
        run.figure("attention", draw_attention(model, vocabulary, split.pixels[:4], max_length))
    measures = [key.removeprefix("valid_") for key in run.history[-1] if key.startswith("valid_")]
    panels = {"loss": ["train_loss"]} | {measure.replace("_", " "): [f"valid_{measure}"] for measure in measures}
    run.figure("curves", plots.curves(run.history, panels))


def restore(folder: Path) -> tuple[Captioner, Vocabulary, Config]:
    """Load a trained network, its vocabulary and its Config from a run folder."""
    config = read_config(folder, Config)
    vocabulary = Vocabulary.load(folder / "vocabulary.json")
    model = make_model(len(vocabulary), config)
    load_weights(model, folder)
    return model.eval(), vocabulary, config


def workload(config: Config, device: torch.device) -> Workload:
    """Training step on random images and captions of 14 words, for the device benchmark."""
    size = config.image_size
    images = torch.randint(256, (config.batch_size, 3, size, size), dtype=torch.uint8, device=device)
    tokens = torch.randint(PAD + 1, 40, (config.batch_size, 15), dtype=torch.int32, device=device)
    model = make_model(40, config).to(device)
    optimizer = make_optimizer(model, config)
    bf16 = config.run.precision == "bf16"
    step = partial(train_step, model, optimizer, images, tokens, penalty=config.attention_penalty, bf16=bf16)
    return Workload(step, items=config.batch_size, unit="images")
