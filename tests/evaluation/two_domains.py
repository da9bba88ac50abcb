"""Domains whose conversations come in scenarios of two."""

import numpy as np

from mechprobe.evaluation.transfers.domains import Domains


def two_domains(n: int, *, shared: bool = False) -> Domains:
    """`n` conversations of each of two domains, two to a scenario; shared: both domains tell the same ones."""
    group = np.repeat(np.arange(n // 2), 2)
    return Domains(
        key="model",
        names=("left", "right"),
        of_conversation=np.repeat([0, 1], n),
        group=np.r_[group, group if shared else group + n // 2],
    )
