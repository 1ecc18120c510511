"""Classify a sentence as positive or negative with a trained bidirectional LSTM, after each word.

python -m ch05_rnn.classify_sentence "the plot was dull but the acting was never clumsy"
"""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ch05_rnn.sentences import sentiment
from common.cli import one_line_errors, parse
from common.config import require
from common.data.text.vocabulary import UNKNOWN
from common.folder import newest_run
from common.progress import print_table, say


@dataclass(frozen=True)
class Config:
    """A sentence and the model that classifies it."""

    sentence: Annotated[str, tyro.conf.Positional]
    """Sentence in quotes."""
    folder: Path | None = None
    """Run folder of sentiment. Default: the newest finished run."""
    out: Path = Path("runs")
    """Folder that is searched for runs."""

    def __post_init__(self) -> None:
        require(bool(tokenise(self.sentence)), "give a sentence in quotes", repr(self.sentence))


CONTRACTION = re.compile(r"(?<=\w)(n't|'(?:s|re|ve|ll|d|m))\b")
"""Contractions that become separate tokens: `it 's`, `does n't`."""


def tokenise(sentence: str) -> list[str]:
    """Split a sentence like the training sentences: lower case, punctuation and contractions as separate tokens."""
    spaced = CONTRACTION.sub(r" \1", sentence.lower().replace("’", "'"))
    return re.findall(r"'(?:s|re|ve|ll|d|m)\b|\w+(?:[-']\w+)*|[^\w\s]", spaced)


def classify(config: Config) -> list[tuple[str, float]]:
    """Return each word with the probability of a positive sentence after it."""
    model, vocabulary, _ = sentiment.restore(config.folder or newest_run(config.out, sentiment))
    words = tokenise(config.sentence)
    unknown = [word for word in dict.fromkeys(words) if word not in vocabulary]
    if unknown:
        say("unknown", f"{' '.join(map(repr, unknown))}: read as {UNKNOWN}")
    prefixes = [" ".join(words[: number + 1]) for number in range(len(words))]
    p = sentiment.predict(model, vocabulary, prefixes).softmax(1)[:, 1]
    return list(zip(words, p.tolist(), strict=True))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    with one_line_errors():
        flags = sys.argv[1:] if arguments is None else arguments
        config = parse(Config, flags, prog="python -m ch05_rnn.classify_sentence", description=(__doc__ or "").strip())
        rows = [(word, f"{100 * p:.1f}") for word, p in classify(config)]
        print_table(["after word", "positive, %"], rows)


if __name__ == "__main__":
    main()
