"""Answer line by line with a trained translation model: translations, or the answers of a dialogue.

    python -m ch05_rnn.train translation --pairs dialogue.tsv    # in each line: text, tab, answer
    python -m ch05_rnn.converse
    python -m ch05_rnn.converse < questions.txt > answers.txt

On a terminal, Ctrl-D ends the conversation. Every line is answered without the earlier ones.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ch05_rnn.translation import evaluation, translation
from common.cli import one_line_errors, parse
from common.config import require_positive
from common.run_folders.folder import newest_run

PROMPT = "> "


@dataclass(frozen=True)
class Config:
    """Model that answers, and its search."""

    folder: Path | None = None
    """Run folder of translation. Default: the newest finished run."""
    beam: int | None = None
    """Beam width; 1 decodes greedily. Default: that of the run."""
    max_length: int = 60
    """Maximum length of an answer, in tokens."""
    out: Path = Path("runs")
    """Folder that is searched for runs."""

    def __post_init__(self) -> None:
        require_positive(self, "beam", "max_length")


def converse(config: Config, lines: Iterable[str]) -> Iterator[str]:
    """Yield the answer to each line; to a blank line, an empty answer."""
    folder = config.folder or newest_run(config.out, translation)
    model, encoding, trained = translation.restore(folder)
    answer = partial(
        evaluation.translate,
        model,
        encoding,
        max_length=config.max_length,
        beam=config.beam or trained.beam,
        length_penalty=trained.length_penalty,
    )
    for text in map(str.strip, lines):
        yield answer([text])[0] if text else ""


def typed_lines() -> Iterator[str]:
    """Yield the lines that are typed at a prompt, up to Ctrl-D."""
    while True:
        try:
            yield input(PROMPT)
        except EOFError:
            print()
            return


def piped_lines() -> Iterator[str]:
    """Yield the lines of standard input; raise ValueError if they are not UTF-8."""
    try:
        yield from sys.stdin
    except UnicodeDecodeError as error:
        raise ValueError(f"standard input is not UTF-8: {error}") from error


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    with one_line_errors():
        words = sys.argv[1:] if arguments is None else arguments
        config = parse(Config, words, prog="python -m ch05_rnn.converse", description=(__doc__ or "").strip())
        for answer in converse(config, typed_lines() if sys.stdin.isatty() else piped_lines()):
            print(answer, flush=True)


if __name__ == "__main__":
    main()
