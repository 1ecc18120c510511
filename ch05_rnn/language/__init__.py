"""Language models over characters and words; read in this order.

language_model        the program: train on a text
network               embedding, recurrent layers, output layer
linear_cross_entropy  output layer and loss in chunks, with the gradient in closed form
evaluation            loss, perplexity and bits per character over a whole part of the text
ngram                 the counting baseline, with Kneser-Ney smoothing
sampling              temperature, top-k and top-p
visualise             gates and hidden units of a trained model along a text
"""
