# Two commands for a newcomer: `make demo` and `make test`. Both make .venv first.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
DEMO_INSTALLED := .venv/.demo-installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable
# the tests of a file share what it sets up, so they stay together
PARALLEL := --numprocesses auto --dist loadfile
SMOKE := smoke-tour smoke-ch01 smoke-ch02 smoke-ch03 smoke-ch04 smoke-ch05 smoke-ch06 smoke-ch07 smoke-ch08 smoke-ch09 smoke-ch10

.PHONY: demo test fast check format smoke clean $(SMOKE)
.DEFAULT_GOAL := demo

demo: $(DEMO_INSTALLED)  ## run every chapter on embedded data, print one table, write one HTML report
	$(BIN)/python tour.py

test: $(INSTALLED)       ## every test: those that measure time one by one, the others on all cores
	$(BIN)/pytest -m "not alone" $(PARALLEL)
	$(BIN)/pytest -m alone

fast: $(INSTALLED)       ## every test but the slow ones
	$(BIN)/pytest -m "not slow" $(PARALLEL)

check: $(INSTALLED)      ## format, lint, types, and tables that match the recorded results
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright --level error
	$(BIN)/python -m common.ledger render --check

format: $(INSTALLED)     ## put the code into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

smoke: $(INSTALLED)      ## each program for a moment, as a person would start it; two chapters at a time
	rm -rf runs/smoke
	$(MAKE) --jobs 2 --output-sync=target --no-print-directory $(SMOKE)

smoke-ch01:
	$(BIN)/python -m ch01_graphs.train --out runs/smoke
	$(BIN)/python -m ch01_graphs.train regression --machine tape --samples 50 --rounds 1 --out runs/smoke
	$(BIN)/python -m ch01_graphs.train --benchmark --out runs/smoke

smoke-ch02:
	$(BIN)/python -m ch02_nn.train --limit 300 --out runs/smoke
	$(BIN)/python -m ch02_nn.train simple --variant third-row --steps 100 --out runs/smoke
	$(BIN)/python -m ch02_nn.train classifier --data digits --model softmax --by hand --epochs 2 --out runs/smoke
	$(BIN)/python -m ch02_nn.train race --steps 100 --epochs 1 --starts 1 --out runs/smoke
	$(BIN)/python -m ch02_nn.train --benchmark --out runs/smoke

smoke-ch03:
	$(BIN)/python -m ch03_autoencoder_rbm.train --help
	$(BIN)/python -m ch03_autoencoder_rbm.train --limit 300 --out runs/smoke
	$(BIN)/python -m ch03_autoencoder_rbm.train feedforward --data digits --epochs 2 --out runs/smoke
	$(BIN)/python -m ch03_autoencoder_rbm.train dbn --data digits --pretraining-epochs 2 --epochs 2 --out runs/smoke
	$(BIN)/python -m ch03_autoencoder_rbm.train rbm_throughput --limit 300 --rounds 2 --out runs/smoke
	$(BIN)/python -m ch03_autoencoder_rbm.train recommender --data planted --epochs 3 --out runs/smoke
	$(BIN)/python -m ch03_autoencoder_rbm.recommend --out runs/smoke --user 42 --top 3
	$(BIN)/python -m ch03_autoencoder_rbm.train baselines --data planted --out runs/smoke
	$(BIN)/python -m ch03_autoencoder_rbm.train scaling --ratings 1000 10000 --epochs 1 --out runs/smoke
	$(BIN)/python -m ch03_autoencoder_rbm.train sparse_throughput --data planted --limit 2000 --rounds 2 --out runs/smoke
	$(BIN)/python -m ch03_autoencoder_rbm.train throughput --limit 300 --rounds 2 --out runs/smoke
	$(BIN)/python -m ch03_autoencoder_rbm.train --benchmark --out runs/smoke
	$(BIN)/torchrun --standalone --nproc-per-node 2 -m ch03_autoencoder_rbm.train feedforward --data digits --epochs 2 --out runs/smoke

smoke-ch04:
	$(BIN)/python -m ch04_cuda.train compare --data digits --out runs/smoke
	$(BIN)/python -m ch04_cuda.train matmul --sizes 64 128 --rounds 1 --seconds 0.01 --out runs/smoke
	$(BIN)/python -m ch04_cuda.train input_pipeline --data digits --rounds 1 --seconds 0.1 --out runs/smoke
	$(BIN)/python -m ch04_cuda.train by_hand --data digits --rounds 1 --seconds 0.1 --out runs/smoke
	$(BIN)/python -m ch04_cuda.train crossover --data digits --networks mlp --rounds 1 --out runs/smoke
	$(BIN)/python -m ch04_cuda.train crossover --data digits --networks mlp --estimate --out runs/smoke
	$(BIN)/python -m ch04_cuda.train asynchrony --network mlp --no-compile --rounds 1 --seconds 0.1 --out runs/smoke
	$(BIN)/python -m ch04_cuda.train operators --no-compile --rounds 1 --seconds 0.01 --out runs/smoke
	$(BIN)/python -m ch04_cuda.train data_parallel --network mlp --steps 3 --out runs/smoke
	$(BIN)/python -m ch04_cuda.train --benchmark --out runs/smoke

