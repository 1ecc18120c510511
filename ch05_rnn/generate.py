"""Let a trained language model write on, or say what comes next.

    python -m ch05_rnn.generate --prompt "ROMEO:" --length 1000
    python -m ch05_rnn.generate --prompt "To be, or not to" --temperature 0.5 --top-p 0.9 --seed 3
    python -m ch05_rnn.generate --prompt "The value of the" --next 5

The network reads the prompt, then its own words, one at a time, as they come. A character or word that it has never
seen is read as unknown, and that is said; it never writes one itself.

Dimensions: T tokens of the prompt, V symbols.
"""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import torch

from ch05_rnn.language import language_model
from ch05_rnn.language.language_model import Config
from ch05_rnn.language.network import LanguageModel
from ch05_rnn.language.sampling import continuation, first_of, next_logits, pieces
from ch05_rnn.language.visualise import printable
from common.cli import one_line_errors, parse
from common.config import require, require_positive
from common.data.text.corpora import words_of
from common.data.text.vocabulary import UNKNOWN, Vocabulary
from common.device import set_threads
from common.folder import newest_run
from common.progress import print_table, say

DOOR = "python -m ch05_rnn.generate"


@dataclass(frozen=True)
class Options:
    """What to write, and how."""

    prompt: str = ""
    """How the text begins; by default at the beginning of a line."""
    length: int = 500
    """How many characters or words to write after the prompt."""
    temperature: float = 0.8
    """Below 1 the probable is written more often than it should, above 1 less; 0 takes the most probable each time."""
    top_k: int | None = None
    """Choose among so many of the most probable."""
    top_p: float = 1.0
    """Choose among the most probable that make up this share together."""
    next: int | None = None
    """Write nothing: list so many of the most probable next characters or words instead."""
    seed: int = 0
    """Seed of the choices."""
    folder: Path | None = None
    """Run folder of the language model; by default the newest finished one."""
    out: Path = Path("runs")
    """Where runs are looked for."""

    def __post_init__(self) -> None:
        require_positive(self, "length", "top_k", "next")
        require(0 <= self.temperature < float("inf"), "--temperature must not be negative", self.temperature)
        require(0 < self.top_p <= 1, "--top-p must be above 0 and at most 1", self.top_p)
        require(0 <= self.seed < 2**63, "--seed must be between 0 and 2^63 - 1", self.seed)


def read_prompt(prompt: str, vocabulary: Vocabulary, config: Config) -> list[str]:
    """Cut a prompt into tokens; say which of them the model does not know.

    Raises ValueError where it knows none.
    """
    tokens = list(prompt) if config.level == "char" else words_of(prompt, config.data)
    unknown = list(dict.fromkeys(token for token in tokens if token not in vocabulary or token == UNKNOWN))
    what = {"char": "characters", "word": "words"}[config.level]
    if tokens and len(unknown) == len(set(tokens)):
        raise ValueError(f"the model knows none of the {what} of {prompt!r}: give it a prompt like what it has read")
    if unknown:
        say("unknown", f"the model has never seen the {what} {' '.join(map(repr, unknown))}: it reads them as unknown")
    return tokens


def generate(
    model: LanguageModel, vocabulary: Vocabulary, config: Config, options: Options, prompt: list[str]
) -> Iterator[str]:
    """Yield the text, prompt first, piece by piece."""
    numbers = continuation(
        model,
        vocabulary,
        numbers_of(prompt, vocabulary),
        generator=torch.Generator().manual_seed(options.seed),
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
    )
    written = islice(numbers, options.length)
    return pieces(chain(prompt, (vocabulary.symbols[number] for number in written)), config.level)


def numbers_of(prompt: list[str], vocabulary: Vocabulary) -> list[int]:
    """Turn a prompt into numbers; without one the text begins after the end of a line."""
    return vocabulary.encode(prompt).tolist() or [first_of(vocabulary)]


def likeliest(model: LanguageModel, vocabulary: Vocabulary, prompt: list[str], count: int) -> list[tuple[str, float]]:
    """List the most probable next symbols, with their probabilities."""
    p = next_logits(model, vocabulary, numbers_of(prompt, vocabulary)).softmax(0)
    best = p.topk(min(count, len(vocabulary) - 1))
    return list(zip(vocabulary.decode(best.indices), best.values.tolist(), strict=True))


def answer(options: Options) -> None:
    """Load a run, and write on or list what comes next."""
    set_threads(1)  # a token at a time is little work: many threads would mostly wait for each other
    folder = options.folder or newest_run(options.out, language_model)
    model, vocabulary, config = language_model.restore(folder)
    say("model", f"{config.cell}, {len(vocabulary):,} symbols, from {folder}")
    prompt = read_prompt(options.prompt, vocabulary, config)
    if options.next is not None:
        rows = [(printable(symbol), f"{p:.2%}") for symbol, p in likeliest(model, vocabulary, prompt, options.next)]
        print_table(["next", "probability"], rows)
        return
    began = time.perf_counter()
    for piece in generate(model, vocabulary, config, options, prompt):
        print(piece, end="", flush=True)
    seconds = time.perf_counter() - began
    print()
    say("speed", f"{options.length:,} {config.level}s in {seconds:.2f} s")


def main(words: list[str] | None = None) -> None:
    """Read the command line."""
    with one_line_errors():
        arguments = sys.argv[1:] if words is None else words
        answer(parse(Options, arguments, prog=DOOR, description=(__doc__ or "").strip()))


if __name__ == "__main__":
    main()
