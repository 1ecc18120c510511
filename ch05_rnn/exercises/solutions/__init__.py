"""Solutions of the exercises: `python -m ch05_rnn.exercises 3 --solution`.

ex1_causal_mask          the first query has the position S - T
ex2_attention            minus infinity before the softmax
ex3_bptt                 from the last step to the first
ex4_gradient_norm        one norm for all tensors
ex5_perplexity           each token counts the same
ex6_top_p                a token is in the set if those before it do not reach top_p
ex7_byte_pairs           count with the counts of the words
ex8_negative_sampling    s(u v) - 1 and s(n_k v) are the derivatives of the scores
"""
