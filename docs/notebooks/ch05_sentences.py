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
# # Sentences: word order and beam search
#
# A sentence can be classified without word order: logistic regression on the words that occur in it has the log-odds
# $z = b + \sum_j w_j x_j$, where $x_j = 1$ if word $j$ occurs. With bigrams (pairs of neighbouring words) as additional
# features, a part of the order is known.
#
# A generating model needs a search. The probability of a text is a product, $p(y) = \prod_t p(y_t \mid y_{<t})$. Greedy
# decoding takes the most probable token at each step; beam search keeps the $K$ most probable beginnings.
#
# The embedded sentences come from a grammar with known rules ("the plot was not dull but the acting was superb"). The
# questions: which rules can each model learn, what happens if the words of a sentence are shuffled, and when does
# greedy decoding miss the most probable text?

# %%
# %matplotlib inline
import random

import torch

from ch05_rnn.sentences.beam import beam_search
from ch05_rnn.sentences.ngram_regression import NgramRegression
from common.data.text.sentences import load_sentences
from common.drawing import plots

data = load_sentences("grammar")
train, valid = data.train, data.valid
for kind in dict.fromkeys(valid.kinds):
    place = valid.kinds.index(kind)
    print(f"{kind:11} {'positive' if valid.labels[place] else 'negative'}: {valid.texts[place]}")

# %% [markdown]
# ## Which rules can a model without word order learn?
#
# **Before you run the cell:** the orders 1, 2 and 3 use single words, pairs and triples. On which kinds of sentences
# does order 1 stay near 50 %? On which does order 2 help? Is any accuracy far below 50 %?

# %%
models = {
    f"order {order}": NgramRegression.fit(train.texts, train.labels, penalty=1.0, order=order) for order in (1, 2, 3)
}
labels = torch.tensor(valid.labels)
kinds = list(dict.fromkeys(valid.kinds))


def kind_accuracies(model: NgramRegression, texts: list[str]) -> list[float]:
    """Return the accuracy on each kind of sentence."""
    correct = model.predict(texts).argmax(1) == labels
    return [
        float(correct[[place for place, k in enumerate(valid.kinds) if k == kind]].float().mean()) for kind in kinds
    ]


by_kind = {name: kind_accuracies(model, valid.texts) for name, model in models.items()}
plots.bar_groups(kinds, by_kind, title="accuracy on validation sentences", label="accuracy")

# %% [markdown]
# In sentences with *but* or *although*, both opinions occur, and their positions decide which one counts. Single words
# do not contain this information, so order 1 is near 50 %. Negation is similar: no sum of single weights is positive
# for "not dull" and "superb" and negative for "not superb" and "dull". Pairs contain "not dull" as one feature and
# solve negation; triples contain a part of "but the plot was dull". "Unfamiliar" sentences negate an adjective that was
# never negated in the training sentences: no pair is known, the adjective alone decides, and the accuracy is far below
# 50 %.
#
# ## What happens if the words are shuffled?
#
# **Before you run the cell:** every validation sentence is shuffled. Which model does not notice?

# %%
rng = random.Random(0)
shuffled = [" ".join(rng.sample(words, len(words))) for words in (text.split() for text in valid.texts)]
drop = {}
for name, model in models.items():
    before = float((model.predict(valid.texts).argmax(1) == labels).float().mean())
    after = float((model.predict(shuffled).argmax(1) == labels).float().mean())
    drop[name] = before, after
    print(f"{name}: accuracy {before:.3f}, shuffled {after:.3f}")

# %% [markdown]
# Order 1 gives exactly the same predictions, because its features are the same. The others lose what they knew about
# order. Shuffling is a simple test of what a model uses: if the accuracy stays, word order does not matter to it.
#
# ## When does greedy decoding fail?
#
# A small table of probabilities: the first token A has the probability 0.6, B 0.4. After A, four continuations have
# 0.25 each; after B, one has 1.0.
#
# **Before you run the cell:** which text does greedy decoding find, and which is the most probable one?

# %%
PAD, START, END, A, B, C, D, E, F = range(9)
NAMES = ["pad", "start", "end", "A", "B", "C", "D", "E", "F"]
TABLE = torch.full((9, 9), -torch.inf)
for before, after, p in (
    *((START, A, 0.6), (START, B, 0.4)),
    *((A, token, 0.25) for token in (C, D, E, F)),
    (B, C, 1.0),
    *((token, END, 1.0) for token in (C, D, E, F)),
):
    TABLE[before, after] = torch.tensor(p).log()


def next_in_table(
    tokens: torch.Tensor, state: tuple[torch.Tensor, ...]
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """Return the log-probabilities of the next tokens."""
    return TABLE[tokens], state


found = {}
for width in (1, 2, 3):
    tokens, score = beam_search(
        next_in_table, (torch.zeros(1, 1),), width=width, start=START, end=END, pad=PAD, max_length=5
    )
    found[width] = float(score.exp())
    print(f"width {width}: {' '.join(NAMES[token] for token in tokens[0].tolist())}, probability {found[width]:.2f}")

# %% [markdown]
# Greedy decoding starts with A and ends with a probability of 0.15. A beam of 2 keeps B as well and finds 0.40. A wider
# beam cannot help here. In general a wider beam tends to find texts with a higher *score*; whether they are better is
# another question.
#
# ## Why does beam search need a length penalty?
#
# A model that may end at every step: with probability 0.2 it ends, with probability 0.8 it continues with one of the
# tokens A or B (0.7 and 0.1), up to 8 tokens.
#
# **Before you run the cell:** which length does the most probable text have? What changes if the log-probability is
# divided by (length)$^\alpha$?

# %%
ENDING = torch.full((9, 9), -torch.inf)
for before in (START, A, B):
    ENDING[before, END], ENDING[before, A], ENDING[before, B] = torch.tensor([0.2, 0.7, 0.1]).log()
lengths = {}
for penalty in (0.0, 0.5, 1.0):
    tokens, _ = beam_search(
        lambda tokens, state: (ENDING[tokens], state),
        (torch.zeros(1, 1),),
        width=4,
        start=START,
        end=END,
        pad=PAD,
        max_length=8,
        length_penalty=penalty,
    )
    text = [NAMES[token] for token in tokens[0].tolist()]
    lengths[penalty] = len(text)
    print(f"penalty {penalty}: {' '.join(text)}")

# %% [markdown]
# Without a penalty, the empty text wins with the probability 0.2: every additional token multiplies the probability by
# at most 0.7. Dividing by the length compares the mean log-probability per token, and longer texts win. Translation
# models show the same effect with wide beams: the translations become too short.
#
# ## Continue
#
# - The page on [sequences](../../ch05_rnn/SEQUENCES.md) trains an LSTM and a convolutional network on these sentences;
#   the page on [translation](../../ch05_rnn/TRANSLATION.md) uses this beam search.
