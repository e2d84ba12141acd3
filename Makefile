# `make quickstart` shows what this is; `make test` shows that it works.

VENV := .venv
BIN := $(VENV)/bin
WORKDIR := runs/quickstart
# More flags for the quickstart's training, e.g. --config.training.steps=2000
ARGS :=
SAMPLE := $(BIN)/python -m experiments.sample --workdir=$(WORKDIR)

.PHONY: install quickstart test check long format clean

install: $(VENV)/installed

# The newest Python from 3.11 on, on the PATH or among pyenv's, that can make
# an environment. `make install PYTHON=/path/to/python` chooses another.
$(VENV)/installed: setup.cfg pyproject.toml scripts/find_python.sh
	@python="$${PYTHON:-$$(sh scripts/find_python.sh)}" && \
	  echo "installing into $(VENV) with $$python" && \
	  "$$python" -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --editable '.[test,check,notebook]'
	@touch $@

quickstart: install
	$(BIN)/python -m experiments.run --config=configs/quickstart.py \
	  --workdir=$(WORKDIR) $(ARGS)
	$(BIN)/python -m experiments.evaluate --workdir=$(WORKDIR) --samples=20
	@echo; echo 'Four samples from the prior:'
	@$(SAMPLE) --mode=prior --num=4
	@echo; echo 'Four reconstructions of test sentences:'
	@$(SAMPLE) --mode=reconstruct --num=4
	@echo; echo 'One interpolation:'
	@$(SAMPLE) --mode=interpolate --num=6
	@echo; echo 'workdir   $(WORKDIR)'
	@echo 'curves    $(WORKDIR)/curves.png'
	@echo 'notebook  experiments/inspect.ipynb (WORKDIR names the workdir it opens)'

test: install
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "slow and not long"

long: install
	$(BIN)/python -m pytest -n 2 --dist worksteal -m long

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build *.egg-info
