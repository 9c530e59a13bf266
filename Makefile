# Three commands matter: `make demo`, `make notebooks` and `make test`. They do all the set-up they need.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

SEEDS ?= 3
# fp32, bf16, or auto: bf16 where a product, measured once, is faster in it. The report says what it became.
PRECISION ?= auto
# Threads that wait spin for 10,000 rounds, then sleep: between sleeping at once and libgomp's own 300,000 rounds. Pre-training the
# world's models on two cores, tokens/s: 59,000, 96,000 and 102,000; beside two busy programs 55,000, 31,000 and 12,000.
export GOMP_SPINCOUNT ?= 10000

# Continuous integration must not move Cargo.lock.
LOCKED := $(if $(CI),--locked)

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Make .venv, which holds libtorch (1.3 GB; with CUDA where there is an NVIDIA driver)
	@scripts/setup.sh

.PHONY: setup-test
setup-test: setup
	@scripts/setup.sh test
	@scripts/setup.sh adapters

.PHONY: build
build: setup ## Build the library and the command line (the first time 2-3 minutes)
	cargo build $(LOCKED)

# Yours: `make real MODEL=DIR DATA=DIR`, a Hugging Face folder and a folder with corpora/*.txt and tasks/*/{train,dev,test}.jsonl. Where one
# is not given, scripts/real.sh fetches it (90 MB, once).
FETCH = $(if $(and $(MODEL),$(DATA)),:,real=$$(scripts/real.sh))
REAL = --model "$(or $(MODEL),$$real/encoder)" --data "$(or $(DATA),$$real/texts)"
REPORT = @echo "The report: $(1)/report.html, $(1)/report.md and, for machines, $(1)/report.json"

.PHONY: demo
demo: build ## A first look at a real encoder on real texts, into runs/demo (8 minutes; WORLD=1: at the built-in world, into runs/demo-world, 5 minutes)
ifdef WORLD
	target/debug/recyclable reproduce --profile tiny --seeds $(SEEDS) --precision $(PRECISION) --out runs/demo-world
	$(call REPORT,runs/demo-world)
else
	$(FETCH); target/debug/recyclable reproduce --profile first-look $(REAL) --precision $(PRECISION) --out runs/demo
	$(call REPORT,runs/demo)
endif

# A report says of more than the lineage at hand with three or more of them: `make real FULL=1` has five, and each takes hours on two cores.
# `TASKS=a,b` takes only these; a later call adds others to them.
REAL_RUN = runs/real$(if $(FULL),-full)
.PHONY: real
real: build ## The claims on a real encoder and real texts, into runs/real (40 minutes; yours: MODEL=DIR DATA=DIR; FULL=1: five lineages, into runs/real-full)
	$(FETCH); target/debug/recyclable reproduce --profile encoder$(if $(FULL),-full) $(REAL) $(if $(TASKS),--tasks $(TASKS)) \
		--precision $(PRECISION) --out $(REAL_RUN)
	$(call REPORT,$(REAL_RUN))

.PHONY: reproduce
reproduce: build ## The main job in full, 10 lineages of the built-in world, into runs/world (an hour and a quarter; goes on where it stopped)
	target/debug/recyclable reproduce --profile world --precision $(PRECISION) --out runs/world
	@echo "The report: runs/world/report.html, runs/world/report.md and, for machines, runs/world/report.json and runs/world/results/*.jsonl"

# `make bench BENCH_ARGS="--only mlm-128"` runs a part; RECYCLABLE_DATA names the folder of real tasks.
BENCH_PYTHON ?= .venv-test/bin/python
BENCH = $(BENCH_PYTHON) -B benches/bench.py $(if $(BENCH_BINARY),--binary $(BENCH_BINARY)) $(BENCH_ARGS)

.PHONY: bench-build
bench-build: setup
	cargo build $(LOCKED) --bin recyclable-speed

.PHONY: bench
bench: setup-test bench-build ## Race the library against transformers on this CPU (15 minutes), into benches/results.json
	$(BENCH)

.PHONY: gpu-pack
gpu-pack: setup ## Build what a GPU machine without Rust and network needs, into target/gpu-pack
	@scripts/notebooks.sh
	scripts/gpu_pack.sh

# On a machine without Rust: BENCH_BINARY=recyclable-speed, built and stripped elsewhere against the same libtorch (gpu-pack), and
# BENCH_PYTHON=python3 with the torch and transformers of requirements-test.txt.
.PHONY: bench-gpu
bench-gpu: $(if $(BENCH_BINARY),,setup-test bench-build) ## The same on a CUDA device, with the shape of roberta-base
	$(BENCH) --gpu

GPU_PACK ?= target/gpu-pack
.PHONY: gpu-check
gpu-check: ## On a machine with a GPU: check what gpu-pack built (BENCH_PYTHON as for bench-gpu)
	scripts/gpu_check.sh $(GPU_PACK) $(BENCH_PYTHON)

.PHONY: notebooks-setup
notebooks-setup: ## Make what the notebooks need: JupyterLab, the Rust kernel, its compile cache (10 minutes the first time)
	@scripts/notebooks.sh

.PHONY: notebooks
notebooks: notebooks-setup ## Open the course in JupyterLab
	cd notebooks && ../.venv-notebooks/bin/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root)

# Tests that compare with Python find it in RECYCLABLE_TEST_PYTHON. Where that is unset, as in a plain `cargo test`,
# they say why they skip; with CI=true a missing one is a failure. Slow tests are marked #[ignore] and run here.
# Doctests run apart because --include-ignored would also run those that are marked as not to be run.
# Each `cargo test` ends with a table of what its programs took.
TEST_PYTHON = $(CURDIR)/.venv-test/bin/python
TIMES = $(TEST_PYTHON) -B scripts/test_times.py

.PHONY: test
test: setup-test ## Run every test that needs no GPU (makes .venv-test, 5 GB, and the notebooks' environment first)
	@scripts/notebooks.sh repl
	RECYCLABLE_TEST_PYTHON=$(TEST_PYTHON) $(TIMES) cargo test $(LOCKED) --lib --bins --tests --examples -- --include-ignored
	$(TIMES) cargo test $(LOCKED) --doc

.PHONY: fmt
fmt: ## Check the formatting
	cargo fmt --check

.PHONY: clippy
clippy: setup ## Lint everything, warnings are errors
	cargo clippy $(LOCKED) --all-targets -- -D warnings

.PHONY: doc
doc: setup ## Build the documentation, warnings are errors
	RUSTDOCFLAGS="-D warnings" cargo doc $(LOCKED) --no-deps

.PHONY: check
check: fmt clippy doc ## fmt, clippy and doc

.PHONY: clean
clean: ## Remove what was built and the environments (runs/ stays, and the kernel in ~/.cache/recyclable)
	rm -rf target .venv .venv-test .venv-adapters .venv-notebooks .venv*.lock.tmp
