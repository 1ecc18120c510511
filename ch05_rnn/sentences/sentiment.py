"""Sentiment classification of sentences: a bidirectional LSTM compared with a bag-of-words baseline.

    python -m ch05_rnn.train sentiment
    python -m ch05_rnn.train sentiment --data grammar                        # synthetic: word order matters
    python -m ch05_rnn.train sentiment --vectors glove-6b-50d --freeze       # pre-trained word vectors

Both models are trained on the same batches with the same learning rate.

Dimensions: N sentences, B batch, T length of the longest sentence, E embedding size, H hidden units per direction,
V vocabulary size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch05_rnn.sentences.padding import PAD, batch_count, batches_by_length, pad, run_packed
from common import distributed
from common.benchmark import Workload
from common.config import RunOptions, default_by, fill_defaults, read_config, require, require_positive
from common.data.text.sentences import CLASS_NAMES, KINDS, Sentences, SentenceSet, ceiling, load_sentences
from common.data.text.vector_files import GLOVE_SIZE, load_glove
from common.data.text.vocabulary import UNKNOWN, Vocabulary
from common.progress import print_table, say
from common.run import Run, load_weights
from common.schedule import one_cycle_at, set_learning_rate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLIP = 1.0
"""Maximum gradient norm; larger gradients are rescaled."""


@dataclass(frozen=True)
class Config:
    """Hyperparameters of both classifiers."""

    data: Literal["auto", "sst-2", "grammar"] = "auto"
    """Data set; auto takes SST-2 if it is on disk or can be downloaded, else the embedded sentences of a grammar."""
    epochs: int | None = None
    """Number of epochs. Default: 4, or on small data sets as many as give 1,500 steps."""
    batch_size: int = 64
    """Batch size in sentences, over all processes."""
    learning_rate: float = 3e-3
    """Peak learning rate of Adam (one-cycle schedule)."""
    vectors: Literal["none", "glove-6b-50d"] = "none"
    """Initial word embeddings: random, or the pre-trained vectors of GloVe 6B (zero for words that it lacks)."""
    freeze: bool = False
    """Keep the pre-trained embeddings as they are, instead of training them with the other weights."""
    embedding_size: int = default_by("vectors", **{"none": 64, "glove-6b-50d": 50})
    """Embedding size. Default: 64, with pre-trained vectors 50."""
    hidden_size: int = 64
    """Hidden units per direction of the LSTM; the hidden layer of the bag of words has twice as many."""
    dropout: float = 0.3
    """Dropout probability, after the embedding and before the output layer."""
    minimum_count: int = 2
    """Minimum count of a word in the training set; rarer words become <unknown>."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1, precision="fp32"))

    def __post_init__(self) -> None:
        fill_defaults(self)
        pretrained = self.vectors != "none"
        require(pretrained or not self.freeze, "--freeze keeps pre-trained vectors: give --vectors too", self.vectors)
        fits = not pretrained or self.embedding_size == GLOVE_SIZE
        require(fits, f"--embedding-size must be {GLOVE_SIZE} with --vectors {self.vectors}", self.embedding_size)
        require_positive(self, "epochs", "batch_size", "learning_rate", "embedding_size", "hidden_size")
        require_positive(self, "minimum_count")
        require(0 <= self.dropout < 1, "--dropout must be at least 0 and below 1", self.dropout)


class BiLSTM(nn.Module):
    """Bidirectional LSTM (Schuster & Paliwal 1997) with a linear layer on the final states of both directions."""

    def __init__(self, words: int, config: Config) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, config.embedding_size, padding_idx=PAD)
        self.dropout = nn.Dropout(config.dropout)
        self.lstm = nn.LSTM(config.embedding_size, config.hidden_size, batch_first=True, bidirectional=True)
        self.output = nn.Linear(2 * config.hidden_size, len(CLASS_NAMES))

    def forward(self, words: Tensor, lengths: Tensor) -> Tensor:
        """(B, T) words, (B,) lengths -> (B, 2) logits"""
        output = run_packed(self.lstm, self.dropout(self.embedding(words)), lengths)
        return self.output(self.dropout(output.hidden))


