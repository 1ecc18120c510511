"""Sentiment classification of sentences: bidirectional LSTM or TextCNN, compared with bags of words and n-grams.

    python -m ch05_rnn.train sentiment
    python -m ch05_rnn.train sentiment --network textcnn                     # convolutions over word vectors
    python -m ch05_rnn.train sentiment --data grammar                        # synthetic: word order matters
    python -m ch05_rnn.train sentiment --vectors glove-6b-50d                # start from pre-trained word vectors
    python -m ch05_rnn.train sentiment --vectors glove-6b-50d --freeze       # and do not change them

The network and the bag of words are trained on the same batches; of each the epoch with the fewest errors on the
validation set is kept. The penalty of the logistic regression on n-grams is selected in the same way.

Dimensions: N sentences, B batch, T length of the longest sentence, V vocabulary size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch05_rnn.sentences.classifiers import BagOfWords, BiLSTM, encode, predict, selection_error
from ch05_rnn.sentences.explanation import draw_contributions, draw_ngrams, draw_prefix_predictions, winning_ngrams
from ch05_rnn.sentences.ngram_regression import NgramRegression
from ch05_rnn.sentences.padding import PAD, batch_count, batches_by_length
from ch05_rnn.sentences.textcnn import TextCNN, limit_norms
from common import distributed
from common.benchmark import Workload
from common.best_weights import BestWeights
from common.config import RunOptions, default_by, fill_defaults, read_config, require, require_positive
from common.data.text.sentences import CLASS_NAMES, KINDS, Sentences, SentenceSet, ceiling, load_sentences
from common.data.text.vocabulary import UNKNOWN, Vocabulary
from common.data.words.vector_files import GLOVE_SIZE, VectorFile, load_glove
from common.progress import print_table, say
from common.run import Run, load_weights
from common.schedule import one_cycle_at, set_learning_rate

CLIP = 1.0
"""Maximum gradient norm; larger gradients are rescaled."""
BAG_DROPOUT = 0.3
"""Dropout probability of the bag of words, whatever the network: after the mean and before the output layer."""
SHORT = 12
"""Maximum number of words of the sentences in the figures."""
EXPLAINED = 500
"""Number of test sentences whose n-grams are compared in a figure."""
NAMES = {"bilstm": "BiLSTM", "textcnn": "TextCNN"}

SentimentNetwork = BiLSTM | TextCNN


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the sentence classifiers."""

    network: Literal["bilstm", "textcnn"] = "bilstm"
    """Network: a bidirectional LSTM, or a convolutional network with the maximum over time."""
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
    embedding_size: int = GLOVE_SIZE
    """Embedding size; with pre-trained vectors it must be 50."""
    hidden_size: int = 64
    """Hidden units per direction of the LSTM; the hidden layer of the bag of words has twice as many."""
    widths: tuple[int, ...] = (3, 4, 5)
    """Widths of the filters of TextCNN, in words."""
    filters: int = 100
    """Number of filters of each width."""
    max_norm: float = 3.0
    """Maximum norm of the weight vector of each class in the output layer of TextCNN."""
    dropout: float = default_by("network", bilstm=0.3, textcnn=0.5)
    """Dropout probability of the network: of the LSTM after the embedding and before the output layer, of TextCNN's
    features. Default: 0.3, for TextCNN 0.5."""
    minimum_count: int = 2
    """Minimum count of a word in the training set; rarer words become <unknown> unless they have a pre-trained
    vector."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1, precision="fp32"))

    def __post_init__(self) -> None:
        fill_defaults(self)
        pretrained = self.vectors != "none"
        require(pretrained or not self.freeze, "--freeze keeps pre-trained vectors: give --vectors too", self.vectors)
        fits = not pretrained or self.embedding_size == GLOVE_SIZE
        require(fits, f"--embedding-size must be {GLOVE_SIZE} with --vectors {self.vectors}", self.embedding_size)
        require_positive(self, "epochs", "batch_size", "learning_rate", "embedding_size", "hidden_size")
        require_positive(self, "widths", "filters", "max_norm", "minimum_count")
        distinct = len(set(self.widths)) == len(self.widths) > 0
        require(distinct, "--widths must be one or more different widths", " ".join(map(str, self.widths)) or "none")
        require(0 <= self.dropout < 1, "--dropout must be at least 0 and below 1", self.dropout)


def make_network(words: int, config: Config) -> SentimentNetwork:
    """Build the network for a vocabulary of this size."""
    if config.network == "textcnn":
        return TextCNN(
            words,
            widths=config.widths,
            filters=config.filters,
            embedding_size=config.embedding_size,
            dropout=config.dropout,
        )
    return BiLSTM(words, embedding_size=config.embedding_size, hidden_size=config.hidden_size, dropout=config.dropout)


def make_bag(words: int, config: Config) -> BagOfWords:
    """Build the bag of words for a vocabulary of this size."""
    hidden_size = 2 * config.hidden_size
    return BagOfWords(words, embedding_size=config.embedding_size, hidden_size=hidden_size, dropout=BAG_DROPOUT)


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    words: Tensor,
    lengths: Tensor,
    labels: Tensor,
    *,
    limited: Tensor | None = None,
    max_norm: float = 3.0,
    bf16: bool = False,
) -> Tensor:
    """Take one gradient step; return the loss, still on the device.

    After the step the rows of the weight matrix `limited`, if given, are rescaled to at most `max_norm`.
    """
    with torch.autocast(words.device.type, torch.bfloat16, enabled=bf16):
        logits = model(words, lengths)
    loss = F.cross_entropy(logits.float(), labels)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    optimizer.step()
    optimizer.zero_grad()
    if limited is not None:
        limit_norms(limited, max_norm)
    return loss.detach()


def limited_weight(model: nn.Module) -> Tensor | None:
    """Return the weight matrix with a max-norm constraint: that of TextCNN's output layer."""
    return model.output.weight if isinstance(model, TextCNN) else None


