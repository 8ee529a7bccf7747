# Everything a newcomer needs. `make help` explains itself; Linux and macOS, Python 3.11+.

PYTHON ?= python3
# Where `make ui` listens.
HOST   ?= 127.0.0.1
PORT   ?= 5000
# Which build of torch: none is the lock's; auto, cu126, cpu …: see docs/real-abo.md, "The GPU".
# system: the one that PYTHON has, as it is.
TORCH_BACKEND ?=
# Optional dependencies of pyproject.toml, separated by commas: EXTRAS=quant,s3.
EXTRAS ?=
export EXTRAS
VENV   := .venv
BIN    := $(VENV)/bin
# DVC's stages run `python`: it has to be the environment's. The only absolute path here, since the
# checkout may lie in a folder with blanks, which separate words for make and the shell.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1

# Bytecode is compiled once, here: torch and transformers take seconds to compile, in every process
# where it can't be kept (PYTHONDONTWRITEBYTECODE, a folder that is read only).
INSTALL := $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint requirements.lock
# Another build of torch is another installation, even if the environment already exists.
RUNTIME := $(VENV)/runtime$(addprefix -,$(TORCH_BACKEND))$(addprefix -,$(EXTRAS))
ifeq ($(TORCH_BACKEND),system)
BUILD   := --override tools/notebooks/system-torch.txt
# uv doesn't count what is there: everything else is installed beside it.
ISOLATE := --system-site-packages
else
BUILD   := $(if $(TORCH_BACKEND),--torch-backend=$(TORCH_BACKEND) $(addprefix --reinstall-package ,torch torchvision))
endif

# Whole files are dealt out to one process a core, the first and longest file first.
PYTEST := pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# What `make rehearsal` rehearses: all models, or (small) those that need 6 GB of disk only.
PART   ?= all
# Those with a target of their own take longer, or a GPU.
BENCHMARKS = $(filter-out benchmarks/rehearsal.py benchmarks/gpu.py,$(wildcard benchmarks/*.py))

# Columns that `make experiments` leaves out: hashes of files, every metric of a model but its accuracy.
DETAILS := .*/|Created|Executor|trainable_parameters|modules|(.*\.)?(gain_over_blind|alias_accuracy|.*_match|.*f1.*|meteor|wup|rouge.|bleu|bert.*|bart.*|coverage|n)$$

.DEFAULT_GOAL := help
.PHONY: help setup repro test test-all lint report experiments ui abo sample bench gpu rehearsal \
	notebooks docs docs-serve lock clean known-extras

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile

# uv installs nothing for an extra that doesn't exist, and succeeds. By awk, since the Python that
# PYTHON names may be too old to read TOML.
known-extras:
	@awk '/^\[/ { inside = $$0 == "[project.optional-dependencies]" } \
		inside && /^[a-z0-9-]+ *=/ { sub(/ *=.*/, ""); known[$$0]; names = names " " $$0 } \
		END { \
			count = split(ENVIRON["EXTRAS"], asked, ","); \
			for (i = 1; i <= count; i++) \
				if (!(asked[i] in known)) unknown = unknown " \"" asked[i] "\""; \
			if (unknown == "") exit 0; \
			print "EXTRAS: pyproject.toml has no extra" unknown ". It has:" names "."; \
			print "Several are separated by commas, without blanks: make setup EXTRAS=quant,s3"; \
			exit 2 }' pyproject.toml >&2
ifneq ($(EXTRAS),)
$(BIN)/uv: | known-extras
endif

$(BIN)/uv:
	@case "$$PWD" in *[%:]*) \
		echo "The path $$PWD has a '%' or a ':', with which MLflow or Python's environments don't work."; \
		echo "Rename that folder (blanks and other letters are fine), then try again."; exit 2;; esac
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, found $$($(PYTHON) --version). Try: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv $(ISOLATE) $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(ISOLATE),--ignore-installed) uv

