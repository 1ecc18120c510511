"""Memory networks that answer questions about stories; read in this order.

memory_network  the program: trains a network on all tasks and compares it with a baseline
encoding        stories as tensors, position encoding
end_to_end      end-to-end memory network: attention over the statements, in several hops
dynamic_memory  dynamic memory network: a GRU whose update gate is the attention
bag_of_ngrams   baseline: logistic regression on n-grams
visualise       error per task, and which statements each hop reads
restarts        the program that averages networks with different random seeds
"""
