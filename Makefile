# The main commands are `make demo` and `make test`; both create .venv first.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
DEMO_INSTALLED := .venv/.demo-installed
NOTEBOOKS_INSTALLED := .venv/.notebooks-installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable
# the tests of a file share fixtures, so one worker runs them all; conftest.py orders the slowest files first
PARALLEL := --numprocesses auto --dist loadfile --no-loadscope-reorder
# the lowest versions of direct dependencies, and the newest of theirs; pip cannot choose them, uv can
LOWEST := .venv-lowest
FAST := $(BIN)/pytest -m "not slow and not alone" $(PARALLEL)
SMOKE := smoke-tour smoke-ch01 smoke-ch02 smoke-ch03 smoke-ch04 smoke-ch05 smoke-ch06 smoke-ch07 smoke-ch08 smoke-ch09 smoke-ch10

# tests start hundreds of Python processes; without its bytecode cache, each of them compiles every module again
unexport PYTHONDONTWRITEBYTECODE

# `make gpu`: every step has a time limit; the limits add up to at most twelve minutes
GPU_PYTHON ?= $(BIN)/python
GPU := gpu-tests gpu-devices gpu-compare gpu-matmul gpu-crossover gpu-asynchrony gpu-operators gpu-speedrun
RECORD := $(GPU_PYTHON) -m common.records.ledger record

# `make site`: cache runs each notebook once, off shows them without their output
NOTEBOOKS ?= cache

.PHONY: demo test test-all portable portable-old lowest check aims format notebooks site smoke gpu clean $(SMOKE) $(GPU)
.DEFAULT_GOAL := demo

demo: $(DEMO_INSTALLED)  ## run every chapter on embedded data, print a table, write an HTML report
	$(BIN)/python tour.py

test: $(INSTALLED)       ## the fast tests, on all cores: a few minutes, only packages from pip
	$(FAST)

test-all: $(INSTALLED)   ## also the slow tests (browser, image build, killed programs, README commands), then those that measure time
	$(BIN)/pytest -m "not alone" $(PARALLEL)
	$(BIN)/pytest -m alone

portable: $(INSTALLED)   ## the fast tests four times, with different instruction sets
	$(FAST)
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 $(FAST)
	$(MAKE) --no-print-directory portable-old
	MKL_CBWR=COMPATIBLE OMP_NUM_THREADS=1 $(FAST)

portable-old: $(INSTALLED) ## the fast tests with the instructions of an old processor (SSE4.1)
	ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 $(FAST)

lowest: $(LOWEST)/.installed ## the fast tests with the lowest versions that pyproject.toml allows, in an environment of their own
	TORCH_EXTENSIONS_DIR=$(CURDIR)/$(LOWEST)/extensions $(LOWEST)/bin/pytest -m "not slow and not alone" $(PARALLEL)

check: $(INSTALLED)      ## format, lint, types, and tables that match the recorded results
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright --level error
	$(BIN)/python -m common.records.ledger render --check

aims: $(INSTALLED)       ## list the recorded figures outside their target range
	@$(BIN)/python -m common.records.ledger aims

format: $(INSTALLED)     ## format the code and fix lint errors
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

notebooks: $(NOTEBOOKS_INSTALLED) ## run docs/notebooks, write them with their outputs to build/notebooks, print a table
	$(BIN)/python -m companion.notebooks

site: $(INSTALLED)       ## the documentation site, build/site/index.html; NOTEBOOKS=off shows the notebooks without running them
	NOTEBOOKS=$(NOTEBOOKS) $(BIN)/python docs/site/build_site.py

smoke: $(INSTALLED)      ## the main commands of each chapter, in separate processes; test-all runs the other written commands
	rm -rf runs/smoke
	$(MAKE) --jobs 2 --output-sync=target --no-print-directory $(SMOKE)

smoke-ch01:
	$(BIN)/python -m ch01_graphs.train --out runs/smoke

smoke-ch02:
	$(BIN)/python -m ch02_nn.train --limit 300 --out runs/smoke

smoke-ch03:
	$(BIN)/python -m ch03_autoencoder_rbm.train --help
	$(BIN)/python -m ch03_autoencoder_rbm.train --limit 300 --out runs/smoke
	$(BIN)/python -m ch03_autoencoder_rbm.train recommender --data planted --epochs 3 --out runs/smoke
	$(BIN)/python -m ch03_autoencoder_rbm.recommend --out runs/smoke --user 42 --top 3
	$(BIN)/torchrun --standalone --nproc-per-node 2 -m ch03_autoencoder_rbm.train feedforward --data digits --epochs 2 --out runs/smoke

smoke-ch04:
	$(BIN)/python -m ch04_cuda.train compare --data digits --out runs/smoke
	$(BIN)/python -m ch04_cuda.train data_parallel --network mlp --steps 3 --out runs/smoke
	$(BIN)/python -m ch04_cuda.train --benchmark --out runs/smoke

