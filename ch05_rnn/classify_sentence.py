"""Classify a sentence as positive or negative with a trained network, and show which words decided.

python -m ch05_rnn.classify_sentence "the plot was dull but the acting was never clumsy"

For each word: the probability of a positive sentence after it, and its contribution, by which the log-odds of a
positive sentence decrease if the word is left out. For TextCNN also the n-grams that win the maximum over time.
"""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ch05_rnn.sentences import sentiment
from ch05_rnn.sentences.explanation import Ngram, leave_one_out, winning_ngrams
from ch05_rnn.sentences.textcnn import TextCNN
from common.cli import one_line_errors, parse
from common.config import require
from common.data.text.vocabulary import UNKNOWN, Vocabulary
from common.progress import print_table, say
from common.run_folders.folder import newest_run


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


SHOWN = 12
"""Maximum number of n-grams that are printed."""
CONTRACTION = re.compile(r"(?<=\w)(n't|'(?:s|re|ve|ll|d|m))\b")
"""Contractions that become separate tokens: `it 's`, `does n't`."""


def tokenise(sentence: str) -> list[str]:
    """Split a sentence like the training sentences: lower case, punctuation and contractions as separate tokens."""
    spaced = CONTRACTION.sub(r" \1", sentence.lower().replace("’", "'"))
    return re.findall(r"'(?:s|re|ve|ll|d|m)\b|\w+(?:[-']\w+)*|[^\w\s]", spaced)


def split_unknown(word: str, vocabulary: Vocabulary) -> list[str]:
    """Split an unknown word at its hyphens; some versions of SST-2 have no hyphens."""
    return [word] if word in vocabulary else word.split("-")


def classify(config: Config) -> tuple[list[tuple[str, float, float]], list[Ngram]]:
    """Return each word with the probability of a positive sentence after it and its contribution; TextCNN's n-grams."""
    model, vocabulary, _ = sentiment.restore(config.folder or newest_run(config.out, sentiment))
    words = [part for word in tokenise(config.sentence) for part in split_unknown(word, vocabulary)]
    unknown = [word for word in dict.fromkeys(words) if word not in vocabulary]
    if unknown:
        say("unknown", f"{' '.join(map(repr, unknown))}: read as {UNKNOWN}")
    prefixes = [" ".join(words[: number + 1]) for number in range(len(words))]
    p = sentiment.predict(model, vocabulary, prefixes).softmax(1)[:, 1].tolist()
    contributions = leave_one_out(model, vocabulary, words).tolist()
    ngrams = winning_ngrams(model, vocabulary, " ".join(words)) if isinstance(model, TextCNN) else []
    return list(zip(words, p, contributions, strict=True)), ngrams


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    with one_line_errors():
        flags = sys.argv[1:] if arguments is None else arguments
        config = parse(Config, flags, prog="python -m ch05_rnn.classify_sentence", description=(__doc__ or "").strip())
        words, ngrams = classify(config)
        rows = [(word, f"{100 * p:.1f}", f"{contribution:+.2f}") for word, p, contribution in words]
        print_table(["word", "positive after it, %", "contribution"], rows)
        if ngrams:
            rows = [(ngram.text, ngram.filters, f"{ngram.contribution:+.2f}") for ngram in ngrams[:SHOWN]]
            print_table(["n-gram", "filters", "contribution"], rows, title="maximum over time")


if __name__ == "__main__":
    main()
