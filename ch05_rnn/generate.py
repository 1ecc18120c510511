"""Generate text with a trained language model, or list the most probable next tokens.

    python -m ch05_rnn.generate --prompt "ROMEO:" --length 1000
    python -m ch05_rnn.generate --prompt "To be, or not to" --temperature 0.5 --top-p 0.9 --seed 3
    python -m ch05_rnn.generate --prompt "The value of the" --next 5
    python -m ch05_rnn.generate --length 1000 --no-cache

The network reads the prompt, then its own output, one token at a time. Characters or words outside its vocabulary are
read as <unknown>, with a warning; <unknown> is never generated.

Dimensions: T tokens of the prompt, V vocabulary size.
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
from ch05_rnn.language.network import Network
from ch05_rnn.language.sampling import detokenise, generate_tokens, next_logits, start_token
from ch05_rnn.language.visualise import printable
from common.cli import one_line_errors, parse
from common.config import require, require_positive
from common.data.text.corpora import words_of
from common.data.text.vocabulary import UNKNOWN, Vocabulary
from common.device import set_threads
from common.progress import print_table, say
from common.run_folders.folder import newest_run

PROGRAM = "python -m ch05_rnn.generate"


@dataclass(frozen=True)
class Options:
    """Options of text generation."""

    prompt: str = ""
    """Text that the model continues. Default: empty, at the start of a line."""
    length: int = 500
    """Number of characters or words to generate after the prompt."""
    temperature: float = 0.8
    """Softmax temperature: lower values make probable tokens more probable, 0 always takes the most probable."""
    top_k: int | None = None
    """Sample from the K most probable tokens only."""
    top_p: float = 1.0
    """Sample from the smallest set of tokens whose probabilities sum to at least P (nucleus sampling)."""
    next: int | None = None
    """List the N most probable next tokens instead of generating text."""
    cache: bool = True
    """Carry the state from token to token: in a Transformer, keys and values of the last tokens. With --no-cache the
    whole text is read again for each token; the logits are the same, the time is not."""
    seed: int = 0
    """Random seed of the sampling."""
    folder: Path | None = None
    """Run folder of the language model. Default: the newest finished run."""
    out: Path = Path("runs")
    """Folder that is searched for runs."""

    def __post_init__(self) -> None:
        require_positive(self, "length", "top_k", "next")
        require(0 <= self.temperature < float("inf"), "--temperature must not be negative", self.temperature)
        require(0 < self.top_p <= 1, "--top-p must be above 0 and at most 1", self.top_p)
        require(0 <= self.seed < 2**63, "--seed must be between 0 and 2^63 - 1", self.seed)


def read_prompt(prompt: str, vocabulary: Vocabulary, config: Config) -> list[str]:
    """Split a prompt into tokens; warn of tokens outside the vocabulary.

    Raises ValueError if all of them are.
    """
    tokens = list(prompt) if config.level == "char" else words_of(prompt, config.data)
    unknown = list(dict.fromkeys(token for token in tokens if token not in vocabulary or token == UNKNOWN))
    what = {"char": "characters", "word": "words"}[config.level]
    if tokens and len(unknown) == len(set(tokens)):
        raise ValueError(f"none of the {what} of --prompt {prompt!r} is in the model's vocabulary: take another prompt")
    if unknown:
        say("unknown", f"{what} outside the vocabulary, read as {UNKNOWN}: {' '.join(map(repr, unknown))}")
    return tokens


def generate(
    model: Network, vocabulary: Vocabulary, config: Config, options: Options, prompt: list[str]
) -> Iterator[str]:
    """Yield the prompt and the generated text, token by token."""
    generated = generate_tokens(
        model,
        vocabulary,
        encode_prompt(prompt, vocabulary),
        generator=torch.Generator().manual_seed(options.seed),
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        cached=options.cache,
    )
    symbols = (vocabulary.symbols[token] for token in islice(generated, options.length))
    return detokenise(chain(prompt, symbols), config.level)


def encode_prompt(prompt: list[str], vocabulary: Vocabulary) -> list[int]:
    """Encode a prompt; an empty prompt becomes the start token."""
    return vocabulary.encode(prompt).tolist() or [start_token(vocabulary)]


def most_probable(model: Network, vocabulary: Vocabulary, prompt: list[str], count: int) -> list[tuple[str, float]]:
    """Return the most probable next tokens and their probabilities."""
    p = next_logits(model, vocabulary, encode_prompt(prompt, vocabulary)).softmax(0)
    best = p.topk(min(count, len(vocabulary) - 1))
    return list(zip(vocabulary.decode(best.indices), best.values.tolist(), strict=True))


def run_command(options: Options) -> None:
    """Load a model and print generated text or the most probable next tokens."""
    set_threads(1)  # one token at a time is too little work for several threads
    folder = options.folder or newest_run(options.out, language_model)
    model, vocabulary, config = language_model.restore(folder)
    kind = config.cell if config.network == "recurrent" else config.network
    say("model", f"{kind}, vocabulary of {len(vocabulary):,}, from {folder}")
    prompt = read_prompt(options.prompt, vocabulary, config)
    if options.next is not None:
        rows = [(printable(symbol), f"{p:.2%}") for symbol, p in most_probable(model, vocabulary, prompt, options.next)]
        print_table(["next token", "probability"], rows)
        return
    start = time.perf_counter()
    for piece in generate(model, vocabulary, config, options, prompt):
        print(piece, end="", flush=True)
    seconds = time.perf_counter() - start
    print()
    rate = options.length / seconds
    say("speed", f"{options.length:,} {config.level}s in {seconds:.2f} s, {rate:,.0f} {config.level}s/s")


def main(words: list[str] | None = None) -> None:
    """Run the command line."""
    with one_line_errors():
        arguments = sys.argv[1:] if words is None else words
        run_command(parse(Options, arguments, prog=PROGRAM, description=(__doc__ or "").strip()))


if __name__ == "__main__":
    main()