class BagOfWords(nn.Module):
    """Baseline without word order: the mean of the word embeddings, then a network with one hidden layer."""

    def __init__(self, words: int, config: Config) -> None:
        super().__init__()
        hidden = 2 * config.hidden_size
        self.bag = nn.EmbeddingBag(words, config.embedding_size, mode="mean", padding_idx=PAD)
        self.layers = nn.Sequential(
            nn.Dropout(config.dropout),
            nn.Linear(config.embedding_size, hidden),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(hidden, len(CLASS_NAMES)),
        )

    def forward(self, words: Tensor, lengths: Tensor) -> Tensor:  # noqa: ARG002  # same signature as BiLSTM
        """(B, T) words, (B,) lengths -> (B, 2) logits"""
        return self.layers(self.bag(words))


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    words: Tensor,
    lengths: Tensor,
    labels: Tensor,
    *,
    bf16: bool = False,
) -> Tensor:
    """Take one gradient step; return the loss, still on the device."""
    with torch.autocast(words.device.type, torch.bfloat16, enabled=bf16):
        logits = model(words, lengths)
    loss = F.cross_entropy(logits.float(), labels)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


def make_optimizer(model: nn.Module, config: Config) -> torch.optim.Optimizer:
    """Adam (Kingma & Ba 2015), all parameters in one fused step."""
    return torch.optim.Adam(model.parameters(), config.learning_rate, fused=True)


def initialise_embeddings(tables: Sequence[nn.Embedding | nn.EmbeddingBag], words: Vocabulary, *, freeze: bool) -> None:
    """Set embeddings to GloVe's vectors, or zero for the words that it lacks; leave them out of training if frozen."""
    found, source = load_glove(only=set(words.symbols))
    say("vectors", f"GloVe 6B: {len(found.words):,} of {len(words):,} words, {source}")
    weight = torch.zeros(len(words), GLOVE_SIZE)
    weight[[words.index[word] for word in found.words]] = found.vectors
    for table in tables:
        with torch.no_grad():
            table.weight.copy_(weight)
        table.weight.requires_grad_(not freeze)


