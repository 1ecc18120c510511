"""Sequence-to-sequence learning: an encoder-decoder with or without attention, on dates or on translations.

    python -m ch05_rnn.train seq2seq
    python -m ch05_rnn.train seq2seq --attention additive
    python -m ch05_rnn.train seq2seq --attention none        # the decoder gets the final encoder state only
    python -m ch05_rnn.train seq2seq --pairs fra.txt         # translations, one pair per line (Tatoeba's layout)

The embedded data set translates written dates to ISO 8601: `on friday the fifth of may nineteen ninety-five` is
`1995-05-05`.

Dimensions: N texts, B batch, S source tokens, T target tokens, E embedding size, H hidden units, V vocabulary size.
"""

import re
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch05_rnn.sentences.bleu import bleu
from ch05_rnn.sentences.encoder_decoder import END, Seq2Seq
from ch05_rnn.sentences.padding import PAD, batch_count, batches_by_length, pad
from common import distributed
from common.benchmark import Workload
from common.config import RunOptions, read_config, require, require_positive
from common.data.sentence_pairs.dates import load_dates
from common.data.sentence_pairs.pairs import Pairs, PairSet, load_pairs
from common.data.text.vocabulary import UNKNOWN, Vocabulary
from common.progress import print_table, track
from common.run import Run, load_weights
from common.schedule import one_cycle_at, set_learning_rate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SOURCE_RESERVED = ("<pad>", UNKNOWN)
TARGET_RESERVED = ("<pad>", UNKNOWN, "<start>", "<end>")
CLIP = 1.0
"""Maximum gradient norm; larger gradients are rescaled."""


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the encoder-decoder."""

    pairs: Path | None = None
    """File with one source, tab and target per line. Default: the embedded dates."""
    level: Literal["auto", "char", "word"] = "auto"
    """Tokens: characters or words; auto takes characters for the dates and words for a file."""
    attention: Literal["none", "additive", "dot"] = "dot"
    """Attention mechanism; with none the decoder gets the final encoder state only."""
    epochs: int = 2
    """Number of epochs."""
    batch_size: int = 128
    """Batch size in pairs, over all processes."""
    learning_rate: float = 4e-3
    """Peak learning rate of Adam (one-cycle schedule)."""
    embedding_size: int = 32
    """Embedding size."""
    hidden_size: int = 128
    """Hidden units of the decoder; each direction of the encoder has half as many."""
    minimum_count: int = 1
    """Minimum count of a token in the training pairs; rarer tokens become <unknown>."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1, precision="fp32"))

    def __post_init__(self) -> None:
        require_positive(self, "epochs", "batch_size", "learning_rate", "embedding_size", "minimum_count")
        even = self.hidden_size > 0 and self.hidden_size % 2 == 0
        require(even, "--hidden-size must be an even number above 0", self.hidden_size)

    @property
    def by_character(self) -> bool:
        """Whether the tokens are characters."""
        return self.level == "char" or (self.level == "auto" and self.pairs is None)


@dataclass(frozen=True)
class Tokeniser:
    """Source and target vocabularies, and the conversion between texts and tokens."""

    by_character: bool
    source: Vocabulary
    target: Vocabulary

    @classmethod
    def fit(cls, pairs: Pairs, config: Config) -> "Tokeniser":
        """Build the vocabularies of the training pairs."""
        vocabularies = [
            Vocabulary.build(
                (token for text in texts for token in tokenise(text, by_character=config.by_character)),
                minimum_count=config.minimum_count,
                reserved=reserved,
            )
            for texts, reserved in ((pairs.sources, SOURCE_RESERVED), (pairs.targets, TARGET_RESERVED))
        ]
        return cls(config.by_character, *vocabularies)

    def save(self, run: Run) -> None:
        """Save both vocabularies in the run folder."""
        for side in ("source", "target"):
            getattr(self, side).save(run.folder / f"{side}.json")

    @classmethod
    def load(cls, folder: Path, *, by_character: bool) -> "Tokeniser":
        """Load the vocabularies of a run folder."""
        return cls(by_character, *(Vocabulary.load(folder / f"{side}.json") for side in ("source", "target")))

    def encode_source(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """N texts -> (N, S) tokens, (N,) lengths"""
        return pad([self.source.encode(tokenise(text, by_character=self.by_character)) for text in texts])

    def encode_target(self, texts: list[str]) -> Tensor:
        """N texts -> (N, T) tokens from <start> to <end>"""
        rows = (tokenise(text, by_character=self.by_character) for text in texts)
        return pad([self.target.encode(["<start>", *row, "<end>"]) for row in rows])[0]

    def decode_target(self, tokens: list[int]) -> str:
        """Convert tokens to text, up to <end>."""
        end = tokens.index(END) if END in tokens else len(tokens)
        return ("" if self.by_character else " ").join(self.target.decode(tokens[:end]))

    def normalise(self, text: str) -> str:
        """Convert a text to the form of a decoded output: lower case, spaces between all words."""
        return ("" if self.by_character else " ").join(tokenise(text, by_character=self.by_character))


def tokenise(text: str, *, by_character: bool) -> list[str]:
    """Split a text in lower case into characters, or into words and punctuation marks."""
    return list(text.lower()) if by_character else re.findall(r"\w+(?:['’]\w+)*|[^\w\s]", text.lower())


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    sources: Tensor,
    lengths: Tensor,
    targets: Tensor,
    *,
    bf16: bool = False,
) -> Tensor:
    """Take one gradient step; return the loss in nats per token, still on the device.

    Teacher forcing: the decoder predicts token t from the true tokens up to t - 1, at all steps at once.
    """
    with torch.autocast(sources.device.type, torch.bfloat16, enabled=bf16):
        logits = model(sources, lengths, targets[:, :-1])
    loss = F.cross_entropy(logits.float().flatten(0, 1), targets[:, 1:].flatten().long(), ignore_index=PAD)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


