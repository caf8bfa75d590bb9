import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from espnet_dq.distill.matching import dynamic, dynamic_monotonic, match, static
from espnet_dq.errors import InputError


def test_static_is_the_papers():
    assert static(6, 12) == [1, 3, 5, 7, 9, 11]
    assert static(4, 6) == [0, 2, 3, 5]
    assert static(4, 4) == [0, 1, 2, 3]


@given(st.integers(1, 12), st.integers(0, 20))
def test_static_ends_at_the_last_and_never_repeats(students, more):
    mapping = static(students, students + more)
    assert mapping[-1] == students + more - 1
    assert all(a < b for a, b in itertools.pairwise(mapping))


def test_static_refuses_a_shallow_teacher():
    with pytest.raises(InputError, match="teacher has 4 and the student 6"):
        static(6, 4)


distances = st.integers(1, 4).flatmap(
    lambda s: st.integers(1, 5).flatmap(
        lambda t: st.lists(
            st.lists(st.floats(0, 10), min_size=t, max_size=t), min_size=s, max_size=s
        )
    )
)


@given(distances)
def test_dynamic_is_the_nearest(rows):
    for row, j in zip(rows, dynamic(torch.tensor(rows)), strict=True):
        assert torch.tensor(row)[j] == torch.tensor(row).min()


@given(distances)
def test_dynamic_monotonic_is_greedy(rows):
    mapping = dynamic_monotonic(torch.tensor(rows))
    start = 0
    for row, j in zip(torch.tensor(rows), mapping, strict=True):
        assert j >= start
        assert row[j] == row[start:].min()
        start = j


def test_the_limit_matters():
    d = torch.tensor([[3.0, 2.0, 1.0], [0.0, 2.0, 1.0]])
    assert match("dynamic", d) == [2, 0]
    assert match("dynamic_monotonic", d) == [2, 2]
    assert match("static", d) == [0, 2]
    with pytest.raises(InputError, match="unknown matching"):
        match("nearest", d)
