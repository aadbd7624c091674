# `make demo` and `make test` do all the set-up that they need: a locked .venv, Horovod, and the link that lets plain
# `mlflow run .` find the environment. Wanted on the machine: Python 3.11 or later (with venv), g++, make.

# Horovod's build cuts its options at spaces, and PATH at colons; told before minutes are spent.
ifneq ($(words [$(CURDIR)] $(findstring :,$(CURDIR))),1)
$(error the path of this clone has a space or a colon: '$(CURDIR)'; move it to one without, such as $(subst :,-,$(subst $() ,-,$(CURDIR))))
endif

PYTHON ?= python3
BIN := .venv/bin
UV := $(or $(shell command -v uv),.tools/bin/uv)
export UV
# Else each process compiles the thousands of modules of TensorFlow and MLflow anew wherever Python may not keep what it has
# compiled: in an image that runs as another user, or with PYTHONDONTWRITEBYTECODE set.
export UV_COMPILE_BYTECODE := 1
export PATH := $(CURDIR)/$(BIN):$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true
export GIT_PYTHON_REFRESH := quiet

# Runs a command, showing it and how long it took.
part = @echo "+ $(1)"; start=$$(date +%s); $(1) || exit $$?; echo "  ($$(( $$(date +%s) - start )) s)"

.PHONY: setup mlproject demo test test-fast test-long test-lowest bench bench-quick lint format clean help

help:
	@echo "make demo    films, training on two ranks, registry, prediction: the whole product in small"
	@echo "make test    what CI runs      make test-fast   those that start no servers and train no models"
	@echo "make test-long   what takes minutes each: searches, jobs that are killed and resumed, stores that go away;"
	@echo "                 and make test-lowest: the fast tests with the lowest versions that pyproject.toml allows"
	@echo "make lint    ruff, mypy, import-linter, codespell"
	@echo "make bench   speed and memory beside Keras fit and PyTorch (hours; BENCH=\"--image_size=64\" passes options)"
	@echo "make setup   only the environment        make clean   remove synthetic films, all runs and models"

# Another checkout may have taken the link by which `mlflow run` finds this environment; asking costs nothing.
setup: .venv/.horovod .venv/.native .venv/.registered
	@[ "$$(readlink -f "$$(cat .venv/.registered)")" = "$$(readlink -f .venv)" ] || $(BIN)/python -m radflow register >/dev/null

# Each stamp file stands for a finished part, so that a second call takes no time.
.venv/.registered: .venv/.synced python_env.yaml
	@$(BIN)/python -m radflow register > $@.partial && mv $@.partial $@

.venv/.horovod: .venv/.synced docker/build_horovod.sh
	$(call part,docker/build_horovod.sh .venv)
	@touch $@

# Training is faster with the native operations, and runs without them.
.venv/.native: .venv/.synced $(wildcard radflow/native/*.cc radflow/native/*.h)
	@echo "+ $(BIN)/python -m radflow build"; $(BIN)/python -m radflow build >/dev/null || echo "  goes on without native operations"
	@touch $@

.venv/.synced: pyproject.toml uv.lock | $(if $(filter .tools/%,$(UV)),$(UV))
	@command -v g++ >/dev/null || { echo "error: g++ not found; install a C++ compiler (Debian, Ubuntu: apt-get install g++)" >&2; exit 2; }
	$(call part,$(UV) sync --locked --inexact --quiet --python $(PYTHON))
	@touch $@

.tools/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is older than 3.11; give PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -m venv .tools || { echo "error: $(PYTHON) has no venv module (Debian, Ubuntu: apt-get install python3-venv)" >&2; exit 2; }
	@.tools/bin/pip install --quiet --disable-pip-version-check 'uv>=0.9,<1'

# Each line is what a user types; phantom films are made on first use.
demo: setup
	$(call part,mlflow run . -e distributed -P gbz=32)
	$(call part,mlflow run . -e promote)
	$(call part,mlflow run . -e predict -P output=predictions.csv)
	@echo
	@echo "predictions of the registered model:   $(CURDIR)/predictions.csv"
	@echo "runs, charts and registered models:    $(BIN)/mlflow ui   and open"
	@echo "    http://127.0.0.1:5000/#/experiments/0?workflowType=machine_learning"

# Two files of tests at a time; the tests of a file share what they have started.
PYTEST := $(BIN)/pytest --numprocesses 2 --dist loadfile

test: setup
	$(PYTEST) -m "not slow and not long"
	$(PYTEST) -m "slow and not long" --durations=25

test-fast: setup
	$(PYTEST) -m "not slow and not long"

test-long: setup test-lowest
	$(BIN)/pytest -m long

# The fast tests with the lowest versions that pyproject.toml allows, in an environment of their own. They need no
# Horovod, and the programs that they start are those of that environment.
test-lowest: .venv-lowest/.synced
	PATH="$(CURDIR)/.venv-lowest/bin:$$PATH" .venv-lowest/bin/python -m pytest -m "not slow and not long"

.venv-lowest/.synced: pyproject.toml | $(if $(filter .tools/%,$(UV)),$(UV))
	$(UV) venv --quiet --clear --python $(PYTHON) .venv-lowest
	$(call part,$(UV) pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct --group test --editable .)
	@touch $@

# PyTorch is measured in an environment of its own. Without the index of CPU wheels pip takes PyPI's, far larger one.
bench: setup .venv-torch/.synced
	$(BIN)/python benchmarks/training.py --torch=.venv-torch/bin/python $(BENCH)

# What a reader runs: six minutes on two cores.
bench-quick: setup .venv-torch/.synced
	$(BIN)/python benchmarks/training.py --torch=.venv-torch/bin/python --arch densenet121 --batch 16 --steps 4 --repeats 3 \
	  --only "radflow train" "radflow distributed" PyTorch "PyTorch on each core"

TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
.venv-torch/.synced:
	$(PYTHON) -m venv .venv-torch
	.venv-torch/bin/pip install --quiet --retries=0 --extra-index-url=$(TORCH_INDEX) torch==2.13.0 torchvision==0.28.0 numpy
	@touch $@

mlproject: setup
	$(BIN)/python -m radflow.commands.mlproject > MLproject.partial && mv MLproject.partial MLproject

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
	rm -rf data/sample runs mlruns mlartifacts mlflow.db predictions.csv
