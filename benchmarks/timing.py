"""Two ways to do one job, timed in turns, since a busy machine changes from minute to minute."""

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

MACHINE = f"{platform.machine()}, {os.cpu_count()} CPU cores, {platform.system()}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One line of results.json; ratio > 1 means that ours is better."""

    name: str
    """What was measured, with its shape."""
    ours: float
    peer: float
    ratio: float
    """Median over rounds of the ratio within a round."""
    unit: str
    machine: str
    command: str
    ratio_low: float
    """Smallest ratio of a round."""
    ratio_high: float
    rounds: int
    peer_name: str


def less_is_better(
    name: str, ours: float, peer: float, *, unit: str, peer_name: str, command: str
) -> Row:
    """What was used once of something of which less is better, such as memory."""
    ratio = peer / ours
    return Row(
        name=name,
        ours=ours,
        peer=peer,
        ratio=ratio,
        unit=unit,
        machine=MACHINE,
        command=command,
        ratio_low=ratio,
        ratio_high=ratio,
        rounds=1,
        peer_name=peer_name,
    )


def compare(
    name: str,
    ours: Callable[[], object],
    peer: Callable[[], object],
    *,
    amount: float,
    unit: str,
    peer_name: str,
    command: str,
    rounds: int = 5,
    warm_up: bool = True,
) -> Row:
    """Time both in turns, in alternating order, after one untimed run of each.

    Args:
        warm_up: False leaves the untimed runs out, where a run takes minutes.
        amount: how much of `unit` one run does; both sides are given as amount per second of wall time.
    """
    if warm_up:
        ours(), peer()
    seconds: dict[str, list[float]] = {"ours": [], "peer": []}
    for turn in range(rounds):
        arms = [("ours", ours), ("peer", peer)]
        for side, run in arms if turn % 2 == 0 else arms[::-1]:
            start = time.perf_counter()
            run()
            seconds[side].append(time.perf_counter() - start)
    ratios = [p / o for o, p in zip(seconds["ours"], seconds["peer"], strict=True)]
    return Row(
        name=name,
        ours=amount / statistics.median(seconds["ours"]),
        peer=amount / statistics.median(seconds["peer"]),
        ratio=statistics.median(ratios),
        unit=f"{unit}/s",
        machine=MACHINE,
        command=command,
        ratio_low=min(ratios),
        ratio_high=max(ratios),
        rounds=rounds,
        peer_name=peer_name,
    )
