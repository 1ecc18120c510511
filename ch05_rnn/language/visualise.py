"""What a language model has learned, in pictures: its predictions, its embeddings, and units that follow something.

Dimensions: N tokens, P the first of them, V symbols, E embedding, H hidden units.
"""

import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ch05_rnn.language.network import LanguageModel
from ch05_rnn.words.vectors import in_two_dimensions
from common.data.text.corpora import Corpus, Level
from common.progress import say
from common.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN, SHOWN_SYMBOLS = 40, 30
"""Tokens whose predictions are drawn, and the most symbols that they are drawn for."""

LINE = 1_000
"""Among so many tokens a line's end is looked for, after which the drawn ones begin."""

PASSAGE = 532
"""Characters that units are drawn over."""

WATCHED = 8_000
"""Tokens on which units are watched: on the first half it is chosen which, the second says how well."""

NAMES = 150
"""Most frequent symbols whose embeddings are drawn."""


def draw(run: Run, data: Corpus, model: LanguageModel) -> None:
    """Draw all of them into the run's folder, and say which units follow what."""
    from common.drawing import text_plots

    tokens = data.valid.tokens[:WATCHED]
    hidden, p = look(model, tokens.to(run.device))
    names = [printable(symbol) for symbol in data.vocabulary.symbols[1 : NAMES + 1]]
    kinds = [kind_of(symbol, data.level) for symbol in data.vocabulary.symbols[1 : NAMES + 1]]
    places = in_two_dimensions(model.embedding.weight[1 : NAMES + 1].detach().cpu())
    title = f"embeddings of the {len(names)} most frequent symbols, along the two directions of most variance"
    found = followers(hidden, features(data.vocabulary.decode(tokens)))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a script that the font does not have: boxes will do
        run.figure("predictions", draw_predictions(p, tokens, data))
        run.figure("embeddings", text_plots.labelled(places, names, kinds, title=title))
        if found and data.level == "char":
            run.figure("units", draw_units(hidden, tokens, found, data))
    for name, (unit, correlation) in found.items():
        say("unit", f"{unit} follows {name}: correlation {correlation:.2f}, on text that it was not chosen on")


@torch.inference_mode()
def look(model: LanguageModel, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) tokens -> (N, H) what the output layer sees after each, (P, V) what it answers after the first ones"""
    model.eval()
    hidden, _ = model.hidden(tokens.unsqueeze(1), model.initial_state(1))
    hidden = hidden[:, 0]
    return hidden.cpu(), model.decoder(hidden[: LINE + SHOWN]).softmax(1).cpu()


def draw_predictions(p: Tensor, tokens: Tensor, data: Corpus) -> "Figure":
    """Draw the output layer as the book does: after each token (columns) the probability of each next one (rows)."""
    from common.drawing import plots

    ends = [place for place, symbol in enumerate(data.vocabulary.decode(tokens[:LINE])) if symbol == "\n"]
    start = ends[0] + 1 if ends and ends[0] + 2 < len(tokens) else 0
    p, tokens = p[start : start + SHOWN], tokens[start:]
    came = tokens[1 : len(p) + 1]
    interesting = p.amax(0)
    interesting[came] = 1  # what really came is shown first
    rows = interesting.topk(min(SHOWN_SYMBOLS, int((interesting > 0.02).sum()))).indices.sort().values
    place = {int(symbol): row for row, symbol in enumerate(rows)}
    rings = [(column, place[int(symbol)]) for column, symbol in enumerate(came) if int(symbol) in place]
    return plots.shades(
        p[:, rows].T,
        [printable(symbol) for symbol in data.vocabulary.decode(rows)],
        [printable(symbol) for symbol in data.vocabulary.decode(tokens[: len(p)])],
        rows="the next",
        columns="the text so far",
        title="how probable each symbol is to come next; rings: what came",
        rings=rings,
    )


def draw_units(hidden: Tensor, tokens: Tensor, found: dict[str, tuple[int, float]], data: Corpus) -> "Figure":
    """Draw a passage of the text in the shades of the units that follow something."""
    from common.drawing import text_plots

    middle = len(tokens) // 2  # from here on is text that the units were not chosen on
    shown = slice(middle, middle + PASSAGE)
    panels = {
        f"unit {unit} follows {name}: correlation {correlation:.2f}": hidden[shown, unit]
        for name, (unit, correlation) in found.items()
    }
    return text_plots.shaded_text(
        [printable(symbol) for symbol in data.vocabulary.decode(tokens[shown])], panels, width=76
    )


def kind_of(symbol: str, level: Level) -> str:
    """Name what a symbol is, to colour it."""
    if symbol.isdigit():
        return "digits"
    if not symbol[0].isalpha():
        return "marks"
    if level == "char" and symbol.lower() in "aeiou":
        return "vowels"
    return "capitals" if symbol[0].isupper() else "small letters"


def printable(symbol: str) -> str:
    """Show white space as what it is."""
    return {"\n": "⏎", " ": "␣", "\t": "⇥"}.get(symbol, symbol)


def features(tokens: list[str]) -> dict[str, Tensor]:
    """Measure what a reader of the text knows after each of N tokens: (N,) each."""
    columns: dict[str, list[float]] = {name: [] for name in ("the place in the line", "quotes", "brackets", "capitals")}
    place, quoted, depth = 0, False, 0
    for token in tokens:
        place = 0 if token == "\n" else place + 1
        quoted = (token == '"') != quoted
        depth = max(0, depth + (token in "([{") - (token in ")]}")) if len(token) == 1 else depth
        known = (place, quoted, depth > 0, token.isupper())
        for column, value in zip(columns.values(), known, strict=True):
            column.append(float(value))
    return {name: torch.tensor(values) for name, values in columns.items()}


def followers(hidden: Tensor, known: dict[str, Tensor]) -> dict[str, tuple[int, float]]:
    """(N, H) hidden states, (N,) measures -> for each measure the unit that goes along with it most, and how much

    The unit is chosen on the first half of the text; its correlation is that on the second.
    """
    half = len(hidden) // 2
    found = {}
    for name, values in known.items():
        if half < 2 or min(float(values[:half].std()), float(values[half:].std())) < 0.05:
            continue  # this text has too little of it
        unit = int(correlation(hidden[:half], values[:half]).abs().argmax())
        found[name] = unit, float(correlation(hidden[half:, [unit]], values[half:]))
    return found


def correlation(x: Tensor, y: Tensor) -> Tensor:
    """(N, H), (N,) -> (H,) Pearson's r of each column with y; 0 for a column that does not change"""
    x, y = x - x.mean(0), y - y.mean()
    return (y @ x) / (x.norm(dim=0) * y.norm()).clamp(min=1e-12)
