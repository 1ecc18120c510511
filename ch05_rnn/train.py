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
from ch05_rnn.translation import translation
from ch05_rnn.words import evaluate_vectors, fasttext, glove, word2vec, word_throughput
from common.cli import main

if __name__ == "__main__":
    words = [word2vec, glove, fasttext, evaluate_vectors, word_throughput]
    main(
        language_model,
        extra=[
            *(budgets, gradients, throughput, *words, sentiment, seq2seq, translation, captioning, forecast),
            *(memory_network, restarts),
        ],
    )
