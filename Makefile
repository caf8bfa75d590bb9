BIN := "$(or $(ESPNET_DQ_VENV),.venv)"/bin

.PHONY: setup test check test-processors lint audit faults
setup:
	tools/setup.sh

# Two workers of one thread each: faster on two cores than one process of two threads. What tests
# and the commands that they start import is compiled once, in containers too.
PYTEST = OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 2 --dist worksteal

test: setup
	$(PYTEST)

# What needs neither a network nor minutes.
check: setup
	$(PYTEST) -m "not slow and not network"

# Numeric tests with 1, 2 and 4 threads and as on lesser processors; a line a setting.
test-processors: setup
	tools/test_processors.sh

lint: setup
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --no-cache --check .
	$(BIN)/shellcheck -x $$(git ls-files '*.sh' .ci/run)

# Published faults of the pinned packages: exit code 0 only if all were looked up and none has any;
# without a network it says in one line that it was skipped, and fails.
audit: setup
	$(BIN)/python tools/audit.py

# Not among the tests: hours. See docs/reliability.md.
faults: setup
	$(BIN)/python -m benchmarks.faults --faults kill,rename --tries 30 --work $(WORK)
	$(BIN)/python -m benchmarks.faults --work $(WORK)
