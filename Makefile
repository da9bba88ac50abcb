# Two commands on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUNS ?= runs
# Whole files go to a worker, since the tests of a file share what they set up.
TEST_WORKERS ?= 2
# Spinning OpenMP threads cost 8-17x on busy machines; nothing here talks to a hub or a logging service.
export OMP_WAIT_POLICY ?= PASSIVE
export WANDB_MODE ?= disabled
export TOKENIZERS_PARALLELISM ?= false
export PIP_DISABLE_PIP_VERSION_CHECK ?= 1

.PHONY: help demo test check format bench constraints clean

help:
	@echo "make demo   install, run the organism study, write $(RUNS)/organism/report.html"
	@echo "make test   install the development tools, run the tests"
	@echo "make check  lint, types, import order"
	@echo "make bench  measure speed against peers, write benchmarks/results.json"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.torch: constraints.txt tools/install_torch.py | $(BIN)/python
	$(BIN)/python tools/install_torch.py --constraints constraints.txt \
		$(if $(TORCH_INDEX),--index $(TORCH_INDEX)) $(if $(ALLOW_CUDA),--allow-cuda)
	@touch $@

$(VENV)/.runtime: pyproject.toml constraints.txt $(VENV)/.torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@

demo: $(VENV)/.runtime
	HF_HUB_OFFLINE=1 $(BIN)/mechprobe study analyses/organism.toml --set out=$(RUNS)/organism

test: $(VENV)/.dev
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev
	HF_HUB_OFFLINE=1 $(BIN)/python -m benchmarks.run

constraints: $(VENV)/.dev
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu//' > constraints.txt

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis
