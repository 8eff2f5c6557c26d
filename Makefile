# make run: serve the page. make test: every check. Each does its own set-up on a machine with python3.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
APP ?=

.PHONY: run test slow check chromium clean

run: $(VENV)/.serving
	$(BIN)/python app.py $(APP)

test: $(VENV)/.development chromium check

check:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist loadfile

slow: $(VENV)/.development chromium
	$(BIN)/python -m pytest -m slow

chromium:
	@sh tools/chromium.sh

$(VENV)/bin/python:
	sh tools/venv.sh $(PYTHON) $(VENV)

$(VENV)/.serving: requirements.txt | $(VENV)/bin/python
	$(BIN)/pip install --quiet --requirement requirements.txt
	touch $@

$(VENV)/.development: requirements.txt requirements-export.txt requirements-metrics.txt requirements-ray.txt requirements-mcp.txt requirements-heic.txt requirements-dev.txt | $(VENV)/bin/python
	$(BIN)/pip install --quiet --requirement requirements-dev.txt
	touch $@ $(VENV)/.serving

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
