"""Train or time the programs of chapter 3.

python -m ch03_autoencoder_rbm.train                        # the core programs, in the book's order
python -m ch03_autoencoder_rbm.train feedforward --epochs 5 # one program
python -m ch03_autoencoder_rbm.train --benchmark            # time their training steps on every device
"""

from ch03_autoencoder_rbm.boltzmann import anomalies, dbn, rbm, rbm_throughput
from ch03_autoencoder_rbm.digits import autoencoder, feedforward
from ch03_autoencoder_rbm.films import baselines, recommender, scaling, sparse_throughput
from common.cli import main

if __name__ == "__main__":
    extra = [anomalies, dbn, rbm_throughput, baselines, scaling, sparse_throughput]
    main(feedforward, autoencoder, rbm, recommender, extra=extra)
