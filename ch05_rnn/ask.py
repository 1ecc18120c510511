"""Answer a question about a story with a trained memory network, and show which statements each hop reads.

python -m ch05_rnn.ask --story "Mary went to the kitchen. John took the milk." "Where is Mary?"
"""

import difflib
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ch05_rnn.memory import memory_network
from ch05_rnn.memory.encoding import StoryEncoder, tokenise, unknown_words
from ch05_rnn.memory.visualise import Reading, read
from common.cli import one_line_errors, parse
from common.config import require
from common.data.text.stories import Question
from common.device import set_threads
from common.progress import print_table, say
from common.run_folders.folder import newest_run


@dataclass(frozen=True)
class Config:
    """A story, a question, and the network that answers it."""

    question: Annotated[str, tyro.conf.Positional]
    """Question in quotes."""
    story: str
    """Statements in quotes, each with a full stop at its end, in the order of time."""
    folder: Path | None = None
    """Run folder of memory_network. Default: the newest finished run."""
    out: Path = Path("runs")
    """Folder that is searched for runs."""

    def __post_init__(self) -> None:
        require(bool(tokenise(self.question)), "give a question in quotes", repr(self.question))
        require(bool(split_sentences(self.story)), "--story must have at least one statement", repr(self.story))


def split_sentences(text: str) -> list[str]:
    """Split a text at full stops, question marks, exclamation marks and ends of lines."""
    return [part.strip() for part in re.findall(r"[^.!?\n]+[.!?]?", text) if tokenise(part)]


def check_words(texts: Sequence[str], encoder: StoryEncoder) -> None:
    """Raise ValueError, with the most similar known words, if a word is not in the vocabulary of the network."""
    known = [symbol for symbol in encoder.vocabulary.symbols if tokenise(symbol) == [symbol]]
    unknown = unknown_words(" ".join(texts), encoder.vocabulary)
    hints = []
    for word in unknown:
        near = difflib.get_close_matches(word, known, n=1)
        hints.append(f"{word!r}" + (f" (did you mean {near[0]!r}?)" if near else ""))
    if hints:
        raise ValueError(f"the network was trained on stories without the words {', '.join(hints)}")


def ask(config: Config) -> tuple[Reading, StoryEncoder, memory_network.Config]:
    """Answer the question; the reading holds the probabilities and the attention weights."""
    network, encoder, settings = memory_network.restore(config.folder or newest_run(config.out, memory_network))
    statements = split_sentences(config.story)
    check_words([*statements, config.question], encoder)
    dropped = len(statements) - encoder.memory_size
    if dropped > 0:
        say(
            "dropped",
            f"the {dropped} oldest statements: the network was trained with --memory-size {encoder.memory_size}",
        )
    question = Question(tuple(statements[-encoder.memory_size :]), config.question, answer="", supporting=())
    return read(network, encoder, [question])[0], encoder, settings


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    with one_line_errors():
        words = sys.argv[1:] if arguments is None else arguments
        config = parse(Config, words, prog="python -m ch05_rnn.ask", description=(__doc__ or "").strip())
        set_threads(1)
        reading, encoder, settings = ask(config)
        say("answer", f"{reading.predicted(encoder)}, probability {float(reading.p.max()):.3f}")
        hops = [f"hop {hop + 1}" for hop in range(reading.attention.shape[1])]
        rows = [
            [statement, *(f"{100 * weight:.1f}" for weight in weights)]
            for statement, weights in zip(reading.question.story, reading.attention.tolist(), strict=True)
        ]
        if settings.network == "end_to_end" and settings.empty_memory:
            rows.append(
                ["(empty memory)", *(f"{100 * max(0.0, 1 - total):.1f}" for total in reading.attention.sum(0).tolist())]
            )
        print_table(["statement", *hops], rows, title="attention, %")


if __name__ == "__main__":
    main()
