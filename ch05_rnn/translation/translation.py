"""Translation with subwords: a Transformer, or GRUs with attention, on generated sentences, Multi30k or your own pairs.

    python -m ch05_rnn.train translation                                    # generated German sentences
    python -m ch05_rnn.train translation --network gru
    python -m ch05_rnn.train translation --merges 0                         # bytes instead of subwords
    python -m ch05_rnn.train translation --data multi30k --threads 2        # 29,000 sentences, German to English
    python -m ch05_rnn.train translation --pairs dialogue.tsv               # text, tab, translation or answer

Both languages share the symbols of one byte-pair encoding. A batch holds sentences of similar length with about
`--batch-tokens` target tokens. Test sentences are translated by beam search.

Dimensions: N pairs, B batch, S source tokens, T target tokens, V vocabulary size.
"""

import dataclasses
import warnings
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch05_rnn.sentences import bleu
from ch05_rnn.sentences.encoder_decoder import END
from ch05_rnn.sentences.padding import PAD
from ch05_rnn.translation.batches import TokenisedPairs, batch_count, batches_by_tokens
from ch05_rnn.translation.bpe import FIRST, BytePairEncoding
from ch05_rnn.translation.evaluation import (
    Translator,
    accuracy_by_kind,
    draw_alignments,
    exact_match,
    mean_loss,
    measure,
    references,
    translate,
)
from ch05_rnn.translation.gru import TranslationGRU
from ch05_rnn.translation.transformer import TranslationTransformer
from common import distributed
from common.benchmark import Workload
from common.best_weights import BestWeights
from common.config import (
    RunOptions,
    default_by,
    default_of,
    fill_defaults,
    flag,
    read_config,
    require,
    require_positive,
)
from common.data.sentence_pairs.pairs import Pairs, PairSet, load_pairs
from common.data.sentence_pairs.translations import PairSetName, load_translations
from common.progress import print_table, say
from common.run import Run, load_weights
from common.schedule import one_cycle_at, set_learning_rate