def make_model(source_size: int, target_size: int, config: Config) -> Seq2Seq:
    """Build the network for these vocabulary sizes."""
    return Seq2Seq(
        source_size,
        target_size,
        attention=config.attention,
        embedding_size=config.embedding_size,
        hidden_size=config.hidden_size,
    )


def make_optimizer(model: nn.Module, config: Config) -> torch.optim.Optimizer:
    """Adam (Kingma & Ba 2015), all parameters in one fused step."""
    return torch.optim.Adam(model.parameters(), config.learning_rate, fused=True)


def translate(model: Seq2Seq, tokeniser: Tokeniser, texts: list[str], max_length: int) -> list[str]:
    """Translate texts by greedy decoding."""
    device = next(model.parameters()).device
    outputs: dict[int, str] = {}
    sources, lengths = tokeniser.encode_source(texts)
    for index in track(lengths.argsort().split(500), "translating"):  # texts of similar length together
        size = lengths[index]
        tokens, _ = model.greedy(sources[index, : size.max()].to(device), size, max_length)
        outputs |= dict(zip(index.tolist(), map(tokeniser.decode_target, tokens.tolist()), strict=True))
    return [outputs[number] for number in range(len(texts))]


def references(pairs: Pairs, tokeniser: Tokeniser) -> list[list[str]]:
    """N lists: the different targets of each pair's source, normalised"""
    targets: dict[str, list[str]] = {}
    for source, target in zip(pairs.sources, pairs.targets, strict=True):
        targets.setdefault(source, []).append(tokeniser.normalise(target))
    return [list(dict.fromkeys(targets[source])) for source in pairs.sources]


def exact_match(outputs: list[str], pairs: Pairs, tokeniser: Tokeniser) -> Tensor:
    """(N,) whether each output is equal to one of the targets of its source"""
    return torch.tensor([o in its for o, its in zip(outputs, references(pairs, tokeniser), strict=True)])


def bleu_score(outputs: list[str], pairs: Pairs, tokeniser: Tokeniser) -> float:
    """BLEU of the outputs, 0 to 1: a mistake in one word leaves most n-grams right, but the exact match is 0"""
    by_character = tokeniser.by_character
    return bleu(
        [tokenise(output, by_character=by_character) for output in outputs],
        [[tokenise(t, by_character=by_character) for t in its] for its in references(pairs, tokeniser)],
    )


def train(config: Config, data: PairSet | None = None) -> dict[str, float]:
    """Train the encoder-decoder and return its test metrics."""
    limit = config.run.limit
    data = data or (load_dates(limit=limit) if config.pairs is None else load_pairs(config.pairs, limit=limit))
    tokeniser = Tokeniser.fit(data.train, config)
    sources, lengths = tokeniser.encode_source(data.train.sources)
    targets = tokeniser.encode_target(data.train.targets)
    max_length = targets.shape[1]
    with Run.open(__name__, config, data.card) as run:
        sources, targets = sources.to(run.device), targets.to(run.device)
        model = make_model(len(tokeniser.source), len(tokeniser.target), config).to(run.device)
        parallel = distributed.wrap(model)
        optimizer = make_optimizer(model, config)
        steps = batch_count(len(sources), config.batch_size)
        for epoch in run.epochs(config.epochs, steps, model=model, optimizer=optimizer):
            batches = batches_by_length(lengths, config.batch_size, run.generator)
            for step, index in enumerate(batches, start=(epoch - 1) * steps):
                set_learning_rate(optimizer, one_cycle_at(step / (config.epochs * steps), config.learning_rate))
                index = distributed.shard(index)
                size = lengths[index]
                batch = sources[index, : size.max()], size, targets[index]
                loss = train_step(parallel, optimizer, *batch, bf16=run.bf16)
                run.step(loss, pairs=len(index))
            outputs = translate(model, tokeniser, data.valid.sources, max_length)
            run.log(valid={"accuracy": float(exact_match(outputs, data.valid, tokeniser).float().mean())})
        outputs = translate(model, tokeniser, data.test.sources, max_length)
        correct = exact_match(outputs, data.test, tokeniser)
        run.save(model)
        if run.is_main:
            tokeniser.save(run)
            report(run, data.test, model, tokeniser, outputs, correct, max_length)
        accuracy, score = float(correct.float().mean()), bleu_score(outputs, data.test, tokeniser)
        return run.finish(test={"accuracy": accuracy, "bleu": score})


