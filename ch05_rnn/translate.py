"""Translate dates or sentences with a trained encoder-decoder.

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
    """Texts and the model that translates them."""

    texts: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Texts to translate."""
    max_length: int = 60
    """Maximum length of an output, in tokens."""
    folder: Path | None = None
    """Run folder of seq2seq. Default: the newest finished run."""
    out: Path = Path("runs")
    """Folder that is searched for runs."""

    def __post_init__(self) -> None:
        require_positive(self, "max_length")
        require(all(text.strip() for text in self.texts) and len(self.texts) > 0, "give a text in quotes", "none")


def translate(config: Config) -> list[str]:
    """Translate each text; warn of tokens outside the vocabulary."""
    model, tokeniser, _ = seq2seq.restore(config.folder or newest_run(config.out, seq2seq))
    for text in config.texts:
        tokens = seq2seq.tokenise(text, by_character=tokeniser.by_character)
        unknown = [token for token in dict.fromkeys(tokens) if token not in tokeniser.source]
        if unknown:
            say("unknown", f"{' '.join(map(repr, unknown))} in {text!r}: read as {UNKNOWN}")
    return seq2seq.translate(model, tokeniser, list(config.texts), config.max_length)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    with one_line_errors():
        words = sys.argv[1:] if arguments is None else arguments
        config = parse(Config, words, prog="python -m ch05_rnn.translate", description=(__doc__ or "").strip())
        print_table(["text", "translation"], list(zip(config.texts, translate(config), strict=True)))


if __name__ == "__main__":
    main()
