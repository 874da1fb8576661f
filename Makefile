# `make` lists what there is.
SHELL := /bin/bash
VENV := .venv
PY := $(VENV)/bin/python
SYSTEM_PYTHON ?= python3

help: ## list the commands
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/installed: pyproject.toml
	$(SYSTEM_PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat --editable '.[dev]'
	@touch $@

install: $(VENV)/installed ## make the virtual environment and install composer into it

demo: $(VENV)/installed ## bring up the guestbook example, show it, say what to try next
	@examples/stacks/guestbook/demo $(VENV)/bin/composer

prerequisites: ## install the Debian packages that the tests use (root)
	@tests/prerequisites

check: $(VENV)/installed ## formatting, lint and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

test: $(VENV)/installed prerequisites check ## everything: checks, unit tests, kernel tests (root)
	$(PY) -m pytest -q -m "not kernel" -n 2
	$(PY) -m pytest -q -m kernel -n 3 --dist loadgroup --reruns 3 -rRs

unit: $(VENV)/installed ## the tests that need no root, in seconds
	$(PY) -m pytest -q -m "not kernel" -n 2

kernel: $(VENV)/installed ## the tests on the real kernel (root)
	$(PY) -m pytest -q -m kernel -n 3 --dist loadgroup

test-vm: $(VENV)/installed ## runtime, keeper, networks and stacks on Debian's kernels 6.1 and 6.12 with cgroup v2, in qemu
	$(PY) -m tests.vm

conformance: $(VENV)/installed ## the OCI's suite on the runtime, runc beside it (root, Go); SUITE=path to runtime-tools
	$(PY) -m tests.conformance $(SUITE)

coverage: $(VENV)/installed ## branch coverage of everything
	$(PY) -m coverage run -m pytest -q
	$(PY) -m coverage combine && $(PY) -m coverage report --skip-covered

bench: $(VENV)/installed ## up, down, ps, exec beside Docker Compose and podman-compose when they are there
	$(PY) -m benchmarks.stacks

.PHONY: help install demo prerequisites check test unit kernel test-vm conformance coverage bench
