"""Ask the BiLSTM that sentiment has trained whether a sentence praises, word by word.

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
    """What is asked, and of which run."""

    sentence: Annotated[str, tyro.conf.Positional]
    """A sentence in quotes."""
    folder: Path | None = None
    """Run folder of sentiment; by default the newest finished one."""
    out: Path = Path("runs")
    """Where runs are looked for."""

    def __post_init__(self) -> None:
        require(bool(words_of(self.sentence)), "give a sentence in quotes", repr(self.sentence))


CONTRACTION = re.compile(r"(?<=\w)(n't|'(?:s|re|ve|ll|d|m))\b")
"""What is cut off a word: `it 's`, `does n't`."""


def words_of(sentence: str) -> list[str]:
    """Cut a sentence as the training sentences are: lower case, punctuation marks and contractions on their own."""
    spaced = CONTRACTION.sub(r" \1", sentence.lower().replace("’", "'"))
    return re.findall(r"'(?:s|re|ve|ll|d|m)\b|\w+(?:[-']\w+)*|[^\w\s]", spaced)


def judge(config: Config) -> list[tuple[str, float]]:
    """Give each word with how probable praise is once it is read."""
    model, vocabulary, _ = sentiment.restore(config.folder or newest_run(config.out, sentiment))
    words = words_of(config.sentence)
    unknown = [word for word in dict.fromkeys(words) if word not in vocabulary]
    if unknown:
        say("unknown", f"{' '.join(map(repr, unknown))}: read as {UNKNOWN}")
    so_far = [" ".join(words[: number + 1]) for number in range(len(words))]
    praise = sentiment.predict(model, vocabulary, so_far).softmax(1)[:, 1]
    return list(zip(words, praise.tolist(), strict=True))


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and print the verdicts."""
    with one_line_errors():
        given = sys.argv[1:] if arguments is None else arguments
        config = parse(Config, given, prog="python -m ch05_rnn.classify_sentence", description=(__doc__ or "").strip())
        rows = [(word, f"{100 * share:.1f}") for word, share in judge(config)]
        print_table(["read up to", "praise, %"], rows)


if __name__ == "__main__":
    main()
