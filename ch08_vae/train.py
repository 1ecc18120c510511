"""Train the programs of chapter 8.

python -m ch08_vae.train                          # the core programs in order
python -m ch08_vae.train vae --latent-size 2      # one program
python -m ch08_vae.train --benchmark              # time their training steps on every device
"""

from ch08_vae.adversarial import gan, mixture
from ch08_vae.autoencoding import anomalies, latent_sweep, peers, throughput, vae
from ch08_vae.diffusion import diffusion
from ch08_vae.evaluation import compare_generators
from ch08_vae.few_labels import semi_supervised_gan, semi_supervised_vae
from common.cli import main

if __name__ == "__main__":
    few_labels = [semi_supervised_gan, semi_supervised_vae]
    main(
        vae,
        latent_sweep,
        gan,
        diffusion,
        extra=[mixture, compare_generators, *few_labels, anomalies, throughput, peers],
    )
