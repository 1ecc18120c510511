"""Checks of the exercises of chapter 5: reference, cases, hint, and typical mistakes with their explanations.

ex1_causal_mask          the mask of causal attention, with a window and a key-value cache
ex2_attention            find the bug: attention with a mask
ex3_bptt                 backpropagation through time
ex4_gradient_norm        clip gradients by their global norm
ex5_perplexity           find the bug: the perplexity of sentences with padding
ex6_top_p                top-p sampling
ex7_byte_pairs           one merge of byte-pair encoding
ex8_negative_sampling    the gradient of word2vec's loss
"""

from ch05_rnn.exercises.checks.ex1_causal_mask import CAUSAL_MASK
from ch05_rnn.exercises.checks.ex2_attention import ATTENTION
from ch05_rnn.exercises.checks.ex3_bptt import BPTT
from ch05_rnn.exercises.checks.ex4_gradient_norm import GRADIENT_NORM
from ch05_rnn.exercises.checks.ex5_perplexity import PERPLEXITY
from ch05_rnn.exercises.checks.ex6_top_p import TOP_P
from ch05_rnn.exercises.checks.ex7_byte_pairs import BYTE_PAIRS
from ch05_rnn.exercises.checks.ex8_negative_sampling import NEGATIVE_SAMPLING

EXERCISES = (CAUSAL_MASK, ATTENTION, BPTT, GRADIENT_NORM, PERPLEXITY, TOP_P, BYTE_PAIRS, NEGATIVE_SAMPLING)
"""Exercises of the chapter in order."""
