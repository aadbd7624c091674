# `make demo` and `make test` do all the set-up that they need: a locked .venv, Horovod, and the link that lets plain
# `mlflow run .` find the environment. Wanted on the machine: Python 3.11 or later (with venv), g++, make.

PYTHON ?= python3
BIN := .venv/bin
UV := $(or $(shell command -v uv),.tools/bin/uv)
export UV
export MLFLOW_DISABLE_TELEMETRY := true
export GIT_PYTHON_REFRESH := quiet

.PHONY: setup demo test test-fast lint format screenshots clean help

help:
	@echo "make demo    films, training on two ranks, registry, prediction: the whole product in small"
	@echo "make test    every test        make test-fast   those that start no servers and train no models"
	@echo "make lint    ruff, mypy, import-linter, codespell"
	@echo "make setup   only the environment        make clean   remove what the demo made"

setup: .venv/.ready

# Each stamp file stands for a finished part, so that a second call takes no time.
.venv/.ready: .venv/.horovod python_env.yaml
	@$(BIN)/python -c "from pathlib import Path; from radflow.tracking.environment import register_environment as register; \
	  print('mlflow run uses', register(Path.cwd(), Path('.venv')))"
	@touch $@

.venv/.horovod: .venv/.synced docker/build_horovod.sh
	@docker/build_horovod.sh .venv
	@touch $@

.venv/.synced: pyproject.toml uv.lock | $(if $(filter .tools/%,$(UV)),$(UV))
	@command -v g++ >/dev/null || { echo "error: g++ not found; install a C++ compiler (Debian, Ubuntu: apt-get install g++)" >&2; exit 2; }
	@echo "installing the locked environment into .venv"
	@$(UV) sync --locked --inexact --quiet --python $(PYTHON)
	@touch $@

.tools/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is older than 3.11; give PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -m venv .tools || { echo "error: $(PYTHON) has no venv module (Debian, Ubuntu: apt-get install python3-venv)" >&2; exit 2; }
	@.tools/bin/pip install --quiet --disable-pip-version-check 'uv>=0.9,<1'

demo: setup
	@PATH="$(CURDIR)/$(BIN):$$PATH" ./demo.sh

test: setup
	$(BIN)/pytest -m "not slow"
	$(BIN)/pytest -m slow

test-fast: setup
	$(BIN)/pytest -m "not slow"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf data runs mlruns mlartifacts mlflow.db predictions.csv