CLIP = 1.0
"""Maximum gradient norm; larger gradients are rescaled."""
WARM_UP = 0.08
"""Share of the training in which the learning rate rises."""
BETAS = (0.9, 0.98)
"""Of AdamW (Vaswani et al. 2017, section 5.3)."""
WEIGHT_DECAY = 1e-4
TRANSFORMER_ONLY = ("layers", "heads", "by")
"""Settings that GRUs do not have."""


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the translation model."""

    data: PairSetName = "german"
    """Data set: generated German sentences and their English translations, or Multi30k, which is downloaded if it is
    missing."""
    pairs: Path | None = None
    """File with one source, tab and target per line, instead of a named data set."""
    network: Literal["transformer", "gru"] = "transformer"
    """Network: a Transformer, or GRUs with additive attention."""
    merges: int = default_by("data", german=300, multi30k=8_000)
    """Number of merges of the byte-pair encoding, which is learned from both languages. With 0, the tokens are bytes.
    Default: 300, and 8,000 for multi30k."""
    max_length: int = 128
    """Maximum length of a training sentence, in tokens; pairs with a longer one are left out."""
    embedding_size: int = default_by("data", german=64, multi30k=256)
    """Embedding size, which is the width of all blocks of the Transformer. Default: 64, and 256 for multi30k."""
    hidden_size: int = default_by("data", german=256, multi30k=512)
    """Hidden units of a feed-forward network of the Transformer, or of the decoder's GRU; each direction of the
    encoder's GRU has half as many. Default: 256, and 512 for multi30k."""
    layers: int = default_by("data", german=2, multi30k=3)
    """Blocks of the Transformer's encoder, and of its decoder. Default: 2, and 3 for multi30k."""
    heads: int = 4
    """Attention heads of the Transformer."""
    by: Literal["hand", "library"] = "library"
    """Implementation of the Transformer's attention and norms: by hand, or torch's."""
    dropout: float = default_by("data", german=0.1, multi30k=default_by("network", transformer=0.3, gru=0.4))
    """Dropout probability: after the embedding and every layer. Default: 0.1; for multi30k 0.3, or 0.4 for GRUs."""
    label_smoothing: float = 0.1
    """Probability that is moved from the true token to all tokens alike."""
    epochs: int = default_by("data", german=5, multi30k=default_by("network", transformer=20, gru=15))
    """Number of epochs. Default: 5; for multi30k 20, or 15 for GRUs."""
    batch_tokens: int = default_by("data", german=1_000, multi30k=2_000)
    """Batch size in target tokens, over all processes. Default: 1,000, and 2,000 for multi30k."""
    learning_rate: float = default_by("data", german=3e-3, multi30k=1e-3)
    """Peak learning rate of AdamW (one-cycle schedule). Default: 0.003, and 0.001 for multi30k."""
    beam: int = 5
    """Beam width for the translations of the test set; 1 decodes greedily. The validation set is decoded greedily."""
    length_penalty: float = 1.0
    """Exponent of the length by which the log-probability of a translation is divided: 0 compares log-probabilities, 1
    their mean per token."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1))

    def __post_init__(self) -> None:
        fill_defaults(self)
        require_positive(self, "max_length", "embedding_size", "hidden_size", "layers", "heads", "epochs")
        require_positive(self, "batch_tokens", "learning_rate", "beam")
        require(self.merges >= 0, "--merges must not be negative", self.merges)
        require(0 <= self.dropout < 1, "--dropout must be at least 0 and below 1", self.dropout)
        smooth = 0 <= self.label_smoothing < 1
        require(smooth, "--label-smoothing must be at least 0 and below 1", self.label_smoothing)
        normal = 0 <= self.length_penalty < float("inf")
        require(normal, "--length-penalty must be a number of at least 0", self.length_penalty)
        alone = self.pairs is None or self.data == "german"
        require(alone, "--pairs takes the place of --data: give one of them", self.data)
        if self.network == "gru":
            for each in dataclasses.fields(self):
                value = getattr(self, each.name)
                usual = each.name not in TRANSFORMER_ONLY or value == usual_value(each, self)
                require(usual, f"{flag(each.name)} does not apply to --network gru: leave it out", value)
            require(self.hidden_size % 2 == 0, "--hidden-size must be even with --network gru", self.hidden_size)
        else:
            fits = self.embedding_size % (2 * self.heads) == 0
            require(fits, f"--embedding-size must be a multiple of 2 x --heads = {2 * self.heads}", self.embedding_size)


def usual_value(each: dataclasses.Field, config: Config) -> object:
    """Return the default of a field, for the values of the other fields."""
    return default_of(each, config) if each.metadata else each.default


def make_model(vocabulary_size: int, config: Config) -> Translator:
    """Build the network."""
    if config.network == "gru":
        return TranslationGRU(
            vocabulary_size,
            embedding_size=config.embedding_size,
            hidden_size=config.hidden_size,
            dropout=config.dropout,
        )
    return TranslationTransformer(
        vocabulary_size,
        width=config.embedding_size,
        hidden_size=config.hidden_size,
        layers=config.layers,
        heads=config.heads,
        dropout=config.dropout,
        by_hand=config.by == "hand",
    )


def make_optimizer(model: nn.Module, config: Config) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019), all parameters in one fused step."""
    return torch.optim.AdamW(
        model.parameters(), config.learning_rate, betas=BETAS, weight_decay=WEIGHT_DECAY, fused=True
    )


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    sources: Tensor,
    targets: Tensor,
    *,
    smoothing: float = 0.0,
    bf16: bool = False,
) -> Tensor:
    """Take one gradient step; return the loss in nats per token, with label smoothing, still on the device.

    Teacher forcing: the decoder predicts token t from the true tokens up to t - 1.
    """
    with torch.autocast(sources.device.type, torch.bfloat16, enabled=bf16):
        logits = model(sources, targets[:, :-1])
    loss = F.cross_entropy(
        logits.float().flatten(0, 1), targets[:, 1:].flatten().long(), ignore_index=PAD, label_smoothing=smoothing
    )
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


