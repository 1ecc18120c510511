# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Subwords and BLEU
#
# A translation model has a fixed vocabulary. With whole words, a new word is unknown; with bytes, sequences are long.
# Byte-pair encoding (BPE) lies between them: it starts with the 256 bytes and repeatedly merges the most frequent pair
# of neighbouring symbols into a new symbol.
#
# Translations are compared with references by BLEU: the geometric mean of the precisions $p_n$ of $n$-grams
# ($n = 1 \dots 4$), times a penalty for outputs that are shorter than the reference, with the lengths $c$ and $r$:
#
# $$\mathrm{BLEU} = \min\bigl(1, e^{1 - r / c}\bigr) \Bigl(\prod_{n=1}^{4} p_n\Bigr)^{1/4} .$$
#
# The questions: how many merges are useful, what happens to a word that was never seen, and which errors does BLEU
# punish?

# %%
# %matplotlib inline
import random

from ch05_rnn.sentences.bleu import score_by_hand
from ch05_rnn.translation.bpe import BytePairEncoding
from common.data.sentence_pairs.translations import load_translations
from common.drawing import plots

data = load_translations("german")
train, valid = data.train, data.valid
for source, target in list(zip(train.sources, train.targets, strict=True))[:3]:
    print(f"{source}  ->  {target}")

# %% [markdown]
# ## How many merges are useful?
#
# **Before you run the cell:** the number of merges grows from 0 to 3,200. How do the number of symbols per sentence and
# the number of merges actually learned change? The cell learns from 2,000 German sentences.

# %%
texts = [" " + text for text in train.sources[:2_000]]
wanted = [0, 20, 50, 100, 200, 400, 800, 1_600, 3_200]
encodings = {count: BytePairEncoding.learn(texts, count) for count in wanted}
lengths = [
    sum(len(encoding.encode(" " + text)) for text in valid.sources) / len(valid.sources)
    for encoding in encodings.values()
]
words = sum(len(text.split()) for text in valid.sources) / len(valid.sources)
print({count: len(encoding.merges) for count, encoding in encodings.items()})
plots.line_panels(
    {
        "symbols per validation sentence": {
            "byte-pair encoding": (wanted, lengths),
            "words": (wanted, [words] * len(wanted)),
        }
    },
    columns=1,
    xlabel="merges",
    marked=("byte-pair encoding",),
    size=1.5,
)

# %% [markdown]
# The first merges shorten the text most, since they join the most frequent pairs. The curve flattens when the frequent
# words are single symbols. The number of learned merges stops growing when no pair occurs twice.
#
# ## What happens to a word that was never seen?
#
# German joins nouns: *Holz* (wood) and *Tisch* (table) give *Holztisch*. Some compounds occur only in the test
# sentences.
#
# **Before you run the cell:** how is each of these words split with 50 and with 400 merges? What happens to *Zebra* and
# to an emoji, which occur nowhere?

# %%
pieces: dict[str, list[str]] = {}
for word in ("Mann", "Holztisch", "Silberlöffel", "Zebra", "🙂"):
    for count in (50, 400):
        encoding = encodings[count]
        symbols = encoding.encode(" " + word)
        shown = [encoding.spellings[symbol].decode(errors="replace") for symbol in symbols]
        pieces[f"{word} {count}"] = shown
        assert encoding.decode(symbols) == " " + word  # nothing is lost
    print(f"{word:13} 50 merges: {pieces[f'{word} 50']}   400 merges: {pieces[f'{word} 400']}")

# %% [markdown]
# Frequent words become one symbol. Compounds are split into pieces that occur in other words, but not always at the
# border of the two nouns: the merges follow frequencies, not grammar. Unknown words fall back to short pieces and
# bytes. Nothing is ever unknown: every text can be encoded and decoded without loss. A part of a character can be a
# symbol of its own, which is shown as a replacement character here.
#
# ## Which errors does BLEU punish?
#
# The cell damages correct translations in several ways.
#
# **Before you run the cell:** order the damages by BLEU: shuffled words, last word dropped, last word doubled, one word
# replaced in each sentence, and half of the sentences replaced by others.

# %%
rng = random.Random(0)
targets = valid.targets[:300]
references = [[target] for target in targets]


def replace_one(text: str) -> str:
    """Replace a random word of a text."""
    parts = text.split()
    parts[rng.randrange(len(parts))] = "something"
    return " ".join(parts)


damages = {
    "none": targets,
    "last word doubled": [text + " " + text.split()[-1] for text in targets],
    "last word dropped": [" ".join(text.split()[:-1]) for text in targets],
    "one word replaced": [replace_one(text) for text in targets],
    "half of the sentences wrong": [text if n % 2 else targets[n - 1] for n, text in enumerate(targets)],
    "words shuffled": [" ".join(rng.sample(text.split(), len(text.split()))) for text in targets],
    "first four words only": [" ".join(text.split()[:4]) for text in targets],
}
bleu = {name: score_by_hand(outputs, references) for name, outputs in damages.items()}
plots.bars(list(bleu), list(bleu.values()), title="BLEU of damaged translations", label="BLEU")

# %% [markdown]
# One wrong word in the middle of a sentence breaks up to four 4-grams and costs more than a doubled word at the end.
# Shuffled words have perfect unigrams and almost no 4-grams. Four correct words have perfect precisions, and only the
# penalty for short outputs lowers their score. Two translations with the same meaning and different words get a low
# score: BLEU compares strings, not meanings.
#
# ## Is one sentence enough?
#
# **Before you run the cell:** BLEU of a single sentence of five words with one wrong word in the middle: is it near
# 0.8?

# %%
single = score_by_hand(["the man reads a book"], [["the man buys a book"]])
both = score_by_hand(["the man reads a book"], [["the man buys a book", "the man reads a newspaper"]])
print(f"one reference: {single:.2f}, two references: {both:.2f}")

# %% [markdown]
# No 4-gram matches, so the geometric mean is 0. BLEU is a measure of a whole corpus. Several references help, because
# each $n$-gram may match any of them.
#
# ## Continue
#
# - Learn the encoding from the sources and the targets together:
#   `BytePairEncoding.learn([*texts, *train.targets[:2_000]], 400)`.
# - The page on [translation](../../ch05_rnn/TRANSLATION.md) trains models on subwords; `python -m ch05_rnn.exercises 7`
#   asks for BPE.