def make_optimizer(model: nn.Module, config: Config) -> torch.optim.Optimizer:
    """Adam (Kingma & Ba 2015), all parameters in one fused step."""
    return torch.optim.Adam(model.parameters(), config.learning_rate, fused=True)


def load_vectors(data: SentenceSet) -> tuple[VectorFile, str]:
    """Load the pre-trained vectors of the words of all three splits, and describe them in one line."""
    words = {word for split in (data.train, data.valid, data.test) for text in split.texts for word in text.split()}
    found, source = load_glove(only=words)
    return found, f"GloVe 6B: {len(found.words):,} of {len(words):,} words, {source}"


def build_vocabulary(data: SentenceSet, minimum_count: int, vectors: VectorFile | None = None) -> Vocabulary:
    """Build the vocabulary: words of the training set with at least this count, and words with a pre-trained vector.

    The latter may occur in the validation and test sets only. Their vectors are known without training, so a table of
    all 400,000 words of GloVe would give the same predictions.
    """
    words = Vocabulary.build(
        (word for text in data.train.texts for word in text.split()),
        minimum_count=minimum_count,
        reserved=("<pad>", UNKNOWN),
    )
    return Vocabulary(tuple(dict.fromkeys((*words.symbols, *(vectors.words if vectors else ())))))


