"""The door of chapter 5.

python -m ch05_rnn.train                               # the core programs
python -m ch05_rnn.train language_model --budget 180   # one program
python -m ch05_rnn.train --benchmark                   # time their training steps on every device
"""

from ch05_rnn import forecast, gradients, language_model, sentiment, seq2seq, throughput, word2vec
from common.cli import main

if __name__ == "__main__":
    main(language_model, extra=[gradients, throughput, word2vec, sentiment, seq2seq, forecast])
