"""One merge of byte-pair encoding (20 minutes)

Byte-pair encoding learns subwords (Sennrich et al. 2016). A word is a tuple of symbols, at first its characters, and a
text is a dictionary of words with their counts. One step

- counts all pairs of neighbouring symbols, each as often as the word occurs,
- chooses the pair with the largest count; of several the first in alphabetical order,
- replaces the pair by one symbol wherever it occurs, from left to right.

For example, {("a", "b", "a", "b"): 2, ("b", "a"): 1} has the pair ("a", "b") 4 times, ("b", "a") 3 times, and becomes
{("ab", "ab"): 2, ("b", "a"): 1}. A text without pairs stays as it is.

Check: python -m ch05_rnn.exercises 7
"""

Words = dict[tuple[str, ...], int]


def merge(words: Words) -> Words:
    """Words with their counts -> the same words after one merge, in the same order"""
    raise NotImplementedError
