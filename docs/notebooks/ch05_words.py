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
# # Word vectors from counts
#
# Words that occur in similar contexts have similar meanings. Let $X_{ij}$ be the number of times word $j$ occurs near
# word $i$. The positive pointwise mutual information compares it with the number expected by chance:
#
# $$M_{ij} = \max\Bigl(0, \log \frac{p(i, j)}{p(i)\, p(j)}\Bigr).$$
#
# A singular value decomposition $M \approx U S V^\top$ with $D$ singular values gives each word a vector, a row of
# $U \sqrt S$. Word2vec with negative sampling factorises a similar matrix by stochastic gradient descent (Levy &
# Goldberg 2014); the counts need no training.
#
# Analogies test the vectors: *king* is to *queen* as *prince* is to what? With the vectors $v_k$, $v_q$ and $v_p$ of
# these words, the answer is the word nearest to $v_q - v_k + v_p$. The embedded corpus is generated, so that the right
# answers are known.
#
# The questions: why not factorise the counts themselves, how many dimensions are needed, and what does the window
# change?

# %%
# %matplotlib inline
from ch05_rnn.words.contexts import keep_probability
from ch05_rnn.words.cooccurrence import Counts, count_pairs, factorise, positive_pmi
from ch05_rnn.words.evaluation import analogy_accuracy, known_questions, word_maps
from ch05_rnn.words.vectors import Vectors
from common.data.words.lines import load_text
from common.drawing import plots, text_plots

text = load_text("planted", limit=60_000)
vocabulary = text.vocabulary
questions, _ = known_questions(vocabulary)
print(f"{len(text.train.tokens):,} words, {len(vocabulary)} different ones, {len(questions)} analogy questions")
print("for example:", " ".join(vocabulary.decode(text.train.tokens[:20])))

# %% [markdown]
# ## Why not factorise the counts themselves?
#
# **Before you run the cell:** the most frequent words are *the*, *a* and the like. Which words will be nearest to
# *king* if the vectors come from the raw counts? And from the logarithms $\log(1 + X)$, and from the mutual
# information?

# %%
counts = count_pairs(text.train.tokens, text.train.line_numbers, len(vocabulary), 5)
matrices = {
    "counts": counts,
    "log(1 + counts)": Counts(counts.rows, counts.columns, counts.values.log1p()),
    "mutual information": positive_pmi(counts, len(vocabulary)),
}
accuracy = {}
for name, matrix in matrices.items():
    vectors = Vectors(vocabulary.symbols, factorise(matrix, len(vocabulary), 64))
    accuracy[name] = analogy_accuracy(vectors, questions)["accuracy"]
    near = ", ".join(word for word, _ in vectors.nearest("king", 5))
    print(f"{name:20} analogies {accuracy[name]:.2f}   near king: {near}")

# %% [markdown]
# The largest counts belong to frequent words, and the decomposition minimises squared errors: the first directions
# describe how often a word occurs near *the*. Mutual information divides by the frequencies, so that a rare and typical
# neighbour counts more than a frequent and uninformative one.
#
# ## How many dimensions are needed?
#
# **Before you run the cell:** the corpus has a few families of relations (gender, tense, country and so on). What
# happens to the accuracy with 4, 16, 64 and 200 dimensions? Is more always better?

# %%
sizes = [2, 4, 8, 16, 32, 64, 128, 200]
full = factorise(matrices["mutual information"], len(vocabulary), max(sizes))
by_size = [analogy_accuracy(Vectors(vocabulary.symbols, full[:, :size]), questions)["accuracy"] for size in sizes]
print(dict(zip(sizes, [round(value, 2) for value in by_size], strict=True)))
plots.line_panels(
    {"accuracy on analogies": {"mutual information": (sizes, by_size)}},
    columns=1,
    xlabel="dimensions",
    log_x=True,
    marked=("mutual information",),
    ylim=(0, 1),
    size=1.5,
)

# %% [markdown]
# With a few dimensions, different concepts must share directions. The accuracy rises steeply between 16 and 128
# dimensions; the last directions contain mostly noise of the counts and do not help.
#
# ## What does the window change?
#
# **Before you run the cell:** a window of 1 counts only direct neighbours. Will the neighbours of *loudest* be words of
# the same form (*fastest*) or of the same concept (*loud*)?

# %%
by_window = {}
for window in (1, 2, 5, 10):
    near_counts = count_pairs(text.train.tokens, text.train.line_numbers, len(vocabulary), window)
    vectors = Vectors(vocabulary.symbols, factorise(positive_pmi(near_counts, len(vocabulary)), len(vocabulary), 64))
    by_window[window] = analogy_accuracy(vectors, questions)["accuracy"]
    near = ", ".join(word for word, _ in vectors.nearest("loudest", 4))
    print(f"window {window:2}: analogies {by_window[window]:.2f}   near loudest: {near}")

# %% [markdown]
# A window of 1 sees only grammar: words of the same form have the same direct neighbours. An analogy needs both the
# form and the concept, and the words that identify the concept stand further away.
#
# ## What does a relation look like?
#
# **Before you run the cell:** in two dimensions, will the lines from *king* to *queen* and from *prince* to *princess*
# be parallel?

# %%
vectors = Vectors(vocabulary.symbols, full[:, :64])
text_plots.word_maps(dict(list(word_maps(vectors).items())[:2]))

# %% [markdown]
# Most of them are nearly parallel: the two forms of each concept differ by the same context words. That is why the
# difference of two vectors can be added to a third one.
#
# ## How often is a frequent word kept?
#
# Word2vec drops occurrences of a word with the relative frequency $f$ at random and keeps them with the probability
# $\min(1, \sqrt{t / f})$.
#
# **Before you run the cell:** which share of all words is kept with $t = 10^{-3}$?

# %%
frequency = text.train.tokens.bincount(minlength=len(vocabulary))
keep = keep_probability(frequency, 1e-3)
share = float((keep * frequency).sum() / frequency.sum())
most = frequency.argsort(descending=True)[:5].tolist()
print({vocabulary.symbols[word]: f"keeps {float(keep[word]):.0%}" for word in most}, f"all words: {share:.0%}")

# %% [markdown]
# About half of them. The most frequent word keeps less than a tenth of its occurrences and a rare word all of them, so
# that windows contain more informative words.
#
# ## Continue
#
# - Change `load_text("planted", limit=60_000)` to a smaller limit: which relation is lost first?
# - The page on [word vectors](../../ch05_rnn/WORDS.md) compares these vectors with word2vec, GloVe and fastText;
#   `python -m ch05_rnn.exercises 8` asks for the loss of negative sampling.
