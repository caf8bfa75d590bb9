import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from espnet_dq.distill.matching import (
    check_mode,
    dynamic,
    dynamic_monotonic,
    groups,
    match,
    normalize,
    optimal_increasing,
    optimal_monotonic,
    spaced,
)
from espnet_dq.errors import InputError


def test_static_is_the_papers():
    assert spaced(6, 12) == [1, 3, 5, 7, 9, 11]
    assert spaced(4, 6) == [0, 2, 3, 5]
    assert spaced(4, 4) == [0, 1, 2, 3]


@given(st.integers(1, 12), st.integers(0, 20))
def test_static_ends_at_the_last_and_never_repeats(students, more):
    mapping = spaced(students, students + more)
    assert mapping[-1] == students + more - 1
    assert all(a < b for a, b in itertools.pairwise(mapping))


def test_a_shallow_teacher_is_refused_where_every_layer_must_be_another():
    for mode in ("static", "optimal_increasing"):
        with pytest.raises(InputError, match=f"{mode}.* teacher has 4 and the student 6"):
            check_mode(mode, 6, 4)
    for mode in ("logits", "dynamic", "dynamic_monotonic", "optimal_monotonic"):
        check_mode(mode, 6, 4)
    assert spaced(6, 4) == [0, 0, 1, 1, 2, 3]
    with pytest.raises(InputError, match="unknown matching 'nearest': known are logits"):
        check_mode("nearest", 4, 6)


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


@pytest.mark.parametrize("step", [0, 1])
@given(distances)
def test_optimal_is_the_least_of_all_assignments(step, rows):
    """Against every assignment there is; of equal sums, the first in order."""
    students, teachers = len(rows), len(rows[0])
    choose = optimal_increasing if step else optimal_monotonic
    if step and teachers < students:
        return
    d = torch.tensor(rows, dtype=torch.float64)
    allowed = [
        mapping
        for mapping in itertools.product(range(teachers), repeat=students)
        if all(b - a >= step for a, b in itertools.pairwise(mapping))
    ]
    sums = [sum(float(d[i, j]) for i, j in enumerate(mapping)) for mapping in allowed]
    found = choose(d)
    assert tuple(found) in allowed
    assert sum(float(d[i, j]) for i, j in enumerate(found)) == pytest.approx(min(sums), rel=1e-12)


def test_optimal_takes_the_first_of_equal_sums():
    assert optimal_monotonic(torch.zeros(3, 4)) == [0, 0, 0]
    assert optimal_increasing(torch.zeros(3, 4)) == [0, 1, 2]


def test_the_limit_matters():
    d = torch.tensor([[3.0, 2.0, 1.0], [0.0, 2.0, 1.0]])
    assert match("dynamic", d[None]).tolist() == [[2, 0]]
    assert match("dynamic_monotonic", d[None]).tolist() == [[2, 2]]  # 2: greedy
    assert match("optimal_monotonic", d[None]).tolist() == [[2, 2]]
    assert match("optimal_increasing", d[None]).tolist() == [[1, 2]]
    assert match("static", d[None]).tolist() == [[0, 2]]


def test_greedy_is_not_optimal():
    d = torch.tensor([[2.0, 9.0, 1.0], [1.0, 9.0, 5.0]])
    assert match("dynamic_monotonic", d[None]).tolist() == [[2, 2]]
    assert match("optimal_monotonic", d[None]).tolist() == [[0, 0]]


def test_each_group_has_a_mapping_of_its_own():
    d = torch.tensor([[[1.0, 2.0], [1.0, 2.0]], [[2.0, 1.0], [2.0, 1.0]]])
    assert match("dynamic", d).tolist() == [[0, 0], [1, 1]]


def test_an_easy_teacher_layer_draws_all_students_unless_its_distances_are_normalized():
    # Layer 1 of the teacher is near to everything; apart from that, 0 teaches 0 and 2 teaches 1.
    d = torch.tensor([[[0.8, 0.5, 2.0], [2.0, 0.5, 0.8]]])
    assert match("dynamic", d).tolist() == [[1, 1]]
    assert match("dynamic", d, "student").tolist() == [[1, 1]]  # a row's order stays
    assert match("dynamic", d, "teacher").tolist() == [[0, 2]]


def test_normalizing_by_student_gives_layers_equal_votes():
    # The first layer is far from everything; its small preference must not decide for the second.
    d = torch.tensor([[[104.0, 100.0], [1.0, 2.0]]])
    assert match("optimal_monotonic", d).tolist() == [[1, 1]]
    assert match("optimal_monotonic", d, "student").tolist() == [[0, 0]]
    assert torch.allclose(normalize(d, "student").mean(-1), torch.ones(1, 2))
    assert torch.allclose(normalize(d, "teacher").mean(-2), torch.ones(1, 2))
    assert normalize(torch.zeros(1, 2, 2), "teacher").isfinite().all()


def test_groups():
    rows, language = torch.tensor([0, 0, 1, 2, 2]), torch.tensor([50263, 50259, 50263])
    group, keys = groups("batch", rows, language)
    assert group.tolist() == [0] * 5 and len(keys) == 1
    group, keys = groups("language", rows, language)
    assert keys.tolist() == [50259, 50263] and group.tolist() == [1, 1, 0, 1, 1]
    group, keys = groups("utterance", rows, language)
    assert keys.tolist() == [0, 1, 2] and group.tolist() == [0, 0, 1, 2, 2]
