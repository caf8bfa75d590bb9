.PHONY: setup test lint
setup:
	tools/setup.sh

test: setup
	.venv/bin/python -m pytest

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/shellcheck -x $$(git ls-files '*.sh' .ci/run)