smoke-ch05:
	$(BIN)/python -m ch05_rnn.train language_model --data pydoc --limit 20000 --epochs 1 --out runs/smoke
	$(BIN)/python -m ch05_rnn.generate --out runs/smoke --prompt "The" --length 40
	$(BIN)/python -m ch05_rnn.train language_model --data pydoc --level word --limit 5000 --epochs 1 --out runs/smoke
	$(BIN)/python -m ch05_rnn.generate --out runs/smoke --prompt "the" --next 5
	$(BIN)/python -m ch05_rnn.train gradients --lags 10 --training-steps 5 --out runs/smoke
	$(BIN)/python -m ch05_rnn.train throughput --hidden-size 32 --words 500 --rounds 1 --seconds 0.05 --out runs/smoke
	$(BIN)/python -m ch05_rnn.train word2vec --limit 2000 --epochs 1 --out runs/smoke
	$(BIN)/python -m ch05_rnn.train sentiment --data grammar --limit 500 --epochs 1 --out runs/smoke
	$(BIN)/python -m ch05_rnn.judge --out runs/smoke "the plot was dull but the acting was superb"
	$(BIN)/python -m ch05_rnn.train seq2seq --limit 500 --epochs 1 --out runs/smoke
	$(BIN)/python -m ch05_rnn.translate --out runs/smoke "the 3rd of may 1999"
	$(BIN)/python -m ch05_rnn.train forecast --epochs 1 --out runs/smoke
	$(BIN)/python -m ch05_rnn.train --benchmark --out runs/smoke

smoke-ch06:
	$(BIN)/python -m ch06_cnn.train cnn --data shapes --limit 300 --epochs 1 --out runs/smoke
	$(BIN)/python -m ch06_cnn.train classics --data shapes --limit 100 --epochs 1 --out runs/smoke
	$(BIN)/python -m ch06_cnn.train speedrun --data shapes --limit 1000 --budget 3 --out runs/smoke
	$(BIN)/python -m ch06_cnn.train throughput --data shapes --limit 300 --rounds 1 --seconds 0.1 --out runs/smoke
	$(BIN)/torchrun --standalone --nproc-per-node 2 -m ch06_cnn.train speedrun --data shapes --limit 600 --epochs 1 --out runs/smoke

smoke-ch07:
	$(BIN)/python -m ch07_dqn.train q_table --out runs/smoke
	$(BIN)/python -m ch07_dqn.train dqn --epochs 2 --steps 20 --out runs/smoke
	$(BIN)/python -m ch07_dqn.train actor_critic --epochs 2 --steps 10 --out runs/smoke
	$(BIN)/python -m ch07_dqn.train generalise --budget 3 --mazes 200 --tests 50 --large-tests 10 --out runs/smoke
	$(BIN)/python -m ch07_dqn.play --out runs/smoke --maze 7 --steps-per-second 1000
	$(BIN)/python -m ch07_dqn.train throughput --mazes 64 --rounds 1 --seconds 0.05 --out runs/smoke
	$(BIN)/python -m ch07_dqn.train --benchmark --out runs/smoke

smoke-ch08:
	$(BIN)/python -m ch08_vae.train vae --data digits --limit 300 --epochs 3 --conditional --importance-samples 50 --out runs/smoke
	$(BIN)/python -m ch08_vae.sample --out runs/smoke --digit 7 --count 8
	$(BIN)/python -m ch08_vae.sample --out runs/smoke --interpolate 3 8 --count 2
	$(BIN)/python -m ch08_vae.train latent_sweep --data digits --limit 300 --epochs 2 --out runs/smoke
	$(BIN)/python -m ch08_vae.train gan --data digits --limit 300 --epochs 2 --out runs/smoke
	$(BIN)/python -m ch08_vae.train throughput --data digits --limit 300 --rounds 1 --seconds 0.1 --out runs/smoke
	$(BIN)/python -m ch08_vae.train --benchmark --out runs/smoke

smoke-ch09:
	$(BIN)/python -m ch09_pipeline.train pipeline --limit 300 --epochs 1 --threshold 0 --out runs/smoke
	$(BIN)/python -m ch09_pipeline.train status --out runs/smoke
	$(BIN)/python -m ch09_pipeline.train graph --out runs/smoke
	$(BIN)/python -m ch09_pipeline.train provenance --out runs/smoke
	$(BIN)/python -m ch09_pipeline.rehearse --epochs 1 --threshold 0 --out runs/smoke/rehearsal
	$(BIN)/python -m ch09_pipeline.kubeflow --compile runs/smoke/pipeline.yaml

smoke-ch10:
	$(BIN)/python -m ch10_deploy.train export --data embedded --models digits decoder --limit 300 --out runs/smoke
	$(BIN)/python -m ch10_deploy.train serving --connections 4 --seconds 1 --out runs/smoke
	$(BIN)/python -m ch10_deploy.train fuzzing --requests 60 --out runs/smoke

smoke-tour:
	$(BIN)/python tour.py --out runs/smoke

clean:
	rm -rf runs build .pytest_cache .ruff_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(f"Python 3.11 or newer is needed, $(PYTHON) is {sys.version.split()[0]}: run make PYTHON=python3.x" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv

# what the tour needs: no tools of development
$(DEMO_INSTALLED): pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing into .venv what the tour needs: about 6 GB with CUDA, a minute or two on a fast line"
	@$(PIP) '.[demo]'
	touch $@

$(INSTALLED): pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing into .venv with the tools of development: about 7 GB with CUDA, some minutes on a fast line"
	@$(PIP) '.[dev]'
	touch $(DEMO_INSTALLED) $@
