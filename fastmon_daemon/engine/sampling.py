"""Selects STFs and draws their TF samples: pure, deterministic and versioned.

The same inputs give the same sample on every host and Python version: a repeated registration repeats the same TFs.
This module knows no settings, files or clock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from fractions import Fraction
from math import ceil, floor
from statistics import NormalDist

from fastmon_daemon.outbox.models import SAMPLING_VERSION, SamplePlan, Stf, TfRange

SIZE_SPREAD = 0.1
"""Relative standard deviation of a block's size."""


def seed_of(namespace: str, run: str, stf_filename: str) -> str:
    """The seed of an STF's sample: its identity and the version of the algorithm."""
    return f"{namespace}/{run}/{stf_filename}/v{SAMPLING_VERSION}"


def draw_sample(plan: SamplePlan, stf_filename: str) -> tuple[TfRange, ...]:
    """The blocks of *plan*: one in each of equal partitions of the STF, hence without overlap.

    The last partition also gets the remainder. With fewer TFs than files there is one file per TF.
    """
    files = min(plan.tf_files, plan.tf_count)
    uniform = _uniform(plan.seed)
    width = plan.tf_count // files
    stem = _stem(stf_filename)
    blocks = []
    for index in range(files):
        begin = index * width
        room = width if index < files - 1 else plan.tf_count - begin
        size = _size(next(uniform), plan.size_fraction * room, room)
        first = begin + floor(next(uniform) * (room - size + 1))
        sequence = plan.sequence_start + index
        blocks.append(TfRange(sequence, f"{stem}_tf_{sequence:03d}.tf", first, first + size - 1))
    return tuple(blocks)


def _stem(filename: str) -> str:
    """The name without its suffix. Not by pathlib: Python 3.14 takes a dot at the end for a suffix, 3.13 does not."""
    dot = filename.rfind(".")
    return filename[:dot] if 0 < dot < len(filename) - 1 else filename


def _uniform(seed: str) -> Iterator[float]:
    """Uniform numbers in (0, 1), from SHA-256 of seed and counter: the same on every host."""
    counter = 0
    while True:
        digest = hashlib.sha256(f"{seed}/{counter}".encode()).digest()
        yield (int.from_bytes(digest[:6]) + 0.5) / 2**48
        counter += 1


def _size(u: float, mean: float, room: int) -> int:
    """A block's size in TFs: Gaussian around *mean*, between 1 and *room*."""
    size = NormalDist(mean, SIZE_SPREAD * mean).inv_cdf(u)
    return max(1, min(room, round(size)))


def block_bytes(size_bytes: int | None, tf_count: int, block: int) -> int | None:
    """Bytes of *block* TFs out of an STF of *size_bytes* with *tf_count* TFs; None if the size is unknown."""
    return None if size_bytes is None else round(Fraction(size_bytes * block, tf_count))


def is_selected(fraction: float, sequence: int | None, filename: str) -> bool:
    """Whether an STF is selected: systematic sampling, exactly ceil(n * fraction) of the first n STFs of a run.

    The first STF of a run (sequence 1) is selected, then evenly spaced ones: those at which ceil(sequence * fraction)
    increases. Without a sequence a hash of the name decides.
    """
    share = _exact(fraction)
    if sequence is None:
        return share > 0 and next(_uniform(f"{filename}/selection")) < share
    return ceil(sequence * share) > ceil((sequence - 1) * share)


def gets_tf_files(fraction: float, stf: Stf) -> bool:
    """Whether an STF is not skipped: it is selected, or an operator included it."""
    return stf.included or is_selected(fraction, stf.sequence, stf.filename)


def previous_selected(fraction: float, sequence: int | None) -> int | None:
    """Sequence of the STF that was selected before the selected STF *sequence*; None for the first, or if unknown."""
    share = _exact(fraction)
    if sequence is None or share == 0:
        return None
    rank = ceil(sequence * share)
    return None if rank <= 1 else floor((rank - 2) / share) + 1


def _exact(fraction: float) -> Fraction:
    """The fraction as written in decimal: 0.1 is one tenth, not the nearest binary number."""
    return Fraction(str(fraction))
