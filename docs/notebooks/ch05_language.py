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
# # Language models and sampling
#
# A language model assigns a probability to the next character given the previous ones. Its loss on a text
# $w_1 \dots w_N$ is the mean cross-entropy $L = -\frac1N \sum_t \log p(w_t \mid w_{<t})$ in nats per character; its
# perplexity is $e^L$.
#
# The simplest models count. An $n$-gram model estimates the probability from the last $n - 1$ characters. Kneser-Ney
# smoothing subtracts a discount from each count and gives the free probability to the model of order $n - 1$, so that
# unseen continuations are possible.
#
# The questions: how long should the context of a counting model be, what do temperature and top-p change, and can you
# tell from samples which model is better?

# %%
# %matplotlib inline
import math

import torch

from ch05_rnn.language.ngram import KneserNey
from ch05_rnn.language.sampling import sampling_probabilities
from common.data.text.corpora import load_corpus
from common.data.text.vocabulary import UNKNOWN
from common.drawing import plots

corpus = load_corpus("pydoc", limit=120_000)
train, valid = corpus.train.tokens[:60_000].tolist(), corpus.valid.tokens[:4_000].tolist()
symbols = corpus.vocabulary.symbols
print(f"{len(train):,} training characters of Python's help texts, {len(symbols)} different ones")

# %% [markdown]
# ## How long should the context be?
#
# **Before you run the cell:** the order $n$ grows from 1 to 8. What happens to the loss on the training text and on the
# validation text? From which order on is almost nothing gained, and does this change if the training text is ten times
# as short?

# %%
orders = list(range(1, 9))
losses: dict[str, list[float]] = {"training text": [], "validation text": [], "validation, a tenth of the text": []}
for order in orders:
    model = KneserNey(train, len(symbols), order)
    losses["training text"].append(model.loss(train[:4_000]))
    losses["validation text"].append(model.loss(valid))
    losses["validation, a tenth of the text"].append(KneserNey(train[:6_000], len(symbols), order).loss(valid))
enough = {
    name: next(n for n, loss in zip(orders, v, strict=True) if loss < 1.05 * min(v)) for name, v in losses.items()
}
print("smallest order within 5 % of the lowest loss:", enough)
plots.line_panels(
    {"cross-entropy": {name: (orders, values) for name, values in losses.items()}},
    columns=1,
    xlabel="order n",
    ylabel="nats per character",
    marked=tuple(losses),
    size=1.6,
)

# %% [markdown]
# On the training text, each longer context is better, since it identifies the place in the text. On the validation
# text, the loss stops falling: most long contexts were never seen, and the model falls back on the shorter ones. With
# less text this happens at a shorter context and a higher loss. Smoothing makes a too long context cost almost nothing.
# A recurrent network or a Transformer can use more context because similar contexts share parameters instead of being
# counted separately.
#
# ## What does the temperature change?
#
# Sampling with temperature $\tau$ uses $p_i \propto e^{z_i / \tau}$ with the logits $z_i$. The entropy
# $-\sum_i p_i \log p_i$ measures how many choices remain.
#
# **Before you run the cell:** after which of the contexts "the statemen", "the " and "." is the entropy at $\tau = 1$
# largest? Where does it go for $\tau \to 0$ and for large $\tau$?

# %%
model = KneserNey(train, len(symbols), 6)


def next_logits_of(context: str) -> torch.Tensor:
    """Return the logarithms of the probabilities of all next characters."""
    tokens = tuple(corpus.vocabulary.encode(context).tolist())
    return torch.tensor([math.log(model.probability(token, tokens)) for token in range(len(symbols))])


contexts = ("the statemen", "the ", ".")
temperatures = [0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 4.0, 10.0]
entropies: dict[str, list[float]] = {}
for context in contexts:
    logits = next_logits_of(context)
    entropies[repr(context)] = [
        float(torch.special.entr(sampling_probabilities(logits, temperature=t)).sum()) for t in temperatures
    ]
plots.line_panels(
    {
        "entropy of the next character": {
            **{name: (temperatures, values) for name, values in entropies.items()},
            "uniform": (temperatures, [math.log(len(symbols))] * len(temperatures)),
        }
    },
    columns=1,
    xlabel="temperature",
    ylabel="nats",
    log_x=True,
    size=1.6,
)

# %% [markdown]
# For $\tau \to 0$ the entropy goes to 0 (the most probable character), for large $\tau$ to that of the uniform
# distribution. After "the statemen" hardly any choice exists at $\tau = 1$, but a temperature of 4 makes almost every
# character possible there, too. That is why a high temperature destroys words first.
#
# ## What does top-p keep?
#
# Top-p sampling keeps the smallest set of characters whose probabilities sum to at least $p$ and renormalises.
#
# **Before you run the cell:** how many characters are kept with $p = 0.9$ after each of the three contexts? Would top-k
# with $k = 5$ be similar?

# %%
kept = {}
for context in contexts:
    p = sampling_probabilities(next_logits_of(context), top_p=0.9)
    kept[context] = int((p > 0).sum())
    order = p.argsort(descending=True)[:8].tolist()
    shown = ", ".join(f"{symbols[token]!r} {float(p[token]):.2f}" for token in order if p[token] > 0)
    print(f"{context!r:15} keeps {kept[context]:2} characters: {shown}")

# %% [markdown]
# The number adapts to the context: one where the model is sure, many where it is not. Top-k keeps the same number
# everywhere: too many in the first case, too few in the second.
#
# ## Can you tell from samples which model is better?
#
# **Before you run the cell:** the same model writes with temperatures 0.2, 0.8 and 1.5. Which sample looks best? Which
# temperature gives the lowest loss on the validation text?


# %%
def written_text(temperature: float, length: int = 150) -> str:
    """Sample a text from the n-gram model."""
    generator = torch.Generator().manual_seed(0)
    text = "The "
    for _ in range(length):
        logits = next_logits_of(text[-5:])
        logits[corpus.vocabulary.index[UNKNOWN]] = -math.inf
        p = sampling_probabilities(logits, temperature=temperature)
        text += symbols[int(torch.multinomial(p, 1, generator=generator))]
    return " ".join(text.split())


for temperature in (0.2, 0.8, 1.5):
    print(f"temperature {temperature}: {written_text(temperature)}\n")
some = range(100, 700)
logits = torch.stack([next_logits_of("".join(corpus.vocabulary.decode(valid[t - 5 : t]))) for t in some])
targets = torch.tensor([valid[t] for t in some])
by_temperature = {
    t: float(torch.nn.functional.cross_entropy(logits / t, targets)) for t in (0.2, 0.6, 0.8, 1.0, 1.2, 1.5)
}
print("validation loss by temperature:", {t: round(value, 2) for t, value in by_temperature.items()})

# %% [markdown]
# The sample with a low temperature has correct words and repeats itself; with a high temperature, words break. Which
# one looks best is a matter of taste, and it says little about the model: the loss on unseen text is lowest near a
# temperature of 1 and very high at 0.2, because each rare but correct character gets almost no probability. (A minimum
# above 1, as here, means that the model is too sure on unseen text.) Models are therefore compared by their loss, not
# by their samples.
#
# ## Continue
#
# - Compare `KneserNey(train, len(symbols), 6)` with order 3 in the last cell.
# - Chapter 5's [page](../../ch05_rnn/README.md) trains networks on this text; `python -m ch05_rnn.exercises 6` asks for
#   top-p.
