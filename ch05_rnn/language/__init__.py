"""Language models over characters and words; read in this order.

language_model        the program: train on a text
network               embedding, recurrent layers, output layer
attention             causal self-attention with several heads, by hand; rotary positions; the key-value cache
transformer           the Transformer: norms, feed-forward networks, blocks
optimizer             Muon and AdamW for the Transformer
linear_cross_entropy  output layer and loss in chunks, with the gradient in closed form
adaptive_softmax      an output layer with fewer units for rare words
evaluation            loss, perplexity, bits per character, n-gram baselines, generation speed
ngram                 the n-gram baseline, with Kneser-Ney smoothing
sampling              temperature, top-k and top-p
budgets               the program: loss of an LSTM and a Transformer against training time
visualise             predictions, embeddings and hidden units of a trained model
"""