def initialise_embeddings(
    tables: Sequence[nn.Embedding | nn.EmbeddingBag], vocabulary: Vocabulary, vectors: VectorFile, *, freeze: bool
) -> None:
    """Set embeddings to pre-trained vectors, or zero for words without one; do not train them if they are frozen."""
    weight = torch.zeros(len(vocabulary), vectors.vectors.shape[1])
    weight[[vocabulary.index[word] for word in vectors.words]] = vectors.vectors
    for table in tables:
        with torch.no_grad():
            table.weight.copy_(weight)
        table.weight.requires_grad_(not freeze)


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
    """Train the network and the baselines and return their test metrics."""
    data = data or load_sentences(config.data, limit=config.run.limit)
    vectors, description = load_vectors(data) if config.vectors != "none" else (None, "")
    vocabulary = build_vocabulary(data, config.minimum_count, vectors)
    words, lengths = encode(vocabulary, data.train.texts)
    labels, valid_labels = torch.tensor(data.train.labels), torch.tensor(data.valid.labels)
    with Run.open(__name__, config, data.card) as run:
        words, labels = words.to(run.device), labels.to(run.device)
        network = make_network(len(vocabulary), config).to(run.device)
        bag = make_bag(len(vocabulary), config).to(run.device)
        if vectors is not None:
            say("vectors", description)
            initialise_embeddings([network.embedding, bag.embedding], vocabulary, vectors, freeze=config.freeze)
        models: dict[str, SentimentNetwork | BagOfWords] = {"network": network, "bag": bag}
        parallel = {name: distributed.wrap(model) for name, model in models.items()}
        optimizers = {name: make_optimizer(model, config) for name, model in models.items()}
        best = {name: BestWeights(model) for name, model in models.items()}
        steps = batch_count(len(words), config.batch_size)
        epochs = config.epochs or max(4, 1_500 // steps)
        parts: dict[str, Any] = {f"{name}_model": models[name] for name in models}
        parts |= {f"{name}_optimizer": optimizers[name] for name in models}
        parts |= {f"{name}_best": best[name] for name in models}
        for epoch in run.epochs(epochs, steps, **parts):
            batches = batches_by_length(lengths, config.batch_size, run.generator)
            for step, index in enumerate(batches, start=(epoch - 1) * steps):
                index = distributed.shard(index)
                size = lengths[index]
                batch = words[index, : size.max()], size, labels[index]
                losses = {}
                for name, optimizer in optimizers.items():
                    set_learning_rate(optimizer, one_cycle_at(step / (epochs * steps), config.learning_rate))
                    limited = limited_weight(models[name])
                    losses[name] = train_step(
                        parallel[name], optimizer, *batch, limited=limited, max_norm=config.max_norm, bf16=run.bf16
                    )
                run.step(losses["network"], sentences=len(index))
            logits = {name: predict(model, vocabulary, data.valid.texts) for name, model in models.items()}
            for name, its in best.items():
                its.update(selection_error(logits[name], valid_labels), epoch)
            valid = {name: measure(its, data.valid) for name, its in logits.items()}
            of_network = {name: valid["network"][name] for name in ("loss", "accuracy")}
            run.log(valid=of_network | {"bag_accuracy": valid["bag"]["accuracy"]})
        for its in best.values():
            its.restore()
        ngrams = NgramRegression.select((data.train.texts, data.train.labels), (data.valid.texts, data.valid.labels))
        say("n-grams", f"{len(ngrams.index):,}; penalty {ngrams.penalty:g}, selected on the validation set")
        logits = {name: predict(model, vocabulary, data.test.texts) for name, model in models.items()}
        logits["ngram"] = ngrams.predict(data.test.texts)
        measures = {name: measure(its, data.test) for name, its in logits.items()}
        if kinds := by_kind(data.test):
            bounds = {f"{kind}_accuracy": ceiling([kind]) for kind in kinds}
            measures["any_bag"] = {"accuracy": ceiling(data.test.kinds), **bounds}
        run.save(network)
        if run.is_main:
            vocabulary.save(run.folder / "vocabulary.json")
            report(run, data.test, network.eval(), vocabulary, logits["network"], measures)
        return run.finish(test=measures.pop("network"), **{f"test_{name}": its for name, its in measures.items()})


def report(
    run: Run,
    test: Sentences,
    model: SentimentNetwork,
    vocabulary: Vocabulary,
    logits: Tensor,
    measures: dict[str, dict[str, float]],
) -> None:
    """Print the accuracies; write the misclassified sentences; draw predictions, contributions and the curves."""
    from common.drawing import plots

    columns = [name for name in measures["network"] if name.endswith("accuracy")]
    headings = ["", *(name.removesuffix("_accuracy").replace("accuracy", "all") for name in columns)]
    names = {
        "network": NAMES[run.config.network],
        "bag": "bag of words",
        "ngram": "n-grams",
        "any_bag": "bound for bags of words",
    }
    rows = [[names[name], *(f"{100 * its[column]:.2f}" for column in columns)] for name, its in measures.items()]
    print_table(headings, rows, title="test accuracy, %")
    labels = torch.tensor(test.labels)
    losses = F.cross_entropy(logits, labels, reduction="none")
    wrong = (logits.argmax(1) != labels).nonzero().flatten()
    worst = wrong[losses[wrong].argsort(descending=True)].tolist()
    with run.writing("mistakes.tsv") as path:
        lines = (f"{losses[n]:.3f}\t{CLASS_NAMES[test.labels[n]]}\t{test.kinds[n]}\t{test.texts[n]}" for n in worst)
        path.write_text("\n".join(["loss\tlabel\tkind\tsentence", *lines, ""]), encoding="utf-8")
    shown = [test.texts[n] for n in shown_sentences(test)]
    run.figure("reading", draw_prefix_predictions(model, vocabulary, shown))
    run.figure("contributions", draw_contributions(model, vocabulary, shown))
    if isinstance(model, TextCNN):
        found = (winning_ngrams(model, vocabulary, text) for text in test.texts[:EXPLAINED])
        run.figure("ngrams", draw_ngrams(chain.from_iterable(found)))
    panels = {"loss": ["train_loss", "valid_loss"], "accuracy": ["valid_accuracy", "valid_bag_accuracy"]}
    run.figure("curves", plots.curves(run.history, panels))


def shown_sentences(split: Sentences, count: int = 8) -> list[int]:
    """Return the indices of the sentences in the figures: the first of each kind, or the first short ones."""
    if kinds := by_kind(split):
        return [places[0] for places in kinds.values()]
    by_length = sorted(range(len(split)), key=lambda n: max(len(split.texts[n].split()), SHORT))
    return by_length[:count]


def restore(folder: Path) -> tuple[SentimentNetwork, Vocabulary, Config]:
    """Load a trained network, its vocabulary and its Config from a run folder."""
    config = read_config(folder, Config)
    vocabulary = Vocabulary.load(folder / "vocabulary.json")
    model = make_network(len(vocabulary), config)
    load_weights(model, folder)
    return model.eval(), vocabulary, config


def workload(config: Config, device: torch.device) -> Workload:
    """The network's training step on random words, for the device benchmark."""
    words = torch.randint(PAD + 1, 1_000, (config.batch_size, 12), dtype=torch.int32, device=device)
    labels = torch.randint(len(CLASS_NAMES), (config.batch_size,), device=device)
    model = make_network(1_000, config).to(device)
    optimizer = make_optimizer(model, config)
    lengths = torch.full((config.batch_size,), 12)
    step = partial(
        train_step,
        model,
        optimizer,
        *(words, lengths, labels),
        limited=limited_weight(model),
        max_norm=config.max_norm,
        bf16=config.run.precision == "bf16",
    )
    return Workload(step, items=config.batch_size, unit="sentences")
