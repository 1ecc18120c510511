"""Translate with a trained network, measure the translations, and draw the attention weights as alignments.

Dimensions: N texts, B batch, K beam width.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from ch05_rnn.sentences import bleu
from ch05_rnn.sentences.beam import beam_search
from ch05_rnn.sentences.encoder_decoder import END, START
from ch05_rnn.sentences.padding import PAD, pad
from ch05_rnn.translation.batches import TokenisedPairs, decode, encode
from ch05_rnn.translation.bpe import BytePairEncoding
from ch05_rnn.translation.gru import TranslationGRU
from ch05_rnn.translation.transformer import TranslationTransformer
from common.data.sentence_pairs.pairs import Pairs
from common.progress import track

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Translator = TranslationTransformer | TranslationGRU

AT_ONCE = 200
"""Number of texts that are translated or evaluated together."""


@torch.inference_mode()
def translate(
    model: Translator,
    encoding: BytePairEncoding,
    texts: list[str],
    *,
    max_length: int,
    beam: int = 1,
    length_penalty: float = 1.0,
) -> list[str]:
    """Translate texts by beam search; a width of 1 decodes greedily."""
    device, was_training = next(model.parameters()).device, model.training
    model.eval()
    outputs: dict[int, str] = {}
    sources, lengths = pad([torch.tensor(encode(encoding, text)) for text in texts])
    for index in track(lengths.argsort().split(AT_ONCE), "translating"):  # texts of similar length together
        memory, state = model.encode(sources[index, : lengths[index].max()].to(device))
        repeated = tuple(part.repeat_interleave(beam, dim=0) for part in memory)  # (BK, ...)
        tokens, _ = beam_search(
            lambda tokens, state: log_probabilities(*model.step(tokens, state, repeated)),  # noqa: B023
            state,
            width=beam,
            start=START,
            end=END,
            pad=PAD,
            max_length=max_length,
            length_penalty=length_penalty,
        )
        outputs |= zip(index.tolist(), (decode(encoding, row) for row in tokens.tolist()), strict=True)
    model.train(was_training)
    return [outputs[number] for number in range(len(texts))]


def log_probabilities(logits: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """(BK, V) logits and the state -> log-probabilities and the state"""
    return logits.log_softmax(dim=1), state


@torch.inference_mode()
def mean_loss(model: Translator, pairs: TokenisedPairs) -> float:
    """Compute the loss of the true targets in nats per token, without label smoothing."""
    device, was_training = next(model.parameters()).device, model.training
    model.eval()
    total = 0.0
    for index in pairs.target_lengths.argsort().split(AT_ONCE):
        sources, targets = pairs.batch(index, device)
        logits = model(sources, targets[:, :-1]).transpose(1, 2)
        total += float(F.cross_entropy(logits, targets[:, 1:].long(), ignore_index=PAD, reduction="sum"))
    model.train(was_training)
    return total / float(pairs.target_lengths.sum())


def references(pairs: Pairs) -> list[list[str]]:
    """N lists: the different targets of each pair's source"""
    targets: dict[str, list[str]] = {}
    for source, target in zip(pairs.sources, pairs.targets, strict=True):
        targets.setdefault(source, []).append(target)
    return [list(dict.fromkeys(targets[source])) for source in pairs.sources]


def exact_match(outputs: list[str], pairs: Pairs) -> Tensor:
    """(N,) whether each output is equal to one of the targets of its source"""
    return torch.tensor([output in its for output, its in zip(outputs, references(pairs), strict=True)])


def accuracy_by_kind(outputs: list[str], pairs: Pairs) -> dict[str, float]:
    """Compute the share of exact matches of each kind; nothing if all pairs are of one kind."""
    correct, kinds = exact_match(outputs, pairs).float(), list(dict.fromkeys(pairs.kinds))
    if len(kinds) == 1:
        return {}
    return {kind: float(correct[[its == kind for its in pairs.kinds]].mean()) for kind in kinds}


def measure(outputs: list[str], pairs: Pairs) -> dict[str, float]:
    """Compute BLEU, BLEU of the texts in lower case, and the share of exact matches, also of each kind."""
    targets = references(pairs)
    return {
        "bleu": bleu.score(outputs, targets),
        "lowercase_bleu": bleu.score(outputs, targets, lowercase=True),
        "accuracy": float(exact_match(outputs, pairs).float().mean()),
        **{f"{kind.replace(' ', '_')}_accuracy": value for kind, value in accuracy_by_kind(outputs, pairs).items()},
    }


@torch.inference_mode()
def draw_alignments(model: Translator, encoding: BytePairEncoding, texts: list[tuple[str, str]]) -> "Figure":
    """Draw the attention weights of sources and their translations: target tokens in rows, source tokens in columns."""
    from common.drawing import text_plots

    device, was_training = next(model.parameters()).device, model.training
    model.eval()
    maps, rows, columns = [], [], []
    for source, output in texts:
        sources, targets = encode(encoding, source), encode(encoding, output)
        previous = torch.tensor([[START, *targets[:-1]]], device=device)
        maps.append(model.alignments(torch.tensor([sources], device=device), previous)[0].cpu())
        rows.append([spell(encoding, token) for token in targets])
        columns.append([spell(encoding, token) for token in sources])
    model.train(was_training)
    return text_plots.alignments(maps, rows, columns, gamma=0.5)


def spell(encoding: BytePairEncoding, token: int) -> str:
    """Write a token for a figure: the first one of a word without its space, a later one after a dash."""
    if token == END:
        return "end"
    text = encoding.decode([token])
    return (text[1:] or "_") if text.startswith(" ") else f"-{text}"
