# Everything that is made lies in target/ and .venv/. `make help` lists what can be asked for.
#
# Nothing here needs more than a Rust toolchain, a C linker and CPython >= 3.11 with venv; what else
# is used (maturin, pytest, ruff, mypy) is installed into virtual environments of the project's own.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# Cargo uses every core by itself, and tests that measure time must not share the machine.
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory --no-builtin-rules

# The interpreter to use, a path or a command. Empty: what `python3` is, or the newest found; for
# the tests: every one found.
PYTHON ?=
# Arguments of `ungil compare` and of the benchmark.
ARGS ?=
# The benchmark to run, a file of benches/ without its ending.
BENCH ?= executors
# Peers that are heavy to install have a virtual environment to themselves.
bench_venv := target/venvs/bench$(if $(findstring --heavy,$(ARGS)),-heavy)
bench_groups := bench $(if $(findstring --heavy,$(ARGS)),bench-heavy)
page := docs/benchmarks
# What pytest runs, with any of its options.
TESTS ?= tests

venvs := target/venvs

.PHONY: help run test test-rust test-models test-instructions test-python lint bench bench-page clean

help:
	@echo 'make run    build ungil, install it into .venv and run `ungil compare`'
	@echo '            ARGS="tasks.py:resize --tasks 8"   arguments of `ungil compare`'
	@echo '            PYTHON=/path/to/python3            the interpreter for .venv'
	@echo 'make test   Rust tests, then Python tests with the wheel installed, on every CPython >= 3.11 found'
	@echo '            PYTHON=python3.12                  on this one only'
	@echo '            TESTS="tests/test_a.py -k word"    some of the Python tests'
	@echo '            make test-rust, test-models, test-instructions, test-python   a part of it'
	@echo 'make lint   formatting, clippy, ruff and mypy'
	@echo 'make bench  the executors beside others, on a machine that does nothing else'
	@echo '            ARGS="--quick --rows burst,trip"   arguments of the benchmark'
	@echo '            ARGS="--heavy"                     Ray and Dask too'
	@echo '            BENCH=growth                       another one of benches/'
	@echo 'make bench-page   measure everything and write docs/benchmarks, with the same ARGS'
	@echo 'make clean  remove everything that was made'

run: install-run
	@.venv/bin/ungil compare $(ARGS)

bench: install-bench
	@$(bench_venv)/bin/python benches/$(BENCH).py $(ARGS)

# With status 3 everything was measured but a peer that failed; the page says so.
bench-page: install-bench
	@mkdir -p $(page)
	@$(bench_venv)/bin/python benches/executors.py $(ARGS) --json $(page)/executors.json || [ $$? = 3 ]
	@$(bench_venv)/bin/python benches/growth.py $(ARGS) --json $(page)/growth.json || [ $$? = 3 ]
	@$(bench_venv)/bin/python benches/page.py $(page)

test: test-rust test-models test-instructions test-python

# The binding is an extension module: its own test binary could not link, for it has no interpreter.
# It is tested from Python.
test-rust:
	@scripts/check-machine
	cargo test --workspace --exclude ungil-python

# Every interleaving of the protocols in shared memory. Loom has types of its own for what is shared,
# so this is another build.
test-models:
	RUSTFLAGS='--cfg loom' CARGO_TARGET_DIR=target/loom cargo test --release -p ungil-shm --test loom

# What the hot paths execute, counted where valgrind is installed.
test-instructions:
	scripts/count-instructions

test-python:
	@scripts/for-each-python '$(PYTHON)' '$(MAKE)' test-one

lint:
	@scripts/check-machine lint
	@scripts/make-venv $(venvs)/lint '$(PYTHON)' lint
	cargo fmt --all --check
	@# pyo3 asks an interpreter; always the same one, or everything is checked again.
	PYO3_PYTHON="$(CURDIR)/$(venvs)/lint/bin/python" cargo clippy --workspace --all-targets -- -D warnings
	$(venvs)/lint/bin/ruff check .
	$(venvs)/lint/bin/ruff format --check .
	$(venvs)/lint/bin/mypy --strict

clean:
	rm -rf target .venv .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# From here on: how they are made.

.PHONY: install-run install-bench install test-one always

install-run:
	@scripts/make-venv .venv '$(PYTHON)'
	@$(MAKE) install VENV=.venv VERSION="$$(sed -n 3p .venv/.made)"

install-bench:
	@scripts/make-venv $(bench_venv) '$(PYTHON)' $(bench_groups)
	@$(MAKE) install VENV=$(bench_venv) VERSION="$$(sed -n 3p $(bench_venv)/.made)"

# One interpreter's tests: VERSION and INTERPRETER are those of a line of scripts/find-pythons.
test-one:
	@scripts/make-venv $(venvs)/$(VERSION) "$$INTERPRETER" test
	@$(MAKE) install VENV=$(venvs)/$(VERSION) VERSION=$(VERSION)
	env -u PYTHONPATH -u PYTHONHOME $(venvs)/$(VERSION)/bin/pytest -q -W error $(TESTS)

ifdef VERSION
wheel := target/wheels/$(VERSION)
# What is in the wheel. The list itself is compared too, so that a removed file is noticed.
sources := $(shell find crates python Cargo.toml Cargo.lock pyproject.toml -type f \
	! -path '*/__pycache__/*' ! -name '*.so' ! -name '.*' | LC_ALL=C sort)

install: $(VENV)/.installed

$(VENV)/.installed: $(wheel)/.built
	@scripts/install-wheel $(VENV) $(wheel)
	@touch $@

$(wheel)/.built: $(sources) target/sources
	@scripts/check-machine
	@scripts/make-venv --any $(venvs)/build "$$(sed -n 2p $(VENV)/.made)" build
	@scripts/build-wheel $(venvs)/build "$$(sed -n 2p $(VENV)/.made)" $(wheel)
	@touch $@

target/sources: always
	@mkdir -p target
	@printf '%s\n' $(sources) >$@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi
endif