$(RUNTIME): $(BIN)/uv pyproject.toml requirements.lock
	@echo "Installing torch and the other libraries into $(VENV): usually 1 to 5 minutes, in silence"
	$(INSTALL) $(BUILD) --editable '.$(EXTRAS:%=[%])'
	@touch $@

$(VENV)/dev: $(RUNTIME)
	$(INSTALL) --editable '.[dev]'
	@touch $@

$(VENV)/data: $(RUNTIME) data/raw/sample.dvc models/sample.dvc
	dvc pull --quiet --remote sample data/raw/sample models/sample
	@# Until `make abo`, data.dvc pins an empty folder, which `dvc checkout` has to find in the cache.
	@! grep -q 'nfiles: 0' data.dvc || { mkdir -p data/raw/abo && dvc commit --quiet --force data.dvc; }
	abo-vqa wordnet
	abo-vqa tracking
	@touch $@

setup: $(VENV)/data  ## install into .venv, unpack the sample and WordNet, set up MLflow's database

repro: setup  ## run the whole pipeline (profile in params.yaml) and show the result
	dvc repro
	@abo-vqa show

test: setup $(VENV)/dev  ## run the default tests
	$(PYTEST)

test-all: setup $(VENV)/dev  ## run every test: chaos, browsers, queues, many processes
	$(PYTEST) -m ''

lint: $(VENV)/dev  ## ruff, codespell, mypy --strict, and the layers by import-linter
	ruff check
	ruff format --check
	codespell
	mypy src tools
	lint-imports

report: setup  ## rebuild the report and print where it is
	dvc repro report
	@abo-vqa show

experiments: setup  ## compare DVC's experiments: the settings and accuracies that differ
	dvc exp show --only-changed --drop '$(DETAILS)' --md

ui: setup  ## browse the recorded runs in MLflow (PORT=5001, HOST=0.0.0.0)
	abo-vqa ui --host $(HOST) --port $(PORT)

abo: setup  ## download the real archives (3 GB) into data/raw/abo
	abo-vqa fetch

sample: setup  ## rebuild the embedded sample: images, catalogue, checkpoints (up to an hour)
	PYTHONPATH=tools python -m sample

bench: $(VENV)/dev  ## run the benchmarks that docs/benchmarks.md quotes
	for script in $(BENCHMARKS); do python "$$script" || exit; done

rehearsal: setup  ## the real run on stand-ins for data and weights (12 minutes, 36 GB of disk; PART=small: 10 minutes, 6 GB)
	python benchmarks/rehearsal.py --part $(PART)

# With the environment if there is one; a borrowed machine may have no network to make it with.
gpu:  ## benchmark everything on this machine's GPU in 8 minutes (needs only torch, transformers, peft)
	@HF_HUB_OFFLINE=1 PYTHONPATH=src $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) benchmarks/gpu.py

docs: $(VENV)/dev  ## build the documentation into site/; broken links and anchors fail
	NO_MKDOCS_2_WARNING=1 mkdocs build --quiet
	@echo "site/index.html"

docs-serve: $(VENV)/dev  ## show the documentation while you write it (PORT=8000)
	NO_MKDOCS_2_WARNING=1 mkdocs serve --dev-addr $(HOST):$(if $(filter 5000,$(PORT)),8000,$(PORT))

notebooks: $(VENV)/dev  ## write the notebooks for Kaggle and Colab from notebooks/source.py
	PYTHONPATH=tools python -m notebooks

lock: $(BIN)/uv  ## refresh requirements.lock from pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --upgrade \
		--no-emit-index-url --no-header pyproject.toml --output-file requirements.lock

clean:  ## remove the pipeline's outputs; keeps downloads, journals, MLflow runs and .venv
	rm -rf data/*.csv data/embeddings data/vectors/*/ data/inputs models/adapter reports/baselines \
		reports/finetuned reports/scores reports/figures reports/cards reports/thumbnails reports/*.html \
		reports/report.pdf reports/evaluation.json
