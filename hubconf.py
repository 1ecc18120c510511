"""Models of the chapters for `torch.hub`.

    import torch

    model = torch.hub.load(".", "digits", source="local")                      # the newest run below runs/
    model, vocabulary = torch.hub.load(".", "language_model", source="local", run="runs/ch05_rnn/language_model/...")

Every entry takes `run`, the folder of a run (by default the newest finished one), and `runs`, the folder in which the
newest one is searched. It returns the model in evaluation mode on the CPU and, for some programs, what the model needs
besides (see each entry). No weights are downloaded: train a model first. `common.runs.load` also returns the Config.
"""

from importlib import import_module as _import_module
from pathlib import Path as _Path
from typing import Any as _Any

from common.run_folders.folder import newest_run as _newest_run
from common.run_folders.loading import load as _load
from common.run_folders.loading import program_of as _program_of

dependencies = ["filelock", "numpy", "rich", "safetensors", "torch", "tyro"]


def _restored(module: str, run: str | None, runs: str) -> _Any:
    """Load a run of a program (its module) and return what its `restore` returns, without the Config.

    Raises FileNotFoundError if there is no such run, ValueError if it belongs to another program.
    """
    program = _import_module(module)
    folder = _newest_run(_Path(runs), program) if run is None else _Path(run)
    if _program_of(folder) is not program:
        raise ValueError(f"{folder} is a run of {_program_of(folder).__name__}, not of {module}")
    parts = [part for part in _load(folder) if not isinstance(part, program.Config)]
    return parts[0] if len(parts) == 1 else tuple(parts)


def actor_critic(run: str | None = None, runs: str = "runs") -> _Any:
    """Actor-critic for an environment with discrete actions, trained by `ch07_dqn.train actor_critic`.

    (B, D) observations -> (B, A) logits of the policy
    """
    return _restored("ch07_dqn.agents.actor_critic", run, runs)


def autoencoder(run: str | None = None, runs: str = "runs") -> _Any:
    """Autoencoder of handwritten digits, trained by `ch03_autoencoder_rbm.train autoencoder`.

    (B, 784) pixels in [0, 1] -> (B, 784) reconstruction
    """
    return _restored("ch03_autoencoder_rbm.digits.autoencoder", run, runs)


def captioning(run: str | None = None, runs: str = "runs") -> _Any:
    """Image captioner and its vocabulary, trained by `ch05_rnn.train captioning`.

    (B, 3, S, S) images, (B, T) previous words -> (B, T, V) logits, (B, T, L) attention weights
    """
    return _restored("ch05_rnn.captions.captioning", run, runs)


def classics(run: str | None = None, runs: str = "runs") -> _Any:
    """One of seven classic architectures, trained by `ch06_cnn.train classics`.

    (B, 3, 32, 32) scaled pixels -> (B, 10) logits
    """
    return _restored("ch06_cnn.architectures.classics", run, runs)


def classifier(run: str | None = None, runs: str = "runs") -> _Any:
    """Softmax regression or multilayer perceptron on digits, trained by `ch02_nn.train classifier`.

    (B, 784) scaled pixels -> (B, 10) logits
    """
    return _restored("ch02_nn.classifier", run, runs)


def cnn(run: str | None = None, runs: str = "runs") -> _Any:
    """Convolutional network, trained by `ch06_cnn.train cnn`.

    (B, 3, 32, 32) scaled pixels -> (B, 10) logits
    """
    return _restored("ch06_cnn.convolution.cnn", run, runs)


def dbn(run: str | None = None, runs: str = "runs") -> _Any:
    """Deep belief network, fine-tuned as a digit classifier, trained by `ch03_autoencoder_rbm.train dbn`.

    (B, 784) pixels in [0, 1] -> (B, 10) logits
    """
    return _restored("ch03_autoencoder_rbm.boltzmann.dbn", run, runs)


def digits(run: str | None = None, runs: str = "runs") -> _Any:
    """Feed-forward classifier of handwritten digits, trained by `ch03_autoencoder_rbm.train feedforward`.

    (B, 784) scaled pixels, see `scaled` in its module -> (B, 10) logits
    """
    return _restored("ch03_autoencoder_rbm.digits.feedforward", run, runs)


def detection(run: str | None = None, runs: str = "runs") -> _Any:
    """Object detector and the names of its classes, trained by `ch06_cnn.train detection`.

    (B, 3, H, W) pixels -> (B, A, C) outputs for A anchors or cells; `ch06_cnn.detection.evaluation.detect` gives boxes
    """
    return _restored("ch06_cnn.detection.detection", run, runs)