def report(
    run: Run, test: Pairs, model: Seq2Seq, tokeniser: Tokeniser, outputs: list[str], correct: Tensor, max_length: int
) -> None:
    """Write all outputs; print the accuracy of each kind; draw error rates, attention weights and curves."""
    from common.drawing import plots

    with run.writing("answers.tsv") as path:
        rows = zip(correct.tolist(), test.sources, outputs, test.targets, strict=True)
        lines = (
            f"{'right' if is_right else 'wrong'}\t{source}\t{ours}\t{target}" for is_right, source, ours, target in rows
        )
        path.write_text("\n".join(["verdict\tsource\tanswer\ttarget", *lines, ""]), encoding="utf-8")
    kinds = {kind: [place for place, its in enumerate(test.kinds) if its == kind] for kind in sorted(set(test.kinds))}
    accuracy = {kind: float(correct[places].float().mean()) for kind, places in kinds.items()}
    examples = [places[0] for places in kinds.values()][:16] if len(kinds) > 1 else range(min(8, len(test)))
    shown = [(test.sources[place], outputs[place], f"{accuracy[test.kinds[place]]:.2%}") for place in examples]
    print_table(["source", "output", "accuracy of kind"], shown, title="test set, one example per kind")
    if len(kinds) > 1:
        error_rates = [100 * (1 - value) for value in accuracy.values()]
        run.figure("kinds", plots.bars(list(accuracy), error_rates, title="error rate per kind", label="%"))
    if model.attention is not None:
        texts = [test.sources[place] for place in examples][-4:]
        run.figure("attention", draw_attention(model, tokeniser, texts, max_length))
    run.figure("curves", plots.curves(run.history, {"loss": ["train_loss"], "accuracy": ["valid_accuracy"]}))


def draw_attention(model: Seq2Seq, tokeniser: Tokeniser, texts: list[str], max_length: int) -> "Figure":
    """Draw the attention weights: output tokens in rows, source tokens in columns."""
    from common.drawing import text_plots

    device = next(model.parameters()).device
    maps, output_tokens, source_tokens = [], [], []
    for text in texts:
        sources, lengths = tokeniser.encode_source([text])
        tokens, weights = model.greedy(sources.to(device), lengths, max_length)
        assert weights is not None
        maps.append(weights[0].cpu())
        output_tokens.append(["end" if token == "<end>" else token for token in tokeniser.target.decode(tokens[0])])
        source_tokens.append(tokenise(text, by_character=tokeniser.by_character))
    return text_plots.alignments(maps, output_tokens, source_tokens, gamma=0.5)


def restore(folder: Path) -> tuple[Seq2Seq, Tokeniser, Config]:
    """Load a trained network, its tokeniser and its Config from a run folder."""
    config = read_config(folder, Config)
    tokeniser = Tokeniser.load(folder, by_character=config.by_character)
    model = make_model(len(tokeniser.source), len(tokeniser.target), config)
    load_weights(model, folder)
    return model.eval(), tokeniser, config


def workload(config: Config, device: torch.device) -> Workload:
    """Training step on random tokens, in batches of the dates' size, for the device benchmark."""
    sources = torch.randint(PAD + 1, 48, (config.batch_size, 25), dtype=torch.int32, device=device)
    targets = torch.randint(PAD + 1, 15, (config.batch_size, 12), dtype=torch.int32, device=device)
    lengths = torch.full((config.batch_size,), 25)
    model = make_model(48, 15, config).to(device)
    optimizer = make_optimizer(model, config)
    bf16 = config.run.precision == "bf16"
    step = partial(train_step, model, optimizer, sources, lengths, targets, bf16=bf16)
    return Workload(step, items=config.batch_size, unit="pairs")
