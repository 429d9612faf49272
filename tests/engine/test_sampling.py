"""Properties of the sampling (Hypothesis)."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmon_daemon.engine.sampling import block_bytes, draw_sample, is_selected, previous_selected, seed_of
from fastmon_daemon.outbox.models import SamplePlan

plans = st.builds(
    SamplePlan,
    seed=st.text(max_size=30),
    tf_count=st.integers(1, 5000),
    tf_files=st.integers(1, 50),
    size_fraction=st.floats(0.001, 1.0),
    sequence_start=st.integers(0, 10),
)
fractions = st.integers(0, 100).map(lambda percent: percent / 100)


@given(plans)
def test_blocks_lie_inside_the_stf_in_order_and_never_overlap(plan: SamplePlan) -> None:
    blocks = draw_sample(plan, "swf.100014.000001.stf")
    assert len(blocks) == min(plan.tf_files, plan.tf_count)
    assert blocks[0].first >= 0
    assert blocks[-1].last <= plan.tf_count - 1
    assert all(block.count >= 1 for block in blocks)
    assert all(before.last < after.first for before, after in pairwise(blocks))


@given(plans)
def test_each_block_stays_in_its_partition(plan: SamplePlan) -> None:
    blocks = draw_sample(plan, "a.stf")
    width = plan.tf_count // len(blocks)
    for index, block in enumerate(blocks):
        last = (index + 1) * width - 1 if index < len(blocks) - 1 else plan.tf_count - 1
        assert index * width <= block.first <= block.last <= last


def test_a_sample_is_the_same_on_every_host_and_in_every_version() -> None:
    plan = SamplePlan(
        seed=seed_of("torre1", "100014", "swf.100014.000001.stf"),
        tf_count=1000, tf_files=7, size_fraction=0.15, sequence_start=1,
    )  # fmt: skip
    blocks = draw_sample(plan, "swf.100014.000001.stf")
    assert [(block.first, block.last) for block in blocks] == PINNED
    assert [block.filename for block in blocks[:2]] == [
        "swf.100014.000001_tf_001.tf", "swf.100014.000001_tf_002.tf",
    ]  # fmt: skip


PINNED = [(30, 55), (247, 269), (286, 303), (506, 526), (662, 682), (733, 755), (884, 907)]


@pytest.mark.field("26")
@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("swf.1.000001.stf", "swf.1.000001"), ("swf.1.000001.", "swf.1.000001."), ("swf", "swf"), (".stf", ".stf"),
        ("..stf", "."), ("a..", "a.."), ("a.b c", "a"),
    ],
)  # fmt: skip
def test_tf_names_are_the_same_in_every_python(name: str, stem: str) -> None:
    plan = SamplePlan(seed="s", tf_count=1, tf_files=1, size_fraction=0.1, sequence_start=1)
    assert [block.filename for block in draw_sample(plan, name)] == [f"{stem}_tf_001.tf"]


def test_another_stf_gives_another_sample() -> None:
    samples = {
        draw_sample(SamplePlan(seed=f"s{n}", tf_count=1000, tf_files=7, size_fraction=0.15, sequence_start=1), "a.stf")
        for n in range(50)
    }
    assert len(samples) == 50


@given(fractions, st.integers(1, 500))
def test_exactly_the_fraction_of_a_run_is_selected_including_the_first(fraction: float, stfs: int) -> None:
    selected = [n for n in range(1, stfs + 1) if is_selected(fraction, n, f"{n}.stf")]
    assert len(selected) == ceil(stfs * Fraction(str(fraction)))
    if fraction:
        assert selected[0] == 1


@given(fractions, st.integers(1, 300))
def test_previous_selected_is_the_selected_stf_before(fraction: float, stfs: int) -> None:
    selected = [n for n in range(1, stfs + 1) if is_selected(fraction, n, f"{n}.stf")]
    for before, after in zip([None, *selected], selected, strict=False):
        assert previous_selected(fraction, after) == before


def test_fraction_0_selects_no_stf_and_1_selects_all() -> None:
    for sequence in (None, 1, 2, 7, 100):
        for name in ("a.stf", "b.stf", "c.stf"):
            assert is_selected(1.0, sequence, name)
            assert not is_selected(0.0, sequence, name)


def test_without_sequence_the_name_selects_about_the_fraction() -> None:
    selected = sum(is_selected(0.1, None, f"stf-{n}.stf") for n in range(5000))
    assert 400 < selected < 600


@pytest.mark.parametrize(
    ("size", "count", "block", "expected"),
    [(2_000_000_000, 1000, 150, 300_000_000), (None, 1000, 150, None), (10, 3, 1, 3)],
)
def test_block_bytes_are_proportional_to_the_size_or_unknown(
    size: int | None, count: int, block: int, expected: int | None
) -> None:
    assert block_bytes(size, count, block) == expected