def diffusion(run: str | None = None, runs: str = "runs") -> _Any:
    """Diffusion model and its noise schedule, trained by `ch08_vae.train diffusion`.

    (B, C, H, W) noisy images, (B,) times, (B,) classes -> (B, C, H, W) predicted noise
    """
    return _restored("ch08_vae.diffusion.diffusion", run, runs)


def dqn(run: str | None = None, runs: str = "runs") -> _Any:
    """Deep Q-network for an environment with discrete actions, trained by `ch07_dqn.train dqn`.

    (B, D) observations -> (B, A) Q-values
    """
    return _restored("ch07_dqn.agents.dqn", run, runs)


def fast_style(run: str | None = None, runs: str = "runs") -> _Any:
    """Network that gives pictures one style, trained by `ch06_cnn.train fast_style`.

    (B, 3, H, W) images in [0, 1] -> (B, 3, H, W) images; H and W are multiples of 4
    """
    return _restored("ch06_cnn.style.fast_style", run, runs)


def fasttext(run: str | None = None, runs: str = "runs") -> _Any:
    """Word vectors of fastText and their vocabulary, trained by `ch05_rnn.train fasttext`."""
    return _restored("ch05_rnn.words.fasttext", run, runs)


def fizzbuzz(run: str | None = None, runs: str = "runs") -> _Any:
    """FizzBuzz as classification of binary digits, trained by `ch02_nn.train fizzbuzz`.

    (B, D) binary digits -> (B, 4) logits
    """
    return _restored("ch02_nn.fizzbuzz", run, runs)


def forecast(run: str | None = None, runs: str = "runs") -> _Any:
    """LSTM and MLP for time series, as `lstm` and `mlp` of one module, trained by `ch05_rnn.train forecast`."""
    return _restored("ch05_rnn.series.forecast", run, runs)


def gan(run: str | None = None, runs: str = "runs") -> _Any:
    """Generator of a generative adversarial network, trained by `ch08_vae.train gan`.

    (B, Z) noise -> (B, 1, 28, 28) images in [-1, 1]
    """
    return _restored("ch08_vae.adversarial.gan", run, runs)


def glove(run: str | None = None, runs: str = "runs") -> _Any:
    """Word vectors of GloVe and their vocabulary, trained by `ch05_rnn.train glove`."""
    return _restored("ch05_rnn.words.glove", run, runs)


def language_model(run: str | None = None, runs: str = "runs") -> _Any:
    """Language model and its vocabulary, trained by `ch05_rnn.train language_model`.

    (T, B) tokens and the initial state -> (T, B, V) logits and the final state
    """
    return _restored("ch05_rnn.language.language_model", run, runs)


def maze_actor_critic(run: str | None = None, runs: str = "runs") -> _Any:
    """Actor-critic for one maze, trained by `ch07_dqn.train maze_actor_critic`.

    (B,) states -> (B, 4) logits of the policy, (B,) state values
    """
    return _restored("ch07_dqn.mazes.maze_actor_critic", run, runs)


def maze_dqn(run: str | None = None, runs: str = "runs") -> _Any:
    """Deep Q-network for one maze, trained by `ch07_dqn.train maze_dqn`.

    (B,) states -> (B, 4) Q-values
    """
    return _restored("ch07_dqn.mazes.maze_dqn", run, runs)


def maze_planner(run: str | None = None, runs: str = "runs") -> _Any:
    """Network for unknown mazes, trained by `ch07_dqn.train generalise`."""
    return _restored("ch07_dqn.planning.generalise", run, runs)


def memory_network(run: str | None = None, runs: str = "runs") -> _Any:
    """Memory network and its encoder of stories, trained by `ch05_rnn.train memory_network`."""
    return _restored("ch05_rnn.memory.memory_network", run, runs)


def mixture(run: str | None = None, runs: str = "runs") -> _Any:
    """Pairs of generator and discriminator for points, by method, trained by `ch08_vae.train mixture`.

    generator: (B, Z) noise -> (B, 2) points; discriminator: (B, 2) points -> (B,) outputs
    """
    return _restored("ch08_vae.adversarial.mixture", run, runs)


def ppo(run: str | None = None, runs: str = "runs") -> _Any:
    """Policy for an environment with discrete actions, trained by `ch07_dqn.train ppo`.

    (B, D) observations -> (B, A) logits of the policy
    """
    return _restored("ch07_dqn.agents.ppo", run, runs)