def train(config: Config, data: PairSet | None = None) -> dict[str, float]:
    """Train the translation model and return its test metrics."""
    limit = config.run.limit
    if data is None and config.pairs is not None:
        data = load_pairs(config.pairs, limit=limit)
    data = data or load_translations(config.data, limit=limit)
    texts = [f" {text}" for text in (*data.train.sources, *data.train.targets)]
    encoding = BytePairEncoding.learn(texts, config.merges)
    pairs = TokenisedPairs.of(data.train, encoding, config.max_length)
    valid = TokenisedPairs.of(data.valid, encoding)
    max_length = pairs.targets.shape[1]
    with Run.open(__name__, config, data.card) as run:
        model = make_model(len(encoding), config).to(run.device)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        say("model", f"{config.network}, {parameters:,} parameters, {len(encoding):,} symbols")
        parallel = distributed.wrap(model)
        optimizer = make_optimizer(model, config)
        best = BestWeights(model)
        steps = batch_count(pairs.target_lengths, config.batch_tokens)
        for epoch in run.epochs(config.epochs, steps, model=model, optimizer=optimizer, best=best):
            lengths = pairs.source_lengths, pairs.target_lengths
            batches = batches_by_tokens(*lengths, config.batch_tokens, run.generator)
            for step, index in enumerate(batches, start=(epoch - 1) * steps):
                done = step / (config.epochs * steps)
                set_learning_rate(optimizer, one_cycle_at(done, config.learning_rate, warm_up=WARM_UP))
                index = distributed.shard(index)
                batch = pairs.batch(index, run.device)
                loss = train_step(parallel, optimizer, *batch, smoothing=config.label_smoothing, bf16=run.bf16)
                run.step(loss, tokens=int(pairs.target_lengths[index].sum()))
            outputs = translate(model, encoding, data.valid.sources, max_length=max_length)
            score = bleu.score(outputs, references(data.valid))
            best.update(-score, epoch)
            run.log(valid={"bleu": score, "loss": mean_loss(model, valid)})
        best.restore()
        run.save(model)
        outputs = translate(
            model,
            encoding,
            data.test.sources,
            max_length=max_length,
            beam=config.beam,
            length_penalty=config.length_penalty,
        )
        if run.is_main:
            encoding.save(run.folder / "encoding.json")
            report(run, data.test, model, encoding, outputs)
        own = {"best_epoch": best.epoch, "parameters": parameters, "symbols": len(encoding)}
        return run.finish(run=own, test=measure(outputs, data.test))


def report(run: Run, test: Pairs, model: Translator, encoding: BytePairEncoding, outputs: list[str]) -> None:
    """Write all translations; print some, and the accuracy of each kind; draw alignments and curves."""
    from common.drawing import plots

    say("bleu", bleu.implementation())
    correct = exact_match(outputs, test)
    with run.writing("translations.tsv") as path:
        rows = zip(correct.tolist(), test.sources, outputs, test.targets, strict=True)
        lines = (
            f"{'right' if is_right else 'wrong'}\t{source}\t{' '.join(ours.split())}\t{target}"
            for is_right, source, ours, target in rows
        )
        path.write_text("\n".join(["verdict\tsource\ttranslation\ttarget", *lines, ""]), encoding="utf-8")
    accuracy = accuracy_by_kind(outputs, test)
    examples = [test.kinds.index(kind) for kind in accuracy] or list(range(min(8, len(test))))
    for place in examples:
        say("source", test.sources[place])
        say("output", outputs[place])
    if accuracy:
        print_table(["pattern", "accuracy"], [(kind, f"{value:.2%}") for kind, value in accuracy.items()])
        error_rates = [100 * (1 - value) for value in accuracy.values()]
        run.figure("kinds", plots.bars(list(accuracy), error_rates, title="error rate per pattern", label="%"))
    shown = [place for place in examples if outputs[place]][-3:]
    if shown:
        texts = [(test.sources[place], outputs[place]) for place in shown]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # scripts that the font lacks are drawn as boxes
            run.figure("alignments", draw_alignments(model, encoding, texts))
    panels = {"loss": ["train_loss", "valid_loss"], "BLEU": ["valid_bleu"]}
    run.figure("curves", plots.curves(run.history, panels))


def restore(folder: Path) -> tuple[Translator, BytePairEncoding, Config]:
    """Load a trained network, its byte-pair encoding and its Config from a run folder."""
    config = read_config(folder, Config)
    encoding = BytePairEncoding.load(folder / "encoding.json")
    model = make_model(len(encoding), config)
    load_weights(model, folder)
    return model.eval(), encoding, config


def workload(config: Config, device: torch.device) -> Workload:
    """Training step on random tokens, 15 in each sentence, for the device benchmark."""
    symbols, length = FIRST + 256 + config.merges, 15
    count = max(1, config.batch_tokens // length)
    sources, targets = torch.randint(END + 1, symbols, (2, count, length + 1), dtype=torch.int32, device=device)
    model = make_model(symbols, config).to(device)
    optimizer = make_optimizer(model, config)
    bf16, smoothing = config.run.precision == "bf16", config.label_smoothing
    step = partial(train_step, model, optimizer, sources, targets, smoothing=smoothing, bf16=bf16)
    return Workload(step, items=count * length, unit="tokens")
