"""References, cases and hints of the exercises of chapter 5."""

import math
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from random import Random

import torch
from torch import Tensor
from torch.nn import functional as F

from common.exercises.exercise import Arguments, Case, Exercise, integers, vector


def matrix(*rows: list[float]) -> Tensor:
    """Return a float64 matrix."""
    return torch.tensor(rows, dtype=torch.float64)


def allowed(*rows: list[int]) -> Tensor:
    """Return a matrix of booleans."""
    return torch.tensor(rows, dtype=torch.bool)


# 1: causal mask


def mask_by_definition(queries: int, keys: int, context: int) -> Tensor:
    """Expected mask, element by element."""
    rows = [[t - context < s <= t for s in range(keys)] for t in range(keys - queries, keys)]
    return torch.tensor(rows, dtype=torch.bool)


def wrong_mask(*, shift: bool = True, window: int = 0, own: int = 0, windowed: bool = True) -> Callable[..., Tensor]:
    """Make a wrong function: query positions from 0, another window, or without the token itself."""

    def wrong(queries: int, keys: int, context: int) -> Tensor:
        t = torch.arange(queries)[:, None] + (keys - queries if shift else 0)
        s = torch.arange(keys)
        return (s <= t - own) & ((s > t - context - window) | (not windowed))

    return wrong


def sample_mask(generator: Random, size: int) -> Arguments:
    """Random numbers of queries and keys, and a random context."""
    keys = generator.randint(1, size + 1)
    return {"queries": generator.randint(1, keys), "keys": keys, "context": generator.randint(1, size + 1)}


CAUSAL_MASK = Exercise(
    file="ex1_causal_mask",
    function="causal_mask",
    reference=mask_by_definition,
    cases=(
        Case({"queries": 1, "keys": 1, "context": 1}, "a token attends to itself"),
        Case({"queries": 2, "keys": 2, "context": 2}, "the first token must not read the second"),
        Case({"queries": 1, "keys": 2, "context": 2}, "the only query is the last token: it attends to both keys"),
        Case({"queries": 2, "keys": 2, "context": 1}, "with C = 1 a token attends to itself only"),
        Case({"queries": 1, "keys": 3, "context": 1}, "with C = 1 a token attends to itself only"),
        Case({"queries": 1, "keys": 3, "context": 2}, "with C = 2 a token attends to itself and the one before"),
    ),
    sample=sample_mask,
    hint=(
        "Make a column of the query positions and a row of the key positions with `torch.arange`, and compare them. "
        "The queries are the last T of S tokens."
    ),
    mistakes={
        "the queries are the last T tokens, so the first query has the position S - T": wrong_mask(shift=False),
        "the window is too long by one token: s > t - C": wrong_mask(window=1),
        "a token attends to itself, too: s <= t": wrong_mask(own=1),
        "the context C limits how far a query looks back": wrong_mask(windowed=False),
    },
)

# 2: attention


def attention_of_torch(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Expected outputs by PyTorch's function."""
    return F.scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=mask[None])[0]


def attended(q: list, k: list, v: list, mask: list) -> Arguments:
    """Arguments of attention."""
    return {"q": matrix(*q), "k": matrix(*k), "v": matrix(*v), "mask": allowed(*mask)}


def sample_attended(generator: Random, size: int) -> Arguments:
    """Random queries, keys and values, and a causal mask."""
    steps, features = generator.randint(1, min(size, 3)), generator.randint(1, 2)
    values = {name: integers(generator, steps, features, low=-2, high=2) for name in ("q", "k", "v")}
    return {**values, "mask": torch.ones(steps, steps, dtype=torch.bool).tril()}