def rbm(run: str | None = None, runs: str = "runs") -> _Any:
    """Restricted Boltzmann machine on binary images, trained by `ch03_autoencoder_rbm.train rbm`."""
    return _restored("ch03_autoencoder_rbm.boltzmann.rbm", run, runs)


def recommender(run: str | None = None, runs: str = "runs") -> _Any:
    """Film recommender and the ratings it was trained on, trained by `ch03_autoencoder_rbm.train recommender`."""
    return _restored("ch03_autoencoder_rbm.films.recommender", run, runs)


def reinforce(run: str | None = None, runs: str = "runs") -> _Any:
    """Policy for an environment with discrete actions, trained by `ch07_dqn.train reinforce`.

    (B, D) observations -> (B, A) logits of the policy
    """
    return _restored("ch07_dqn.agents.reinforce", run, runs)


def segmentation(run: str | None = None, runs: str = "runs") -> _Any:
    """U-Net or fully convolutional network and the names of its classes, trained by `ch06_cnn.train segmentation`.

    (B, 3, H, W) pixels, H and W multiples of the network's `stride` -> (B, K, H, W) logits
    """
    return _restored("ch06_cnn.segmentation.segmentation", run, runs)


def semi_supervised_gan(run: str | None = None, runs: str = "runs") -> _Any:
    """Classifier trained with few labels and a generator, by `ch08_vae.train semi_supervised_gan`.

    (B, 784) pixels in [0, 1] -> (B, 10) logits, (B, 250) features
    """
    return _restored("ch08_vae.few_labels.semi_supervised_gan", run, runs)


def semi_supervised_vae(run: str | None = None, runs: str = "runs") -> _Any:
    """Model M2 trained with few labels by `ch08_vae.train semi_supervised_vae`; `classify` predicts classes.

    (B, 784) pixels in [0, 1] -> (B, 10) logits
    """
    return _restored("ch08_vae.few_labels.semi_supervised_vae", run, runs)


def sentiment(run: str | None = None, runs: str = "runs") -> _Any:
    """Sentiment classifier and its vocabulary, trained by `ch05_rnn.train sentiment`.

    (B, T) words, (B,) lengths -> (B, 2) logits
    """
    return _restored("ch05_rnn.sentences.sentiment", run, runs)


def seq2seq(run: str | None = None, runs: str = "runs") -> _Any:
    """Encoder-decoder and its tokeniser, trained by `ch05_rnn.train seq2seq`.

    (B, S) sources, (B,) lengths, (B, T) previous target tokens -> (B, T, V) logits
    """
    return _restored("ch05_rnn.sentences.seq2seq", run, runs)


def spatial(run: str | None = None, runs: str = "runs") -> _Any:
    """Network with a spatial transformer, or without, trained by `ch06_cnn.train spatial`.

    (B, 1, S, S) pixels -> (B, K, 10) logits of K digits
    """
    return _restored("ch06_cnn.spatial.spatial", run, runs)


def speedrun(run: str | None = None, runs: str = "runs") -> _Any:
    """Network of the CIFAR-10 speed run, trained by `ch06_cnn.train speedrun`.

    (B, 3, 32, 32) scaled pixels -> (B, 10) logits
    """
    return _restored("ch06_cnn.speedrun.speedrun", run, runs)


def transfer(run: str | None = None, runs: str = "runs") -> _Any:
    """EfficientNet-Lite0 or a small network with the classes of the new task, trained by `ch06_cnn.train transfer`.

    (B, 3, S, S) pixels -> (B, K) logits
    """
    return _restored("ch06_cnn.transfer.transfer", run, runs)


def translation(run: str | None = None, runs: str = "runs") -> _Any:
    """Translation model and its byte-pair encoding, trained by `ch05_rnn.train translation`.

    (B, S) sources, (B, T) previous target tokens -> (B, T, V) logits
    """
    return _restored("ch05_rnn.translation.translation", run, runs)


def vae(run: str | None = None, runs: str = "runs") -> _Any:
    """Variational autoencoder, trained by `ch08_vae.train vae`.

    (B, 784) pixels -> (B, 784) logits, (B, Z) mu, (B, Z) log sigma^2
    """
    return _restored("ch08_vae.autoencoding.vae", run, runs)


def word2vec(run: str | None = None, runs: str = "runs") -> _Any:
    """Word vectors of word2vec and their vocabulary, trained by `ch05_rnn.train word2vec`."""
    return _restored("ch05_rnn.words.word2vec", run, runs)
