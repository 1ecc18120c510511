"""Small settings for the tests that run every program: test_written_commands.py and cuda_dry_run.py."""

from typing import Any

CONSTANTS: dict[str, dict[str, Any]] = {
    "ch02_nn.compare_optimizers": {"RATES": (0.01, 0.1)},
    "ch02_nn.tables.tables": {"PENALTIES": (1e-3, 0.1), "DROPOUTS": (0.0,), "RATES": (0.1,), "LEAVES": (4,)},
    "ch02_nn.tables.validation.permutation_importance": {"__defaults__": (1,)},  # number of permutations
    "ch03_autoencoder_rbm.boltzmann.likelihood": {"FLIPS": 100},
    "ch03_autoencoder_rbm.boltzmann.rbm": {"PROBE_STRENGTHS": (0.1,)},
    "ch04_cuda.by_hand": {"MATRIX": 16},
    "ch04_cuda.crossover": {"FACTORS": (0.25,)},
    "ch04_cuda.matmul": {"CALLS": 10, "COPIED": 1_024},
    "ch05_rnn.language.evaluation.generation_speed": {"__defaults__": (4,)},  # number of tokens
    "ch05_rnn.language.evaluation": {"STREAMS": 2, "STEPS": 8},
    "ch05_rnn.memory.bag_of_ngrams": {"STEPS": 20},
    "ch05_rnn.sentences.ngram_regression": {"PENALTIES": (0.3,), "ITERATIONS": 5},
    "ch06_cnn.convolution.throughput": {"MATRIX": 16, "SPEED_BATCH": 2},
    "ch06_cnn.transfer.logistic": {"ITERATIONS": 2, "PENALTIES": (0.1,)},
    "ch06_cnn.transfer.transfer": {"LEAST_STEPS": 2},
    "ch07_dqn.agents.evaluation": {"VALID_EPISODES": 2, "TEST_EPISODES": 2},
    "ch07_dqn.mazes.throughput": {"GYMNASIUM_STEPS": 16, "BATCHED_STEPS": 4, "GYMNASIUM_ACTING_STEPS": 4},
    "ch07_dqn.planning.generalise": {"STEPS": 3},
    "ch08_vae.adversarial.gan": {"MONITORED": 20},
    "ch08_vae.autoencoding.peers": {"MOST_EPOCHS": 2},
    "ch08_vae.diffusion.diffusion": {"MONITORED": 50, "COMPARED": 10, "STEP_COUNTS": (2,), "GUIDANCE_SCALES": (2,)},
    "ch08_vae.evaluation.classifier": {"STEPS": 2, "EPOCHS": 1},
    "ch08_vae.evaluation.compare_generators": {"MONITORED": 50},
    "ch08_vae.few_labels.baselines": {"STEPS": 2, "PENALTIES": (1.0,)},
    "common.data.text.stories": {"TRAIN": 200},
}
"""Reduced module constants that have no setting; the chapters' own tests use the real ones."""
