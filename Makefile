# make run    the workbench in the browser
# make test   every test, with all the set-up it needs
# make check  lint, types, unit tests
# make prove  what takes long: measurements; results are kept in benchmarks/results
# make golden  writes anew what other libraries make of dictionaries, with those libraries
# make bundled-model  trains the model that the package carries; goes on where it was stopped
SHELL := /bin/sh
PYTHON ?= python3
MODEL ?= demo
BIN := .venv/bin
# What starts servers and processes is no unit; it is in `make test`.
UNITS := $(addprefix --ignore=tests/,browser server cli test_client.py) -m "not slow"
PEERS := sparsify dictionary_learning sae_lens_0
STATIC := src/residscope/results/static/index.html
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Where it is set, every process that a test starts would compile all modules anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run build test check prove golden bundled-model docs clean

run: $(STATIC)
	@$(BIN)/residscope serve $(MODEL) $(ARGS)

build: $(STATIC)

test: .venv/system $(STATIC)
	tools/with-node npm --prefix web run --silent check
	tools/with-node npm --prefix web run --silent test
	$(BIN)/python -m pytest -n auto --dist loadfile

check: $(STATIC)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache >/dev/null || $(BIN)/lint-imports --no-cache
	tools/with-node npm --prefix web run --silent check
	tools/with-node npm --prefix web run --silent test
	CHECK_SHAPES=none $(BIN)/python -m pytest -n auto --dist loadfile $(UNITS)

prove: .venv/system $(STATIC) golden
	CHECK_SHAPES=all $(BIN)/python -m pytest -n auto --dist loadfile -m "not browser"
	$(BIN)/python -m benchmarks.loading
	$(BIN)/python -m benchmarks.repaint
	$(BIN)/python -m benchmarks.heat
	$(BIN)/python -m benchmarks.workbench
	$(BIN)/python -m benchmarks.engine
	$(BIN)/python -m benchmarks.analyses
	$(BIN)/python -m benchmarks.cost
	$(BIN)/python -m benchmarks.products --keep
	$(BIN)/python -m benchmarks.graph --keep
	$(BIN)/python -m benchmarks.graph_page

golden: $(PEERS:%=.peers/%/ready) .peers/sae_lens/ready
	@for peer in sae_lens $(PEERS); do \
	  PYTHONHASHSEED=0 .peers/$$peer/bin/python -m tests.golden.make_$$peer tests/golden >/dev/null || exit 1; done

bundled-model: .venv/ready .peers/sae_lens/ready
	$(BIN)/python -m training $(ARGS)

docs: $(STATIC)
	$(BIN)/python -m sphinx -q -W -b html docs docs/_build/html

clean:
	rm -rf .venv .peers web/node_modules web/build src/residscope/results/static docs/_build docs/_made dist

# torch goes first, pinned: an unpinned one may pull gigabytes of CUDA packages.
.venv/ready: pyproject.toml constraints.txt
	@[ -x $(BIN)/pip ] || $(PYTHON) -m venv --clear .venv || { \
	  tools/system python3-venv "/usr/share/doc/python3-venv/*" && $(PYTHON) -m venv --clear .venv; }
	@echo "Installing into .venv ..."
	@$(BIN)/python -m pip install -q -c constraints.txt "pip>=25.1"
	@$(BIN)/python -m pip install -q -c constraints.txt torch
	@$(BIN)/python -m pip install -q -c constraints.txt -e . --group dev
	@touch $@

# It trains the dictionaries, and needs much that nothing else here does.
.peers/sae_lens/ready: pyproject.toml training/sae_lens.txt | .venv/ready
	@echo "Installing SAELens ..."
	@$(BIN)/python -m venv --clear $(@D)
	@$(@D)/bin/python -m pip install -q -c training/sae_lens.txt torch
	@$(@D)/bin/python -m pip install -q -c training/sae_lens.txt -e . sae-lens
	@touch $@

# What wrote the dictionaries in tests/golden; torch alone has a build of this machine's own.
$(PEERS:%=.peers/%/ready): .peers/%/ready: tests/golden/%.txt | .venv/ready
	@echo "Installing $* ..."
	@$(BIN)/python -m venv --clear $(@D)
	@$(@D)/bin/python -m pip install -q --no-deps -r $<
	@touch $@

.venv/system: .venv/ready
	@tools/system chromium chromium fonts-dejavu-core "/usr/share/fonts/*/*" postgresql "/usr/lib/postgresql/*/bin/initdb"
	@touch $@

web/node_modules/ready: web/package.json web/package-lock.json .venv/ready
	@echo "Installing what builds the pages ..."
	@tools/with-node npm --prefix web ci --silent --no-audit --no-fund
	@touch $@

$(STATIC): web/node_modules/ready web/build.mjs $(shell find web/src -type f)
	@echo "Building the pages ..."
	@tools/with-node npm --prefix web run --silent build
	@touch $@
