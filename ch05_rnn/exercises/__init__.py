"""Exercises of chapter 5 that check themselves: `python -m ch05_rnn.exercises`.

ex1_causal_mask          the mask of causal attention, with a window and a key-value cache
ex2_attention            find the bug: attention with a mask
ex3_bptt                 backpropagation through time
ex4_gradient_norm        clip gradients by their global norm
ex5_perplexity           find the bug: the perplexity of sentences with padding
ex6_top_p                top-p sampling
ex7_byte_pairs           one merge of byte-pair encoding
ex8_negative_sampling    the gradient of word2vec's loss
checks                   a file per exercise: reference, cases, hint, typical mistakes
solutions                a file per exercise: the solution with an explanation
__main__                 the command
"""