def encode(vocabulary: Vocabulary, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """N sentences -> (N, T) words, (N,) lengths"""
    return pad([vocabulary.encode(text.split()) for text in texts])


@torch.inference_mode()
def predict(model: nn.Module, vocabulary: Vocabulary, texts: Sequence[str]) -> Tensor:
    """N sentences -> (N, 2) logits on the CPU"""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    words, lengths = encode(vocabulary, texts)
    logits = torch.empty(len(texts), len(CLASS_NAMES))
    for index in lengths.argsort().split(1_000):
        size = lengths[index]
        logits[index] = model(words[index, : size.max()].to(device), size).float().cpu()
    model.train(was_training)
    return logits


def measure(logits: Tensor, split: Sentences) -> dict[str, float]:
    """Compute the accuracy, the cross-entropy in nats per sentence, and the accuracy per kind if kinds are known."""
    labels = torch.tensor(split.labels)
    correct = (logits.argmax(1) == labels).float()
    measures = {"accuracy": float(correct.mean()), "loss": float(F.cross_entropy(logits, labels))}
    return measures | {f"{kind}_accuracy": float(correct[places].mean()) for kind, places in by_kind(split).items()}


def by_kind(split: Sentences) -> dict[str, list[int]]:
    """Return the indices of the sentences of each kind; empty if no kinds are known."""
    return {kind: [n for n, its in enumerate(split.kinds) if its == kind] for kind in KINDS if kind in split.kinds}


def train(config: Config, data: SentenceSet | None = None) -> dict[str, float]:
    """Train both classifiers and return their test metrics."""
    data = data or load_sentences(config.data, limit=config.run.limit)
    vocabulary = Vocabulary.build(
        (word for text in data.train.texts for word in text.split()),
        minimum_count=config.minimum_count,
        reserved=("<pad>", UNKNOWN),
    )
    words, lengths = encode(vocabulary, data.train.texts)
    labels = torch.tensor(data.train.labels)
    with Run.open(__name__, config, data.card) as run:
        words, labels = words.to(run.device), labels.to(run.device)
        models = {
            "bilstm": BiLSTM(len(vocabulary), config).to(run.device),
            "bag": BagOfWords(len(vocabulary), config).to(run.device),
        }
        if config.vectors != "none":
            tables = [models["bilstm"].embedding, models["bag"].bag]
            initialise_embeddings(tables, vocabulary, freeze=config.freeze)
        parallel = {name: distributed.wrap(model) for name, model in models.items()}
        optimizers = {name: make_optimizer(model, config) for name, model in models.items()}
        steps = batch_count(len(words), config.batch_size)
        epochs = config.epochs or max(4, 1_500 // steps)
        parts = {f"{name}_model": models[name] for name in models}
        parts |= {f"{name}_optimizer": optimizers[name] for name in models}
        for epoch in run.epochs(epochs, steps, **parts):
            batches = batches_by_length(lengths, config.batch_size, run.generator)
            for step, index in enumerate(batches, start=(epoch - 1) * steps):
                index = distributed.shard(index)
                size = lengths[index]
                batch = words[index, : size.max()], size, labels[index]
                losses = {}
                for name, optimizer in optimizers.items():
                    set_learning_rate(optimizer, one_cycle_at(step / (epochs * steps), config.learning_rate))
                    losses[name] = train_step(parallel[name], optimizer, *batch, bf16=run.bf16)
                run.step(losses["bilstm"], sentences=len(index))
            valid = {name: measure(predict(models[name], vocabulary, data.valid.texts), data.valid) for name in models}
            run.log(valid={"accuracy": valid["bilstm"]["accuracy"], "bag_accuracy": valid["bag"]["accuracy"]})
        logits = {name: predict(models[name], vocabulary, data.test.texts) for name in models}
        measures = {f"test_{name}": measure(logits[name], data.test) for name in models}
        if kinds := by_kind(data.test):
            bounds = {f"{kind}_accuracy": ceiling([kind]) for kind in kinds}
            measures["test_any_bag"] = {"accuracy": ceiling(data.test.kinds), **bounds}
        run.save(models["bilstm"])
        if run.is_main:
            vocabulary.save(run.folder / "vocabulary.json")
            report(run, data.test, models["bilstm"].eval(), vocabulary, logits["bilstm"], measures)
        return run.finish(**measures)


def report(
    run: Run, test: Sentences, model: BiLSTM, vocabulary: Vocabulary, logits: Tensor, measures: dict[str, dict]
) -> None:
    """Print the accuracies; write the misclassified sentences; draw predictions after each word, and the curves."""
    from common.drawing import plots

    columns = [name for name in measures["test_bilstm"] if name.endswith("accuracy")]
    headings = ["", *(name.removesuffix("_accuracy").replace("accuracy", "all") for name in columns)]
    names = {"test_bilstm": "BiLSTM", "test_bag": "bag of words", "test_any_bag": "bound for bags of words"}
    rows = [[names[name], *(f"{100 * its[column]:.2f}" for column in columns)] for name, its in measures.items()]
    print_table(headings, rows, title="test accuracy, %")
    labels = torch.tensor(test.labels)
    losses = F.cross_entropy(logits, labels, reduction="none")
    wrong = (logits.argmax(1) != labels).nonzero().flatten()
    worst = wrong[losses[wrong].argsort(descending=True)].tolist()
    with run.writing("mistakes.tsv") as path:
        lines = (f"{losses[n]:.3f}\t{CLASS_NAMES[test.labels[n]]}\t{test.kinds[n]}\t{test.texts[n]}" for n in worst)
        path.write_text("\n".join(["loss\tlabel\tkind\tsentence", *lines, ""]), encoding="utf-8")
    shown = [places[0] for places in by_kind(test).values()] or range(min(6, len(test)))
    run.figure("reading", draw_prefix_predictions(model, vocabulary, [test.texts[n] for n in shown]))
    panels = {"loss": ["train_loss"], "accuracy": ["valid_accuracy", "valid_bag_accuracy"]}
    run.figure("curves", plots.curves(run.history, panels))


def draw_prefix_predictions(model: BiLSTM, vocabulary: Vocabulary, texts: Sequence[str]) -> "Figure":
    """Draw the probability of the positive class after each word of a sentence."""
    from common.drawing import text_plots

    sentences, p = [text.split() for text in texts], []
    for words in sentences:
        prefixes = [" ".join(words[: n + 1]) for n in range(len(words))]
        p.append(predict(model, vocabulary, prefixes).softmax(1)[:, 1])
    return text_plots.shaded_words(sentences, p, label="P(positive)")


def restore(folder: Path) -> tuple[BiLSTM, Vocabulary, Config]:
    """Load a trained BiLSTM, its vocabulary and its Config from a run folder."""
    config = read_config(folder, Config)
    vocabulary = Vocabulary.load(folder / "vocabulary.json")
    model = BiLSTM(len(vocabulary), config)
    load_weights(model, folder)
    return model.eval(), vocabulary, config


def workload(config: Config, device: torch.device) -> Workload:
    """The BiLSTM's training step on random words, for the device benchmark."""
    words = torch.randint(PAD + 1, 1_000, (config.batch_size, 12), dtype=torch.int32, device=device)
    labels = torch.randint(len(CLASS_NAMES), (config.batch_size,), device=device)
    model = BiLSTM(1_000, config).to(device)
    optimizer = make_optimizer(model, config)
    lengths = torch.full((config.batch_size,), 12)
    step = partial(train_step, model, optimizer, words, lengths, labels, bf16=config.run.precision == "bf16")
    return Workload(step, items=config.batch_size, unit="sentences")
