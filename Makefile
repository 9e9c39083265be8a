# Everything a fresh machine needs is git, make and python3 (>= 3.11, with pip and venv).
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-browser test-slurm check docs clean

demo: .venv/installed
	$(BIN)/tilseg run sample_data/slide.tif -o demo.tilseg

# Three at a time on two cores: some tests wait for processes, and slow ones are shared out at the end.
test: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 3 --dist worksteal --ignore=tests/browser --ignore=tests/slurm

# Drives Debian's chromium, and skips where there is none.
test-browser: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/pytest -rs tests/browser

# Starts a SLURM of two nodes in a temporary folder, and skips where it is not installed.
test-slurm: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/pytest -rs tests/slurm

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/installed-docs
	$(BIN)/python docs/generate.py
	$(BIN)/zensical build --strict --clean

.venv/installed-docs: .venv/installed
	$(BIN)/pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[docs]'
	touch $@

.venv/installed: pyproject.toml constraints.txt
	@echo "Installing tilseg and its tools into .venv: about 2 GB, some minutes, without a word"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv demo.tilseg site
