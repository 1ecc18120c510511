"""Chapter 3: beyond basic networks - a digit classifier, and an autoencoder that learns without labels.

feedforward   784-300-100-10, trained with cross-entropy, or with the book's loss to see why it starves classes
autoencoder   784-128-64-128-784, squeezes a digit into 64 numbers and draws it again; removes noise on request
throughput    the same network fed by a per-sample DataLoader and by tensors in memory
"""

import common  # noqa: F401  # before torch: common sets how its threads wait
