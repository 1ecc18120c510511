"""Chapter 5: recurrent networks for text and time series.

language_model  predict the next character or word of a text, and generate text: recurrent network or Transformer
budgets         loss of an LSTM and a Transformer against training time
gradients       vanishing and exploding gradients, and the longest lag that each cell learns
throughput      tokens per second of four LSTM implementations and two output layers
word2vec        word vectors: skip-gram or CBOW, negative sampling or hierarchical softmax, evaluated on analogies
glove           word vectors that fit the logarithms of co-occurrence counts
fasttext        word vectors from character n-grams, also of unseen words
evaluate_vectors  a counting baseline and pre-trained word vectors, evaluated
word_throughput   words per second of skip-gram and fastText, compared with gensim
sentiment       sentence classification: LSTM or convolutions, compared with bags of words and n-grams
seq2seq         translation of dates or sentences: encoder-decoder with or without attention
translation     translation with subwords: Transformer or GRUs with attention, beam search, BLEU
captioning      image captions: convolutional encoder, LSTM decoder with spatial attention
forecast        time-series forecasting: an LSTM compared with an MLP, linear baselines and the optimal forecast
memory_network  questions about stories: an end-to-end or dynamic memory network compared with n-grams
restarts        memory networks with different random seeds, averaged
"""

import common  # noqa: F401  # before torch: sets GOMP_SPINCOUNT
