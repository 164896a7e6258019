# demo · test · check · docs · test-wheel: what CI runs. Needs Python 3.11+ and make, no more.
SHELL := /bin/sh
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	&& echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test check format docs dist test-wheel test-lowest bench trainers trainers-all \
	trainers-changed clean

demo: $(VENV)/installed
	@$(BIN)/didact demo -o demo

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest -n auto

check: $(VENV)/installed-models $(VENV)/installed-release
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/ruff format --check src tests benchmarks examples
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile
	$(BIN)/python docs/generate.py --check

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix src tests benchmarks examples
	$(BIN)/ruff format src tests benchmarks examples

# The reference, written anew, and the site: build/site/index.html.
docs: $(VENV)/installed-dev $(VENV)/installed-release
	$(BIN)/python docs/generate.py
	$(BIN)/python docs/site.py
	$(BIN)/zensical build --clean --strict

# The sdist, and the wheel built from it.
dist: $(VENV)/installed-release
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/twine check --strict dist/*

# The wheel in a fresh environment and used from elsewhere, as people get it; then its types, as a
# project of theirs sees them.
FRESH := build/fresh
test-wheel: dist $(VENV)/installed-dev
	rm -rf $(FRESH) && $(VENV)/bin/python -m venv $(FRESH)
	$(FRESH)/bin/python -m pip install --quiet --disable-pip-version-check dist/*.whl pytest
	$(FRESH)/bin/python -m pip check
	cd $(FRESH) && DIDACT_WHEEL=$$(ls $(CURDIR)/dist/*.whl) bin/python -m pytest -p no:cacheprovider \
		-c $(CURDIR)/pyproject.toml $(CURDIR)/tests/release $(CURDIR)/tests/architecture/test_readme.py
	$(BIN)/mypy --strict --config-file= --cache-dir=$(FRESH)/types \
		--python-executable $(FRESH)/bin/python tests/release/consumer.py

# The oldest versions that pyproject.toml allows, and the tests that need no model. Their own
# deprecations are theirs.
LOWEST := build/lowest
test-lowest: $(VENV)/installed-release
	rm -rf $(LOWEST) && $(BIN)/uv venv --quiet --python $(BIN)/python $(LOWEST)
	$(BIN)/uv pip install --quiet --python $(LOWEST) --resolution lowest-direct \
		'.[fast,dedup,tokenize]'
	$(BIN)/uv pip install --quiet --python $(LOWEST) pytest hypothesis
	$(BIN)/uv pip check --python $(LOWEST)
	$(LOWEST)/bin/python -m pytest -p no:cacheprovider -o filterwarnings=default \
		$(addprefix tests/,$(WITHOUT_MODELS))
WITHOUT_MODELS := unit/core unit/data unit/cli unit/test_config.py unit/stages unit/ordering \
	unit/selection unit/text e2e/test_cli.py e2e/test_run.py architecture/test_readme.py

bench: $(VENV)/installed-dev
	$(BIN)/python benchmarks/main_job.py

# The pictures of pages in README and docs; needs Chromium.
.PHONY: pictures
pictures: $(VENV)/installed-dev
	$(BIN)/python docs/screenshots.py

trainers: $(VENV)/installed-models

# Trainers that read files by themselves, 2 to 3 GB each, in environments of their own. Their tests
# write down what they ran on; `make trainers-changed` runs those whose export is another since.
FAMILIES := llama-factory ms-swift axolotl
trainers-all: $(FAMILIES:%=trainers-%)
	$(BIN)/python -m pytest tests/e2e/test_trainers.py

trainers-changed:
	@for family in $(FAMILIES); do sha256sum --check --status constraints/trainers/$$family.sha256 \
		|| $(MAKE) trainers-$$family || exit 1; done

$(FAMILIES:%=trainers-%): trainers-%: $(VENV)/installed-models .venv-%/installed
	$(BIN)/python -m pytest tests/e2e/test_trainer_families.py -k $*
	@sha256sum src/didact/data/trainers/$(subst -,_,$*).py src/didact/data/export/flat.py \
		src/didact/data/export/script_rows.py constraints/trainers/$*.txt \
		> constraints/trainers/$*.sha256

.venv-%/installed: constraints/trainers/%.txt
	@test -x .venv-$*/bin/python || $(PYTHON) -m venv .venv-$*
	@case $* in axolotl) .venv-$*/bin/python -m pip install --quiet --no-deps axolotl==0.19.0;; esac
	@.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@# the builds that LLaMA-Factory brings of these two want CUDA; it imports the second
	@case $* in llama-factory) .venv-$*/bin/python -m pip uninstall --quiet --yes torchvision \
		torchaudio && touch "$$(echo .venv-$*/lib/python3*/site-packages)/torchaudio.py";; esac
	@touch $@

$(VENV)/created:
	@test -n "$(PYTHON)" || { echo "didact needs Python 3.11 or newer; none was found." \
		"Install one, or name it: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "This Python ($(PYTHON)) has no" \
		"venv module. Install it (on Debian and Ubuntu: apt install python3-venv), or name another" \
		"Python: make PYTHON=/path/to/python3"; exit 1; }
	@echo "setting up $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/installed: $(VENV)/created pyproject.toml
	@$(PIP) -e .
	@touch $@

$(VENV)/installed-dev: $(VENV)/created pyproject.toml
	@$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/installed

# Models and real trainers, for the tests that run them and for the type checker; torch is pinned so
# that the CPU build is taken.
$(VENV)/installed-models: $(VENV)/installed-dev constraints/ci.txt
	@$(PIP) -c constraints/ci.txt -e '.[dev,models,embed,ray,trainers]'
	@touch $@

# What a release is made and checked with: its archives, the site, the oldest versions.
$(VENV)/installed-release: $(VENV)/created pyproject.toml
	@$(PIP) -e '.[release]'
	@touch $@

clean:
	rm -rf $(VENV) $(FAMILIES:%=.venv-%) demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
