# Every target sets up what it needs: `.venv` and the packages in it.
#   make run [ARGS=--once]   the demo: an origin, the proxy, one stream fetched and judged
#   make test [ARGS=...]     the tests
#   make check               format, lint, types
#   make bench               the measurements, and their report in bench/RESULTS.md: a quarter of an hour
#   make bench-quick         the same in three minutes, to see that it works
#   make bench-full          the whole grid, with more contenders: under two hours
#   make docs                the documentation, in site/; warnings are errors
#   make soak                the tests that run for minutes
#   make fuzz [ARGS="--cases 2000 --seed 7"]   damaged clips through the remux, until it is stopped
#   make clean               forget all of it

ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
# What the installation compiles; it is repeated when this changes.
COMPILED := setup.py proxy/media/flow.pyx proxy/media/flow.pxd proxy/media/transport.pyx
# The first Python that is new enough.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

.PHONY: run test check bench bench-quick bench-full docs soak fuzz clean

run: $(VENV)/.run
	$(BIN)/remuxd demo $(ARGS)

test: $(VENV)/.dev
	$(BIN)/python -m pytest -m "not soak" $(ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/.dev
	$(BIN)/python -m bench $(ARGS)

bench-quick: $(VENV)/.dev
	$(BIN)/python -m bench --quick $(ARGS)

bench-full: $(VENV)/.dev
	$(BIN)/python -m bench --full $(ARGS)

docs: $(VENV)/.dev
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet $(ARGS)

soak: $(VENV)/.dev
	$(BIN)/python -m pytest -m soak --timeout 3600 -o faulthandler_timeout=3700 $(ARGS)

fuzz: $(VENV)/.dev
	$(BIN)/python -m fuzz $(ARGS)

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis site build remuxd.egg-info
	rm -f proxy/media/*.c proxy/media/*.so

# Debian has Python's venv module in a package of its own.
$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "remuxd needs Python 3.11 or newer." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) 2>/dev/null || { \
		rm -rf $(VENV); \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			apt-get update -q && apt-get install -y -q --no-install-recommends python3-venv && \
			$(PYTHON) -m venv $(VENV); \
		else \
			echo "Python's venv module is missing. On Debian: apt-get install python3-venv" >&2; \
			exit 1; \
		fi; }

# A compiler that finds the headers of C and of this Python; remuxd can do without.
$(VENV)/.compiler: | $(BIN)/python
	@headers=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("include"))'); \
	compiles() { echo '#include <Python.h>' | $${CC:-gcc} -I "$$headers" -E -xc - >/dev/null 2>&1; }; \
	missing="gcc libc6-dev"; \
	python=$$(readlink -f $(BIN)/python); \
	case $$python in /usr/bin/python3*) missing="$$missing $${python##*/}-dev";; esac; \
	if ! compiles && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -q && apt-get install -y -q --no-install-recommends $$missing; \
	fi; \
	compiles || echo "remuxd will run without its compiled demuxer, slower:" \
		"no C compiler, or no Python.h. On Debian: apt-get install $$missing; make clean" >&2
	@touch $@

$(VENV)/.run: pyproject.toml $(COMPILED) | $(VENV)/.compiler
	$(BIN)/python -m pip install -q --disable-pip-version-check -e .
	@touch $@

$(VENV)/.dev: pyproject.toml $(COMPILED) | $(VENV)/.compiler
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[all]'
	@touch $@ $(VENV)/.run
