# Everything a person types. `make help` lists it.
SHELL := bash
.DEFAULT_GOAL := help
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help airgap images setup setup-demo setup-cluster demo test check format unit integration e2e cluster bench protos constraints docs clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: setup-demo  ## set up what is needed, then run the whole loop; pass flags with ARGS="--json"
	@$(BIN)/littoral demo $(ARGS)

test: setup check unit integration e2e cluster  ## set up everything, then all checks and all tests

setup-demo:
	@scripts/setup demo >&2

setup:  ## set up everything for development and tests: packages, services
	@scripts/setup test >&2

setup-cluster: setup  ## what the tests on Kubernetes need besides: the first time it builds Kubernetes, for some minutes
	@scripts/setup cluster >&2

check:  ## format, lint, types, the house's import rules, generated code
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/generate_protos.py --check
	$(BIN)/python scripts/docs.py --check

format:  ## format and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

unit:  ## the pure rules and single rooms, in seconds
	$(BIN)/python -m pytest tests/unit -n 2 $(ARGS)

integration:  ## several rooms over a real broker and real gRPC
	$(BIN)/python -m pytest tests/integration -n 2 --dist loadfile $(ARGS)

e2e:  ## the whole loop in separate processes
	$(BIN)/python -m pytest tests/e2e $(ARGS)

images:  ## build the container images: cloud, training, edge
	@scripts/image cloud training edge

airgap: images  ## all that K3s needs to deploy without a network, as one archive in dist
	@scripts/image mosquitto postgresql
	@scripts/airgap

cluster: setup-cluster  ## real pods on a real Kubernetes of two nodes; as root, or as a user who may sudo
	@[ "$$(id -u)" = 0 ] || sudo -v || true
	$(BIN)/python -m pytest tests/cluster -n 2 --no-loadscope-reorder $(ARGS)

bench:  ## run a benchmark: make bench NAME=training
	$(BIN)/python -m benchmarks $(NAME) $(ARGS)

protos:  ## generate the code of protos/v1
	$(BIN)/python scripts/generate_protos.py

docs:  ## write the generated parts of the documentation
	$(BIN)/python scripts/docs.py

constraints:  ## resolve the ranges of pyproject.toml anew into constraints.txt
	$(BIN)/uv pip compile --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-annotate --no-header --all-extras --quiet pyproject.toml -o constraints.txt
	echo uv | $(BIN)/uv pip compile --upgrade --universal --generate-hashes --no-emit-index-url --no-annotate --no-header \
	  --quiet - -o scripts/bootstrap.txt

clean:  ## remove what was set up
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
