# Conch. `make run` installs what is missing and serves the call page.

PYTHON ?= python3
CALLS ?= 1
# Without endpointing, which fits its weights again, and echo, which cancels minutes of it.
PURE := turns segmenter live endpoint_features audio clauses heard playback wire settings response \
  conversation interruption wording prosody level captions kiosk_states
BIN := .venv/bin
PIP_INSTALL := $(BIN)/pip install --disable-pip-version-check --constraint constraints.txt

.PHONY: install run demo test test-clients test-pure lint bench bench-turns clean

install: .venv/.models

run: install
	$(BIN)/conch serve $(ARGS)

demo: install
	$(BIN)/conch demo -o out

test: .venv/.dev .venv/.models
	$(BIN)/pytest $(ARGS)

test-pure: .venv/.dev
	$(BIN)/pytest -m "not client" $(PURE:%=tests/test_%.py) $(ARGS)

# Other people's clients, docs/clients.md: 800 MB of packages, none of which the other tests need.
test-clients: .venv/.dev .venv-clients/.made tests/node/node_modules/.made
	$(BIN)/pytest tests/test_openai_client.py tests/test_stock_clients.py $(ARGS)

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/.dev .venv/.models
	$(BIN)/python scripts/bench.py --calls $(CALLS)

# KINDS="pauses echo" for some kinds only; ARGS="--limit 4" for a quick look.
bench-turns: .venv/.dev .venv/.models
	$(BIN)/python scripts/bench_turns.py $(KINDS) --calls $(CALLS) --json out/turns.json \
	  --pictures out/turns $(ARGS)

clean:
	rm -rf .venv .venv-clients tests/node/node_modules out build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

# The stamps: while they are newer than what they were made from, neither pip nor the model cache
# is asked again.
.venv/.server: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP_INSTALL) -e '.[server,speech-gpl]'
	touch $@

.venv/.dev: .venv/.server
	$(PIP_INSTALL) -e '.[server,speech-gpl,torch,dev]'
	touch $@

.venv-clients/.made: tests/clients/requirements.txt
	$(PYTHON) -m venv .venv-clients
	.venv-clients/bin/pip install --disable-pip-version-check -r $<
	touch $@

tests/node/node_modules/.made: tests/node/package-lock.json
	npm ci --prefix tests/node --no-audit --no-fund
	touch $@

.venv/.models: .venv/.server assistant/models.toml
	$(BIN)/conch models fetch
	touch $@
