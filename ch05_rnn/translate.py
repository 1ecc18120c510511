"""Give a text to the encoder-decoder that seq2seq has trained: a date, or a sentence to translate.

python -m ch05_rnn.translate "the 3rd of may 1999" "mon nov 3 1997"
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ch05_rnn.sentences import seq2seq
from common.cli import one_line_errors, parse
from common.config import require, require_positive
from common.data.text.vocabulary import UNKNOWN
from common.folder import newest_run
from common.progress import print_table, say


@dataclass(frozen=True)
class Config:
    """What is asked, and of which run."""

    texts: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Texts to turn into others."""
    longest: int = 60
    """Symbols after which an answer is cut."""
    folder: Path | None = None
    """Run folder of seq2seq; by default the newest finished one."""
    out: Path = Path("runs")
    """Where runs are looked for."""

    def __post_init__(self) -> None:
        require_positive(self, "longest")
        require(all(text.strip() for text in self.texts) and len(self.texts) > 0, "give a text in quotes", "none")


def translate(config: Config) -> list[str]:
    """Turn each text into what the network makes of it, and say which symbols it has never seen."""
    model, language, _ = seq2seq.restore(config.folder or newest_run(config.out, seq2seq))
    for text in config.texts:
        cut = seq2seq.symbols(text, by_character=language.by_character)
        unknown = [symbol for symbol in dict.fromkeys(cut) if symbol not in language.source]
        if unknown:
            say("unknown", f"{' '.join(map(repr, unknown))} in {text!r}: read as {UNKNOWN}")
    return seq2seq.answer(model, language, list(config.texts), config.longest)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and print the answers."""
    with one_line_errors():
        words = sys.argv[1:] if arguments is None else arguments
        config = parse(Config, words, prog="python -m ch05_rnn.translate", description=(__doc__ or "").strip())
        print_table(["text", "answer"], list(zip(config.texts, translate(config), strict=True)))


if __name__ == "__main__":
    main()