def masked_afterwards(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Typical mistake: the mask after the softmax."""
    return torch.softmax(q @ k.mT / math.sqrt(q.shape[1]), 1) * mask @ v


def zero_scores(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Typical mistake: a score of 0 instead of minus infinity."""
    return torch.softmax(q @ k.mT / math.sqrt(q.shape[1]) * mask, 1) @ v


def unscaled(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Typical mistake: without the root of D."""
    return torch.softmax((q @ k.mT).masked_fill(~mask, -math.inf), 1) @ v


def unmasked(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG001  # the signature of the exercise
    """Typical mistake: no mask."""
    return torch.softmax(q @ k.mT / math.sqrt(q.shape[1]), 1) @ v


ATTENTION = Exercise(
    file="ex2_attention",
    function="attention",
    reference=attention_of_torch,
    cases=(
        Case(attended([[1]], [[1]], [[4]], [[1]]), "one key has the weight 1"),
        Case(attended([[0]], [[1], [2]], [[2], [4]], [[1, 1]]), "equal scores: the mean of both values"),
        Case(attended([[0]], [[1], [2]], [[2], [4]], [[1, 0]]), "the weight of the only attended key is 1"),
        Case(
            attended([[1]], [[0], [1]], [[2], [4]], [[1, 0]]), "the score of a key that is not attended does not matter"
        ),
        Case(attended([[2, 0]], [[0, 1], [2, 1]], [[0, 2], [1, 0]], [[1, 1]]), "the scores are divided by sqrt(D)"),
    ),
    sample=sample_attended,
    hint="Print the sums of the rows of the weights. What must a score be, so that its exponential is 0?",
    mistakes={
        "the weights of the attended keys do not add up to 1: mask the scores before the softmax": masked_afterwards,
        "a score of 0 still has the exponential 1; minus infinity has 0": zero_scores,
        "the scores must be divided by sqrt(D)": unscaled,
        "the mask is not used": unmasked,
    },
)

# 3: backpropagation through time


def backward_by_autograd(h: Tensor, weight: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
    """Expected gradients: run the network again with the inputs that lead to these states."""
    before = torch.cat([torch.zeros_like(h[:1]), h[:-1]])
    u = (torch.atanh(h) - before @ weight.mT).requires_grad_()
    weight = weight.clone().requires_grad_()
    state, states = torch.zeros_like(h[0]), []
    for row in u:
        state = torch.tanh(row + weight @ state)
        states.append(state)
    by_input, by_weight = torch.autograd.grad((torch.stack(states) * delta).sum(), (u, weight), materialize_grads=True)
    return by_input, by_weight


def recurrent(h: list, weight: list, delta: list) -> Arguments:
    """Arguments of the backward pass."""
    return {"h": matrix(*h), "weight": matrix(*weight), "delta": matrix(*delta)}


def sample_recurrent(generator: Random, size: int) -> Arguments:
    """Random states of at most two units."""
    steps, units = generator.randint(1, min(size, 3)), generator.randint(1, min(size, 2))
    h = integers(generator, steps, units, low=-1, high=1) / 2
    return {"h": h, "weight": integers(generator, units, units), "delta": integers(generator, steps, units)}


def wrong_backward(
    *, recursion: bool = True, transposed: bool = True, slope: int = 2, previous: bool = True
) -> Callable[..., tuple[Tensor, Tensor]]:
    """Make a wrong function."""

    def wrong(h: Tensor, weight: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
        da, following = torch.zeros_like(h), torch.zeros_like(h[0])
        for t in reversed(range(len(h))):
            through = (weight.mT if transposed else weight) @ following
            following = (delta[t] + through * recursion) * (1 - h[t] ** slope)
            da[t] = following
        return da, da[1:].mT @ h[:-1] if previous else da.mT @ h

    return wrong


BPTT = Exercise(
    file="ex3_bptt",
    function="backward",
    reference=backward_by_autograd,
    results=("da", "dW"),
    cases=(
        Case(recurrent([[0]], [[1]], [[1]]), "one step with h = 0: the derivative of tanh is 1"),
        Case(recurrent([[0.5]], [[1]], [[1]]), "h = 0.5: the derivative of tanh is 1 - h^2 = 0.75"),
        Case(recurrent([[0], [0]], [[2]], [[0], [1]]), "the gradient of the second step reaches the first through W"),
        Case(recurrent([[0.5], [0]], [[0]], [[0], [1]]), "dW contains da_2 h_1; h_0 is 0"),
        Case(recurrent([[0, 0], [0, 0]], [[0, 1], [0, 0]], [[0, 0], [1, 0]]), "a_1 contains the second state: use W^T"),
    ),
    sample=sample_recurrent,
    hint=(
        "Go through the steps from the last to the first and keep da of the following step in a variable, at first 0. "
        "The derivative of tanh(a) is 1 - tanh(a)^2."
    ),
    mistakes={
        "the gradient through the next step is missing": wrong_backward(recursion=False),
        "a_(t+1) contains W h_t, so its gradient goes back through W^T": wrong_backward(transposed=False),
        "the derivative of tanh is 1 - h^2": wrong_backward(slope=1),
        "W is multiplied with the previous state: dW contains h_(t-1), and h_0 = 0": wrong_backward(previous=False),
    },
)

# 4: gradient norm


def clipped_by_vector(gradients: list[Tensor], c: float) -> list[Tensor]:
    """Expected gradients, from one long vector."""
    joined = torch.cat([g.flatten() for g in gradients])
    joined = F.normalize(joined, dim=0) * c if joined.norm() > c else joined
    parts = joined.split([g.numel() for g in gradients])
    return [part.reshape(g.shape) for part, g in zip(parts, gradients, strict=True)]


def sample_gradients(generator: Random, size: int) -> Arguments:
    """Random gradients of at most three parameters; the first element is not 0."""
    gradients = [integers(generator, generator.randint(1, 2)) for _ in range(min(size, 3))]
    gradients[0][0] = 1
    return {"gradients": gradients, "c": float(generator.randint(1, 5))}


GRADIENT_NORM = Exercise(
    file="ex4_gradient_norm",
    function="clip",
    reference=clipped_by_vector,
    tolerance=2e-6,  # some implementations add 1e-6 to the norm
    cases=(
        Case({"gradients": [vector(2)], "c": 1.0}, "the norm 2 is scaled to 1"),
        Case({"gradients": [vector(1)], "c": 2.0}, "a small gradient stays as it is"),
        Case({"gradients": [vector(3, 4)], "c": 1.0}, "the norm of (3, 4) is 5"),
        Case({"gradients": [vector(3), vector(4)], "c": 1.0}, "the norm of both tensors together is 5"),
        Case({"gradients": [vector(-6), vector(0.0, 8)], "c": 5.0}, "the direction remains the same"),
    ),
    sample=sample_gradients,
    hint="Add the squares of all elements of all tensors, take the root, and compute one factor for all of them.",
    mistakes={
        "each tensor is scaled by its own norm; this changes the direction of the step": lambda gradients, c: [
            clipped_by_vector([g], c)[0] if g.any() else g for g in gradients
        ],
        "each element is clipped; this changes the direction of the step": lambda gradients, c: [
            g.clamp(-c, c) for g in gradients
        ],
        "small gradients are enlarged: the factor is at most 1": lambda gradients, c: [
            g * c / torch.cat([other.flatten() for other in gradients]).norm() for g in gradients
        ],
    },
)

# 5: perplexity


def perplexity_of_tokens(losses: Tensor, mask: Tensor) -> float:
    """Expected perplexity from a list of all tokens."""
    tokens = [loss for row, real in zip(losses.tolist(), mask.tolist(), strict=True) for loss in map_real(row, real)]
    return math.exp(sum(tokens) / len(tokens))


def map_real(row: list[float], real: list[bool]) -> list[float]:
    """Return the losses that are not padding."""
    return [loss for loss, is_real in zip(row, real, strict=True) if is_real]


def sample_sentences(generator: Random, size: int) -> Arguments:
    """Random losses of at most three sentences."""
    rows, steps = generator.randint(1, min(size, 3)), generator.randint(1, size)
    lengths = torch.tensor([generator.randint(1, steps) for _ in range(rows)])
    losses = integers(generator, rows, steps, low=0, high=3)
    return {"losses": losses, "mask": torch.arange(steps) < lengths[:, None]}


PERPLEXITY = Exercise(
    file="ex5_perplexity",
    function="perplexity",
    reference=perplexity_of_tokens,
    cases=(
        Case({"losses": matrix([0]), "mask": allowed([1])}, "a certain token has the perplexity 1"),
        Case({"losses": matrix([1, 3]), "mask": allowed([1, 1])}, "L = 2: exp(2)"),
        Case({"losses": matrix([1, 3]), "mask": allowed([1, 0])}, "padding does not count"),
        Case({"losses": matrix([0, 0], [3, 9]), "mask": allowed([1, 1], [1, 0])}, "three tokens: L = (0 + 0 + 3) / 3"),
        Case(
            {"losses": matrix([1, 1], [1, 9]), "mask": allowed([1, 1], [1, 0])},
            "the padding does not count in N either",
        ),
    ),
    sample=sample_sentences,
    hint="Compute both results for one sentence of two tokens and one sentence of one token.",
    mistakes={
        "a token of a short sentence gets a larger weight: divide the sum of all losses once": lambda losses, mask: (
            float(((losses * mask).sum(1) / mask.sum(1)).mean().exp())
        ),
        "the padding is counted in N": lambda losses, mask: float((losses * mask).mean().exp()),
        "the padding's losses are counted": lambda losses, mask: float(losses.mean().exp()),  # noqa: ARG005
        "average the losses, not the perplexities": lambda losses, mask: float(losses[mask].exp().mean()),
    },
)

# 6: top-p


def nucleus_by_list(p: Tensor, top_p: float) -> Tensor:
    """Expected probabilities, token by token."""
    values, kept = p.tolist(), [0.0] * len(p)
    for token in sorted(range(len(values)), key=lambda token: (-values[token], token)):
        kept[token] = values[token]
        if sum(kept) >= top_p:
            break
    return torch.tensor(kept, dtype=p.dtype) / sum(kept)


def wrong_nucleus(keep: Callable[[Tensor, Tensor, float], Tensor], *, divide: bool = True) -> Callable[..., Tensor]:
    """Make a wrong function from the sorted probabilities, their cumulative sum and top_p."""

    def wrong(p: Tensor, top_p: float) -> Tensor:
        ordered, index = p.sort(descending=True, stable=True)
        kept = ordered * keep(ordered, ordered.cumsum(0), top_p)
        return torch.zeros_like(p).index_copy(0, index, kept / kept.sum() if divide else kept)

    return wrong


def sample_probabilities(generator: Random, size: int) -> Arguments:
    """Random probabilities that are multiples of 1/16, so that their sums are exact."""
    cuts = sorted(generator.randint(0, 16) for _ in range(size - 1))
    shares = [end - start for start, end in pairwise([0, *cuts, 16])]
    return {"p": vector(*shares) / 16, "top_p": generator.randint(1, 16) / 16}


TOP_P = Exercise(
    file="ex6_top_p",
    function="nucleus",
    reference=nucleus_by_list,
    cases=(
        Case({"p": vector(1), "top_p": 0.5}, "the only token"),
        Case({"p": vector(0.75, 0.25), "top_p": 1.0}, "top_p = 1: all tokens"),
        Case({"p": vector(0.25, 0.75), "top_p": 0.5}, "the most probable token is enough"),
        Case({"p": vector(0.75, 0.25), "top_p": 0.75}, "exactly 0.75 is enough"),
        Case({"p": vector(0.5, 0.25, 0.25), "top_p": 0.625}, "0.5 is not enough; of equal tokens the first is taken"),
        Case({"p": vector(0.125, 0.375, 0.25, 0.25), "top_p": 0.5}, "two tokens, divided by their sum 0.625"),
    ),
    sample=sample_probabilities,
    hint=(
        "Sort with `p.sort(descending=True, stable=True)`. A token is in the set if the sum of those before it is "
        "below top_p."
    ),
    mistakes={
        "the token that reaches top_p belongs to the set": wrong_nucleus(
            lambda ordered, cumulative, top_p: (cumulative <= top_p) | (ordered.cumsum(0) == ordered)
        ),
        "the set is too large: if the tokens before already have top_p, it is complete": wrong_nucleus(
            lambda ordered, cumulative, top_p: cumulative - ordered <= top_p
        ),
        "top_p limits the sum of the probabilities, not each of them": wrong_nucleus(
            lambda ordered, cumulative, top_p: ordered >= top_p * ordered.max()  # noqa: ARG005
        ),
        "the kept probabilities must be divided by their sum": wrong_nucleus(
            lambda ordered, cumulative, top_p: cumulative - ordered < top_p, divide=False
        ),
    },
)

# 7: byte-pair encoding

Words = dict[tuple[str, ...], int]


def merge_by_text(words: Words) -> Words:
    """Expected words: count and replace in texts with marks between the symbols."""
    return merged(words, weighted=True)


def merged(words: Words, *, weighted: bool = True, last: bool = False, everywhere: bool = True) -> Words:
    """One merge, with options for typical mistakes."""
    pairs = Counter(pair for word, count in words.items() for pair in pairwise(word) for _ in range(count**weighted))
    if not pairs:
        return dict(words)
    ordered = sorted(pairs, reverse=last)
    left, right = max(ordered, key=lambda pair: pairs[pair])
    result = {}
    for word, count in words.items():
        symbols: list[str] = []
        replaced = 0
        for symbol in word:
            # the mark tells a merged symbol from an equal one that was there before
            if symbols and symbols[-1] == left and symbol == right and (everywhere or not replaced):
                symbols[-1] = f"{left}{right}\0"
                replaced += 1
            else:
                symbols.append(symbol)
        result[tuple(symbol.rstrip("\0") for symbol in symbols)] = count
    return result


def sample_words(generator: Random, size: int) -> Arguments:
    """Random words of the letters a, b and c."""
    words = {}
    for _ in range(min(size, 3)):
        word = tuple(generator.choice("abc") for _ in range(generator.randint(1, size + 1)))
        words[word] = generator.randint(1, 3)
    return {"words": words}


BYTE_PAIRS = Exercise(
    file="ex7_byte_pairs",
    function="merge",
    reference=merge_by_text,
    cases=(
        Case({"words": {("a",): 1}}, "no pairs"),
        Case({"words": {("a", "b"): 1}}, "one pair"),
        Case({"words": {("a", "b", "a", "b"): 1}}, "the pair a b occurs twice, b a once"),
        Case({"words": {("a", "c", "b"): 1}}, "of equally frequent pairs the first in alphabetical order is merged"),
        Case({"words": {("b", "a"): 1, ("a", "b"): 1}}, "of equally frequent pairs the first in alphabetical order"),
        Case({"words": {("a", "b"): 1, ("b", "c"): 3}}, "a pair counts as often as its word occurs"),
        Case({"words": {("a", "a", "a"): 1}}, "from left to right: the second a is used up"),
        Case({"words": {("x", "ab"): 2, ("x", "a", "b"): 1}}, "x ab is a pair; x and a are another"),
    ),
    sample=sample_words,
    hint=(
        "`collections.Counter` counts, and `min` with the key (-count, pair) chooses. Replace with an index that "
        "advances by 2 after a match, else by 1."
    ),
    mistakes={
        "each pair counts as often as its word occurs": lambda words: merged(words, weighted=False),
        "of equally frequent pairs the first in alphabetical order is chosen": lambda words: merged(words, last=True),
        "the pair is replaced wherever it occurs, not only once in each word": lambda words: merged(
            words, everywhere=False
        ),
    },
)

# 8: negative sampling

Gradients = tuple[Tensor, Tensor, Tensor]


def gradients_by_autograd(v: Tensor, u: Tensor, negatives: Tensor) -> Gradients:
    """Expected gradients by autograd."""
    inputs = tuple(value.clone().requires_grad_() for value in (v, u, negatives))
    v, u, negatives = inputs
    loss = -F.logsigmoid(u @ v) - F.logsigmoid(-(negatives @ v)).sum()
    return torch.autograd.grad(loss, inputs)  # pyright: ignore[reportReturnType]


def word_vectors(v: list, u: list, negatives: list) -> Arguments:
    """Arguments of the gradients."""
    return {"v": vector(*v), "u": vector(*u), "negatives": matrix(*negatives)}


def sample_vectors(generator: Random, size: int) -> Arguments:
    """Random vectors of at most three features."""
    features = min(size, 3)
    both = {name: integers(generator, features) for name in ("v", "u")}
    return {**both, "negatives": integers(generator, generator.randint(1, 2), features)}


def wrong_gradients(near: Callable[[Tensor], Tensor], random: Callable[[Tensor], Tensor]) -> Callable[..., Gradients]:
    """Make a wrong function from the derivatives of both scores."""

    def wrong(v: Tensor, u: Tensor, negatives: Tensor) -> Gradients:
        one, others = near(u @ v), random(negatives @ v)
        return one * u + others @ negatives, one * v, others[:, None] * v

    return wrong


def near_only(v: Tensor, u: Tensor, negatives: Tensor) -> Gradients:
    """Typical mistake: v gets no gradient from the random words."""
    _, by_output, by_negatives = gradients_by_autograd(v, u, negatives)
    return (torch.sigmoid(u @ v) - 1) * u, by_output, by_negatives


NEGATIVE_SAMPLING = Exercise(
    file="ex8_negative_sampling",
    function="gradients",
    reference=gradients_by_autograd,
    results=("dL/dv", "dL/du", "dL/dn"),
    cases=(
        Case(word_vectors([0], [1], [[0]]), "score 0: the sigmoid is 1 / 2, and u pulls v"),
        Case(word_vectors([0], [0], [[1]]), "a random word pushes v away"),
        Case(word_vectors([1], [0], [[0]]), "u and n get multiples of v, with different signs"),
        Case(word_vectors([1, 0], [0, 1], [[1, 1], [0, 1]]), "the gradients of all random words are added in dL/dv"),
    ),
    sample=sample_vectors,
    hint=(
        "First differentiate with respect to the scores x = u v and x_k = n_k v. With d log s(x) / dx = 1 - s(x), what "
        "is d(-log s(-x)) / dx?"
    ),
    mistakes={
        "the sign is wrong: the gradient points to larger losses": lambda v, u, negatives: tuple(
            -gradient for gradient in gradients_by_autograd(v, u, negatives)
        ),
        "random words push v away: their scores have the derivative s(x), not s(x) - 1": wrong_gradients(
            lambda x: torch.sigmoid(x) - 1, lambda x: torch.sigmoid(x) - 1
        ),
        "v is in the scores of the random words as well": near_only,
    },
)

EXERCISES = (*(CAUSAL_MASK, ATTENTION, BPTT, GRADIENT_NORM, PERPLEXITY, TOP_P, BYTE_PAIRS, NEGATIVE_SAMPLING),)
"""Exercises of the chapter in order."""
