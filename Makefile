PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Tried besides .venv, each in an environment of its own. `lowest` has every dependency at the low
# end of its range in setup.py, and so the lowest Keras. KERAS_* is what replaces the Keras there.
RESOLUTION_lowest := lowest-direct
KERAS_lowest := keras==3.12.0
KERAS_current := keras==3.15.1
KERAS_nightly := keras-nightly==3.16.0.dev2026102704
ENVIRONMENTS := lowest current nightly

.PHONY: demo test test-slow test-keras $(ENVIRONMENTS:%=test-%) lint clean

$(STAMP): setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e ".[test]"
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/kerasrnn demo --out demo --overwrite

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow -n 2 --dist loadfile -rs

test-keras: $(ENVIRONMENTS:%=test-%)

# FILES="tests/test_cells.py …" runs some of the tests.
$(ENVIRONMENTS:%=test-%): test-%: .venvs/%/.installed
	.venvs/$*/bin/python -m pytest -n 2 --dist loadfile $(FILES)

# The nightly has another name than the Keras it replaces, and both write the same files.
.venvs/%/.installed: setup.py pyproject.toml Makefile
	$(PYTHON) -m venv --clear .venvs/$*
	.venvs/$*/bin/python -m pip install --quiet uv
	.venvs/$*/bin/uv pip install --quiet --python .venvs/$*/bin/python \
		--resolution $(or $(RESOLUTION_$*),highest) -e ".[test]"
	.venvs/$*/bin/uv pip uninstall --quiet --python .venvs/$*/bin/python keras
	.venvs/$*/bin/uv pip install --quiet --python .venvs/$*/bin/python "$(KERAS_$*)"
	touch $@

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf $(VENV) .venvs build dist *.egg-info demo
