"""Translate dates or sentences with a trained encoder-decoder.

python -m ch05_rnn.translate "the 3rd of may 1999" "mon nov 3 1997"
python -m ch05_rnn.translate "Der Mann hat den Ball gekauft." --beam 5 --draw alignments.png
"""

import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ch05_rnn.sentences import seq2seq
from ch05_rnn.translation import evaluation, translation
from common.cli import one_line_errors, parse
from common.config import require, require_positive
from common.data.text.vocabulary import UNKNOWN
from common.files import atomic_path, read_json
from common.progress import print_table, say
from common.run_folders.folder import newest_run


@dataclass(frozen=True)
class Config:
    """Texts and the model that translates them."""

    texts: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Texts to translate."""
    beam: int | None = None
    """Beam width of a model of translation; 1 decodes greedily. Default: that of its run."""
    max_length: int = 60
    """Maximum length of an output, in tokens."""
    draw: Path | None = None
    """File for a picture of the attention weights of a model of translation."""
    folder: Path | None = None
    """Run folder of translation or seq2seq. Default: the newest finished run of either."""
    out: Path = Path("runs")
    """Folder that is searched for runs."""

    def __post_init__(self) -> None:
        require_positive(self, "beam", "max_length")
        require(all(text.strip() for text in self.texts) and len(self.texts) > 0, "give a text in quotes", "none")


def translate(config: Config) -> list[str]:
    """Translate each text with the network of the run folder."""
    folder = config.folder or newest_run(config.out, seq2seq, translation)
    path = folder / "config.json"
    if path.is_file() and read_json(path).get("program") == "translation":
        return translate_subwords(config, folder)
    require(config.beam is None, "--beam needs a run of translation; seq2seq decodes greedily", config.beam)
    require(config.draw is None, "--draw needs a run of translation", config.draw)
    return translate_symbols(config, folder)


def translate_symbols(config: Config, folder: Path) -> list[str]:
    """Translate with a run of seq2seq; warn of tokens outside the vocabulary."""
    model, tokeniser, _ = seq2seq.restore(folder)
    for text in config.texts:
        tokens = seq2seq.tokenise(text, by_character=tokeniser.by_character)
        unknown = [token for token in dict.fromkeys(tokens) if token not in tokeniser.source]
        if unknown:
            say("unknown", f"{' '.join(map(repr, unknown))} in {text!r}: read as {UNKNOWN}")
    return seq2seq.translate(model, tokeniser, list(config.texts), config.max_length)


def translate_subwords(config: Config, folder: Path) -> list[str]:
    """Translate with a run of translation, and draw the attention weights if there is a file for them."""
    model, encoding, trained = translation.restore(folder)
    outputs = evaluation.translate(
        model,
        encoding,
        list(config.texts),
        max_length=config.max_length,
        beam=config.beam or trained.beam,
        length_penalty=trained.length_penalty,
    )
    if config.draw is not None:
        figure = evaluation.draw_alignments(model, encoding, list(zip(config.texts, outputs, strict=True)))
        from common.drawing import plots

        with atomic_path(config.draw) as temporary, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # scripts that the font lacks are drawn as boxes
            plots.save(figure, temporary)
        say("saved", str(config.draw))
    return outputs


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    with one_line_errors():
        words = sys.argv[1:] if arguments is None else arguments
        config = parse(Config, words, prog="python -m ch05_rnn.translate", description=(__doc__ or "").strip())
        print_table(["text", "translation"], list(zip(config.texts, translate(config), strict=True)))


if __name__ == "__main__":
    main()
