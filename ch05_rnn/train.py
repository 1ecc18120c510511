"""The door of chapter 5.

python -m ch05_rnn.train                               # the core programs
python -m ch05_rnn.train language_model --budget 180   # one program
python -m ch05_rnn.train --benchmark                   # time their training steps on every device
"""

from ch05_rnn import gradients, language_model, throughput
from common.cli import main

if __name__ == "__main__":
    main(language_model, extra=[gradients, throughput])
