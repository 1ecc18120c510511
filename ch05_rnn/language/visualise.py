"""Visualise a trained language model: predictions, embeddings, and hidden units that correlate with text features.

Dimensions: N tokens, P predictions, V vocabulary size, E embedding size, H hidden units.
"""

import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ch05_rnn.language.network import Network
from ch05_rnn.words.vectors import principal_components
from common.data.text.corpora import Corpus, Level
from common.progress import say
from common.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN, SHOWN_SYMBOLS = 40, 30
"""Size of the prediction heat map: number of tokens (columns), maximum number of symbols (rows)."""

LINE = 1_000
"""The heat map starts after the first newline among this many tokens."""

PASSAGE = 532
"""Length of the passage that is coloured by unit activations, in characters."""

ANALYSED = 8_000
"""Tokens for the analysis of hidden units: units are selected on the first half, correlations are from the second."""

NAMES = 150
"""Number of embeddings drawn, of the most frequent symbols."""


def report(run: Run, data: Corpus, model: Network) -> None:
    """Draw all figures into the run folder and print the units that correlate with text features."""
    from common.drawing import text_plots

    tokens = data.valid.tokens[:ANALYSED]
    hidden, p = hidden_states_and_predictions(model, tokens.to(run.device))
    names = [printable(symbol) for symbol in data.vocabulary.symbols[1 : NAMES + 1]]
    kinds = [symbol_class(symbol, data.level) for symbol in data.vocabulary.symbols[1 : NAMES + 1]]
    places = principal_components(model.embedding.weight[1 : NAMES + 1].detach().cpu())
    title = f"embeddings of the {len(names)} most frequent symbols, two principal components"
    units = correlated_units(hidden, text_features(data.vocabulary.decode(tokens)))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # scripts that the font lacks are drawn as boxes
        run.figure("predictions", draw_predictions(p, tokens, data))
        run.figure("embeddings", text_plots.labelled(places, names, kinds, title=title))
        if units and data.level == "char":
            run.figure("units", draw_units(hidden, tokens, units, data))
    for name, (unit, correlation) in units.items():
        say("unit", f"{unit} follows {name}: correlation {correlation:.2f} on text not used to select it")


@torch.inference_mode()
def hidden_states_and_predictions(model: Network, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) tokens -> (N, H) last hidden states, (P, V) next-token probabilities after each of the first P tokens"""
    model.eval()
    hidden, _ = model.hidden(tokens.unsqueeze(1), model.initial_state(1))
    hidden = hidden[:, 0]
    return hidden.cpu(), model.logits(hidden[: LINE + SHOWN]).softmax(1).cpu()


def draw_predictions(p: Tensor, tokens: Tensor, data: Corpus) -> "Figure":
    """Draw a heat map as in the book: the probability of each next token (rows) after each token (columns)."""
    from common.drawing import plots

    newlines = [place for place, symbol in enumerate(data.vocabulary.decode(tokens[:LINE])) if symbol == "\n"]
    start = newlines[0] + 1 if newlines and newlines[0] + 2 < len(tokens) else 0
    p, tokens = p[start : start + SHOWN], tokens[start:]
    targets = tokens[1 : len(p) + 1]
    score = p.amax(0)
    score[targets] = 1  # the true next tokens get a row first
    rows = score.topk(min(SHOWN_SYMBOLS, int((score > 0.02).sum()))).indices.sort().values
    row_of = {int(symbol): row for row, symbol in enumerate(rows)}
    rings = [(column, row_of[int(symbol)]) for column, symbol in enumerate(targets) if int(symbol) in row_of]
    return plots.shades(
        p[:, rows].T,
        [printable(symbol) for symbol in data.vocabulary.decode(rows)],
        [printable(symbol) for symbol in data.vocabulary.decode(tokens[: len(p)])],
        rows="next token",
        columns="text",
        title="probability of the next token; rings: the true next token",
        rings=rings,
    )


def draw_units(hidden: Tensor, tokens: Tensor, units: dict[str, tuple[int, float]], data: Corpus) -> "Figure":
    """Draw a passage of the text coloured by the activations of the correlated units."""
    from common.drawing import text_plots

    middle = len(tokens) // 2  # the second half was not used to select the units
    shown = slice(middle, middle + PASSAGE)
    panels = {
        f"unit {unit}, correlation with {name} {correlation:.2f}": hidden[shown, unit]
        for name, (unit, correlation) in units.items()
    }
    return text_plots.shaded_text(
        [printable(symbol) for symbol in data.vocabulary.decode(tokens[shown])], panels, width=76
    )


def symbol_class(symbol: str, level: Level) -> str:
    """Return the class of a symbol, which is its colour in the embedding plot."""
    if symbol.isdigit():
        return "digits"
    if not symbol[0].isalpha():
        return "punctuation"
    if level == "char" and symbol.lower() in "aeiou":
        return "vowels"
    return "upper case" if symbol[0].isupper() else "lower case"


def printable(symbol: str) -> str:
    """Replace white space by a visible symbol."""
    return {"\n": "⏎", " ": "␣", "\t": "⇥"}.get(symbol, symbol)


def text_features(tokens: list[str]) -> dict[str, Tensor]:
    """N tokens -> for each feature its (N,) value after each token"""
    columns: dict[str, list[float]] = {
        name: [] for name in ("position in the line", "quotes", "brackets", "upper case")
    }
    place, quoted, depth = 0, False, 0
    for token in tokens:
        place = 0 if token == "\n" else place + 1
        quoted = (token == '"') != quoted
        depth = max(0, depth + (token in "([{") - (token in ")]}")) if len(token) == 1 else depth
        features = (place, quoted, depth > 0, token.isupper())
        for column, value in zip(columns.values(), features, strict=True):
            column.append(float(value))
    return {name: torch.tensor(values) for name, values in columns.items()}


def correlated_units(hidden: Tensor, features: dict[str, Tensor]) -> dict[str, tuple[int, float]]:
    """(N, H) hidden states, (N,) values of each feature -> the most correlated unit of each feature, its correlation

    The unit is selected on the first half of the text; the correlation is measured on the second half.
    """
    half = len(hidden) // 2
    units = {}
    for name, values in features.items():
        if half < 2 or min(float(values[:half].std()), float(values[half:].std())) < 0.05:
            continue  # too few occurrences in this text
        unit = int(correlation(hidden[:half], values[:half]).abs().argmax())
        units[name] = unit, float(correlation(hidden[half:, [unit]], values[half:]))
    return units


def correlation(x: Tensor, y: Tensor) -> Tensor:
    """(N, H), (N,) -> (H,) Pearson correlation of each column with y; 0 for a constant column"""
    x, y = x - x.mean(0), y - y.mean()
    return (y @ x) / (x.norm(dim=0) * y.norm()).clamp(min=1e-12)
