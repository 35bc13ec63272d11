# `make demo` and `make test` are all that a fresh machine needs: Python 3.11 or newer and git.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# on tiny tensors more threads cost more than they give; processes do not
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -q
INSTALLED := $(VENV)/.installed

.PHONY: demo test check containers whole recipes bench screens protos images base-image clean

demo: $(INSTALLED)  ## five generated hospitals train one encoder; ends with a table and a page
	$(BIN)/polyward-sim demo out/demo

test: check  ## what `check` does, and the end-to-end tests with real processes
	$(PYTEST) -n auto --dist loadfile -m "slow and not whole and not alone and not containers" --durations 12
	$(PYTEST) -m "alone and not whole and not containers" --durations 6
	$(MAKE) containers

check: $(INSTALLED)  ## lint, types, import rules, fast tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST) -n auto --dist loadfile -m "not slow"

containers: $(INSTALLED)  ## builds the images and tries them in a Docker engine of the tests' own (root; Debian's docker.io, debootstrap)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.containers

whole: $(INSTALLED)  ## the end-to-end tests that `make test` leaves out for their length (about half an hour)
	$(PYTEST) -m whole

recipes: $(INSTALLED)  ## two rounds of every recipe on generated images, and a look at what they left (about five minutes)
	$(BIN)/polyward-sim recipes --try

bench: $(INSTALLED)  ## measures against plain Flower on this machine; writes out/bench/bench.md (about half an hour)
	$(BIN)/python -m tests.bench

screens: $(INSTALLED)  ## draws every page of the dashboard, light and dark, wide and narrow, into out/screens
	POLYWARD_SCREENS=out/screens $(PYTEST) tests/browser/test_every_page.py

protos: $(INSTALLED)  ## generates the control plane's messages anew, after a change of control.proto
	$(BIN)/python -m grpc_tools.protoc -I shared --python_out shared --pyi_out shared polyward_shared/protos/control.proto

images:  ## builds the container images of hub, gate, trainer and gateway; BASE_IMAGE names what they stand upon
	deploy/images/build

base-image:  ## a base for them without a registry: polyward-base:bookworm, by debootstrap; wants root
	deploy/images/base

clean:
	rm -rf $(VENV) out

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@
