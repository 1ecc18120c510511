"""Encoder and decoder: a network that reads a text and writes another, with attention or without.

    python -m ch05_rnn.train seq2seq
    python -m ch05_rnn.train seq2seq --attention additive
    python -m ch05_rnn.train seq2seq --attention none        # all it may know of the text is the encoder's last state
    python -m ch05_rnn.train seq2seq --pairs fra.txt         # translations, a pair a line (Tatoeba's layout)

Dates as people write them become dates as ISO 8601 has them: `on friday the fifth of may nineteen ninety-five` is
`1995-05-05`.

Dimensions: N texts, B batch, S symbols of a source, T symbols of a target, E embedding, H hidden, V symbols known.
"""

import re
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch05_rnn.sentences.encoder_decoder import END, Seq2Seq
from ch05_rnn.sentences.padding import PAD, batch_count, batches_by_length, padded
from common import distributed
from common.benchmark import Workload
from common.config import RunOptions, read_config, require, require_positive
from common.data.text.dates import load_dates
from common.data.text.pairs import Pairs, PairSet, load_pairs
from common.data.text.vocabulary import UNKNOWN, Vocabulary
from common.progress import print_table
from common.run import Run, load_weights
from common.schedule import one_cycle_at, set_learning_rate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SOURCE_RESERVED = ("<pad>", UNKNOWN)
TARGET_RESERVED = ("<pad>", UNKNOWN, "<start>", "<end>")
CLIP = 1.0
"""Norm to which larger gradients are cut."""


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the encoder-decoder."""

    pairs: Path | None = None
    """File with source, tab and target a line; without one the embedded dates."""
    level: Literal["auto", "char", "word"] = "auto"
    """What a symbol is; auto takes characters for the dates and words for a file."""
    attention: Literal["none", "additive", "dot"] = "dot"
    """How the decoder looks back at the source; none leaves it with the encoder's last state."""
    epochs: int = 2
    """Passes over the training pairs."""
    batch_size: int = 128
    """Pairs a step, over all processes together."""
    learning_rate: float = 4e-3
    """Peak step size of Adam, which warms up and anneals in one cycle."""
    embedding_size: int = 32
    """Numbers that stand for a symbol."""
    hidden_size: int = 128
    """Units of the decoder; each direction of the encoder has half of them."""
    minimum_count: int = 1
    """How often a symbol must be in the training pairs to be known."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1, precision="fp32"))

    def __post_init__(self) -> None:
        require_positive(self, "epochs", "batch_size", "learning_rate", "embedding_size", "minimum_count")
        even = self.hidden_size > 0 and self.hidden_size % 2 == 0
        require(even, "--hidden-size must be an even number above 0", self.hidden_size)

    @property
    def by_character(self) -> bool:
        """Whether a symbol is a character."""
        return self.level == "char" or (self.level == "auto" and self.pairs is None)


@dataclass(frozen=True)
class Language:
    """How texts become symbols and symbols texts, on both sides."""

    by_character: bool
    source: Vocabulary
    target: Vocabulary

    @classmethod
    def of(cls, pairs: Pairs, config: Config) -> "Language":
        """Learn the symbols of the training pairs."""
        vocabularies = [
            Vocabulary.build(
                (symbol for text in texts for symbol in symbols(text, by_character=config.by_character)),
                minimum_count=config.minimum_count,
                reserved=reserved,
            )
            for texts, reserved in ((pairs.sources, SOURCE_RESERVED), (pairs.targets, TARGET_RESERVED))
        ]
        return cls(config.by_character, *vocabularies)

    def save(self, run: Run) -> None:
        """Save both vocabularies in the run's folder."""
        for side in ("source", "target"):
            getattr(self, side).save(run.folder / f"{side}.json")

    @classmethod
    def load(cls, folder: Path, *, by_character: bool) -> "Language":
        """Load the vocabularies that a run saved."""
        return cls(by_character, *(Vocabulary.load(folder / f"{side}.json") for side in ("source", "target")))

    def encode_source(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """N texts -> (N, S) symbols, (N,) lengths"""
        return padded([self.source.encode(symbols(text, by_character=self.by_character)) for text in texts])

    def encode_target(self, texts: list[str]) -> Tensor:
        """N texts -> (N, T) symbols from the start to the end"""
        middle = (symbols(text, by_character=self.by_character) for text in texts)
        return padded([self.target.encode(["<start>", *row, "<end>"]) for row in middle])[0]

    def write(self, tokens: list[int]) -> str:
        """Turn symbols up to the end into text."""
        until = tokens.index(END) if END in tokens else len(tokens)
        return ("" if self.by_character else " ").join(self.target.decode(tokens[:until]))

    def normal(self, text: str) -> str:
        """Write a text as the network would: in lower case, and with spaces between all words."""
        return ("" if self.by_character else " ").join(symbols(text, by_character=self.by_character))


def symbols(text: str, *, by_character: bool) -> list[str]:
    """Cut a text in lower case into characters, or into words and punctuation marks."""
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
    """Take one gradient step; return the loss in nats a symbol, still on the device.

    The decoder is given the true symbols up to t - 1 and asked for symbol t, at all steps at once (teacher forcing).
    """
    with torch.autocast(sources.device.type, torch.bfloat16, enabled=bf16):
        logits = model(sources, lengths, targets[:, :-1])
    loss = F.cross_entropy(logits.float().flatten(0, 1), targets[:, 1:].flatten().long(), ignore_index=PAD)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


def make_model(source_symbols: int, target_symbols: int, config: Config) -> Seq2Seq:
    """Build the network that the Config asks for."""
    return Seq2Seq(
        source_symbols,
        target_symbols,
        attention=config.attention,
        embedding_size=config.embedding_size,
        hidden_size=config.hidden_size,
    )


def make_optimizer(model: nn.Module, config: Config) -> torch.optim.Optimizer:
    """Adam (Kingma & Ba 2015), all parameters in one fused step."""
    return torch.optim.Adam(model.parameters(), config.learning_rate, fused=True)


def answer(model: Seq2Seq, language: Language, texts: list[str], longest: int) -> list[str]:
    """Write what the network makes of each text."""
    device = next(model.parameters()).device
    answers: dict[int, str] = {}
    sources, lengths = language.encode_source(texts)
    for index in lengths.argsort().split(500):  # texts of about the same length together
        size = lengths[index]
        tokens, _ = model.greedy(sources[index, : size.max()].to(device), size, longest)
        answers |= dict(zip(index.tolist(), map(language.write, tokens.tolist()), strict=True))
    return [answers[number] for number in range(len(texts))]


def right(answers: list[str], pairs: Pairs, language: Language) -> Tensor:
    """(N,) which answers are, symbol by symbol, a target that the pairs have for the source"""
    wanted: dict[str, set[str]] = {}
    for source, target in zip(pairs.sources, pairs.targets, strict=True):
        wanted.setdefault(source, set()).add(language.normal(target))
    return torch.tensor([given in wanted[source] for given, source in zip(answers, pairs.sources, strict=True)])


def train(config: Config, data: PairSet | None = None) -> dict[str, float]:
    """Fit the encoder-decoder and return its test metrics."""
    limit = config.run.limit
    data = data or (load_dates(limit=limit) if config.pairs is None else load_pairs(config.pairs, limit=limit))
    language = Language.of(data.train, config)
    sources, lengths = language.encode_source(data.train.sources)
    targets = language.encode_target(data.train.targets)
    longest = targets.shape[1]
    with Run.open(__name__, config, data.card) as run:
        sources, targets = sources.to(run.device), targets.to(run.device)
        model = make_model(len(language.source), len(language.target), config).to(run.device)
        parallel = distributed.wrap(model)
        optimizer = make_optimizer(model, config)
        steps = batch_count(len(sources), config.batch_size)
        for epoch in run.epochs(config.epochs, steps, model=model, optimizer=optimizer):
            order = batches_by_length(lengths, config.batch_size, run.generator)
            for step, index in enumerate(order, start=(epoch - 1) * steps):
                set_learning_rate(optimizer, one_cycle_at(step / (config.epochs * steps), config.learning_rate))
                size = lengths[share := distributed.shard(index)]
                batch = sources[share, : size.max()], size, targets[share]
                loss = train_step(parallel, optimizer, *batch, bf16=run.bf16)
                run.step(loss, pairs=len(share))
            answers = answer(model, language, data.valid.sources, longest)
            run.log(valid={"accuracy": float(right(answers, data.valid, language).float().mean())})
        answers = answer(model, language, data.test.sources, longest)
        correct = right(answers, data.test, language)
        run.save(model)
        if run.is_main:
            language.save(run)
            report(run, data.test, model, language, answers, correct, longest)
        return run.finish(test={"accuracy": float(correct.float().mean())})


def report(
    run: Run, test: Pairs, model: Seq2Seq, language: Language, answers: list[str], correct: Tensor, longest: int
) -> None:
    """Write what a person looks at: every answer, the accuracy of each kind, what the decoder looks at, the curves."""
    from common.drawing import plots

    with run.writing("answers.tsv") as path:
        rows = zip(correct.tolist(), test.sources, answers, test.targets, strict=True)
        lines = (
            f"{'right' if is_right else 'wrong'}\t{source}\t{ours}\t{target}" for is_right, source, ours, target in rows
        )
        path.write_text("\n".join(["verdict\tsource\tanswer\ttarget", *lines, ""]), encoding="utf-8")
    kinds = {kind: [place for place, its in enumerate(test.kinds) if its == kind] for kind in sorted(set(test.kinds))}
    shares = {kind: float(correct[places].float().mean()) for kind, places in kinds.items()}
    examples = [places[0] for places in kinds.values()][:16] if len(kinds) > 1 else range(min(8, len(test)))
    shown = [(test.sources[place], answers[place], f"{shares[test.kinds[place]]:.2%}") for place in examples]
    print_table(["source", "answer", "accuracy of such"], shown, title="the test split, an example of each kind")
    if len(kinds) > 1:
        missed = [100 * (1 - share) for share in shares.values()]
        run.figure("kinds", plots.bars(list(shares), missed, title="share of each kind that is missed", label="%"))
    if model.attention is not None:
        run.figure(
            "attention", draw_attention(model, language, [test.sources[place] for place in examples][-4:], longest)
        )
    run.figure("curves", plots.curves(run.history, {"loss": ["train_loss"], "accuracy": ["valid_accuracy"]}))


def draw_attention(model: Seq2Seq, language: Language, texts: list[str], longest: int) -> "Figure":
    """Draw how much of each symbol of the texts the decoder takes while it writes."""
    from common.drawing import text_plots

    device = next(model.parameters()).device
    maps, written, read_off = [], [], []
    for text in texts:
        sources, lengths = language.encode_source([text])
        tokens, weights = model.greedy(sources.to(device), lengths, longest)
        assert weights is not None
        maps.append(weights[0].cpu())
        written.append(["end" if token == "<end>" else token for token in language.target.decode(tokens[0])])
        read_off.append(symbols(text, by_character=language.by_character))
    return text_plots.alignments(maps, written, read_off, gamma=0.5)


def restore(folder: Path) -> tuple[Seq2Seq, Language, Config]:
    """Rebuild the network that a run saved, and the symbols that it knows."""
    config = read_config(folder, Config)
    language = Language.load(folder, by_character=config.by_character)
    model = make_model(len(language.source), len(language.target), config)
    load_weights(model, folder)
    return model.eval(), language, config


def workload(config: Config, device: torch.device) -> Workload:
    """The training step on one batch of noise of the dates' size, for the device benchmark."""
    sources = torch.randint(PAD + 1, 48, (config.batch_size, 25), dtype=torch.int32, device=device)
    targets = torch.randint(PAD + 1, 15, (config.batch_size, 12), dtype=torch.int32, device=device)
    lengths = torch.full((config.batch_size,), 25)
    model = make_model(48, 15, config).to(device)
    optimizer = make_optimizer(model, config)
    bf16 = config.run.precision == "bf16"
    step = partial(train_step, model, optimizer, sources, lengths, targets, bf16=bf16)
    return Workload(step, items=config.batch_size, unit="pairs")
