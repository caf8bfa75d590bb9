"""A made-up experiment and its report."""

import copy
import json

import pytest

from espnet_dq.bin.report import main
from espnet_dq.report import collect
from tests.report import made_up
from tests.report.pages import Page


@pytest.fixture(scope="session")
def exp(tmp_path_factory):
    exp = made_up.build(tmp_path_factory.mktemp("report"))
    assert main(["--exp", str(exp)]) == 0
    return exp


@pytest.fixture
def page(exp):
    return Page((exp / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def read(exp):
    return collect.load(exp)


@pytest.fixture
def loaded(read):
    """What is read of the experiment, to be changed."""
    return copy.deepcopy(read)


@pytest.fixture(scope="session")
def results(exp):
    return json.loads((exp / "results.json").read_text(encoding="utf-8"))
