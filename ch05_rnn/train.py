"""Train the models of chapter 5.

python -m ch05_rnn.train                               # the core programs
python -m ch05_rnn.train language_model --budget 180   # one program
python -m ch05_rnn.train --benchmark                   # time their training steps on every device
"""

from ch05_rnn.captions import captioning
from ch05_rnn.language import budgets, language_model
from ch05_rnn.memory import memory_network, restarts
from ch05_rnn.recurrence import gradients, throughput
from ch05_rnn.sentences import sentiment, seq2seq
from ch05_rnn.series import forecast
from ch05_rnn.words import word2vec
from common.cli import main

if __name__ == "__main__":
    main(
        language_model,
        extra=[
            *(budgets, gradients, throughput, word2vec, sentiment, seq2seq, captioning, forecast),
            *(memory_network, restarts),
        ],
    )