smoke-ch05:
	$(BIN)/python -m ch05_rnn.train language_model --data pydoc --limit 20000 --epochs 1 --out runs/smoke
	$(BIN)/python -m ch05_rnn.generate --out runs/smoke --prompt "The" --length 40
	$(BIN)/python -m ch05_rnn.train language_model --data pydoc --level word --limit 5000 --epochs 1 --out runs/smoke
	$(BIN)/python -m ch05_rnn.generate --out runs/smoke --prompt "the" --next 5
	$(BIN)/python -m ch05_rnn.train sentiment --data grammar --limit 500 --epochs 1 --out runs/smoke
	$(BIN)/python -m ch05_rnn.classify_sentence --out runs/smoke "the plot was dull but the acting was superb"
	$(BIN)/python -m ch05_rnn.train seq2seq --limit 500 --epochs 1 --out runs/smoke
	$(BIN)/python -m ch05_rnn.translate --out runs/smoke "the 3rd of may 1999"
	$(BIN)/python -m ch05_rnn.train translation --limit 300 --epochs 1 --out runs/smoke
	echo "Der Mann hat den Ball gekauft." | $(BIN)/python -m ch05_rnn.converse --out runs/smoke

smoke-ch06:
	$(BIN)/python -m ch06_cnn.train cnn --data shapes --limit 300 --epochs 1 --out runs/smoke
	$(BIN)/torchrun --standalone --nproc-per-node 2 -m ch06_cnn.train speedrun --data shapes --limit 600 --epochs 1 --out runs/smoke

smoke-ch07:
	$(BIN)/python -m ch07_dqn.train generalise --budget 3 --mazes 200 --tests 50 --large-tests 10 --out runs/smoke
	$(BIN)/python -m ch07_dqn.play --out runs/smoke --maze 7 --steps-per-second 1000

smoke-ch08:
	$(BIN)/python -m ch08_vae.train vae --data digits --limit 300 --epochs 3 --conditional --importance-samples 50 --out runs/smoke
	$(BIN)/python -m ch08_vae.sample --out runs/smoke --digit 7 --count 8
	$(BIN)/python -m ch08_vae.sample --out runs/smoke --interpolate 3 8 --count 2

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

smoke-tour:
	$(BIN)/python tour.py --out runs/smoke

gpu:                     ## on a machine with an NVIDIA GPU: its tests and measurements, recorded in results/gpu/
	@$(GPU_PYTHON) -c 'import torch; torch.cuda.init()' 2>/dev/null || nvidia-smi --list-gpus >/dev/null 2>&1 \
	|| { echo "make gpu: no NVIDIA GPU was found on this machine" >&2; exit 1; }
	@test "$(GPU_PYTHON)" != "$(BIN)/python" || $(MAKE) --no-print-directory $(INSTALLED)
	@$(GPU_PYTHON) -c 'import sys, torch; torch.cuda.is_available() or sys.exit("make gpu: the PyTorch of $(GPU_PYTHON) cannot use the GPU")'
	$(MAKE) --keep-going --no-print-directory $(GPU)

gpu-tests:
	timeout 120 $(GPU_PYTHON) -m pytest -m gpu $(shell grep -rl --include='test_*.py' 'mark\.gpu' tests)

gpu-devices:
	timeout 210 $(GPU_PYTHON) -m common.records.ledger devices --name gpu/devices

gpu-compare:
	timeout 60 $(RECORD) gpu/compare --seeds 1 -- ch04_cuda.train compare --limit 10000

gpu-matmul:
	timeout 45 $(RECORD) gpu/matmul --seeds 1 -- ch04_cuda.train matmul --device cuda --rounds 3

gpu-crossover:
	timeout 60 $(RECORD) gpu/crossover --seeds 1 -- ch04_cuda.train crossover --device cuda --networks mlp cnn --rounds 2

gpu-asynchrony:
	timeout 90 $(RECORD) gpu/asynchrony --seeds 1 -- ch04_cuda.train asynchrony --device cuda --rounds 5

gpu-operators:
	timeout 60 $(RECORD) gpu/operators --seeds 1 -- ch04_cuda.train operators --device cuda --rounds 5

gpu-speedrun:
	timeout 75 $(RECORD) gpu/speedrun --seeds 1 -- ch06_cnn.train speedrun --device cuda --budget 30

clean:
	rm -rf runs build .pytest_cache .ruff_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(f"Python 3.11 or newer is needed, $(PYTHON) is {sys.version.split()[0]}: run make PYTHON=python3.x" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv

# dependencies of the tour, without development tools
$(DEMO_INSTALLED): pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing the dependencies of the tour into .venv: about 6 GB with CUDA, a minute or two on a fast line"
	@$(PIP) '.[demo]'
	touch $@

$(NOTEBOOKS_INSTALLED): pyproject.toml constraints.txt | $(BIN)/python
	@$(PIP) '.[demo,notebooks]'
	touch $@

$(LOWEST)/.installed: pyproject.toml
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct --editable '.[dev]'
	touch $@

$(INSTALLED): pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing all dependencies with development tools into .venv: about 7 GB with CUDA, some minutes on a fast line"
	@$(PIP) '.[dev]'
	touch $(DEMO_INSTALLED) $@
