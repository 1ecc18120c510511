"""Translation with subwords; read in this order.

translation  the program: train on generated sentences, Multi30k or your own pairs
bpe          byte-pair encoding: learn subwords, encode and decode texts
batches      pairs as token numbers, in batches of equally many tokens
gru          GRU encoder and decoder with additive attention
transformer  Transformer encoder and decoder with cross-attention
evaluation   translation by beam search, loss, BLEU, exact matches, alignments
"""
