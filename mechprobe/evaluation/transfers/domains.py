"""Domains of conversations (behaviours, models, languages, splits), and how to train on some and test on others.

Every cell of a matrix is honest about scenarios: a conversation is never scored by what was fitted on its own
scenario, be that in its own domain or in another (the same stories are told to several models, in several
languages). So training runs over folds of scenarios, and all cells of a row are read by the same fits: what
differs between the diagonal and the rest is the domain, not how much text was fitted on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from mechprobe.errors import ConfigError
from mechprobe.evaluation.folds import Fold
from mechprobe.transcripts.splits import group_names
from mechprobe.transcripts.transcript import Transcript

NO_DOMAIN = -1
_FIELDS = ("behavior", "dataset", "model", "split")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Domains:
    """The domain and the group (scenario) of each conversation.

    Raises:
        ConfigError: there are fewer than two domains.
    """

    key: str
    """What the domains are values of, for instance "behavior"."""
    names: tuple[str, ...]
    of_conversation: Int[np.ndarray, "conversation"]
    """Index into `names`; -1 for a conversation that is in none."""
    group: Int[np.ndarray, "conversation"]
    """Code of the scenario; conversations of one group are never on both sides."""

    def __post_init__(self) -> None:
        if len(self.names) < 2:
            raise ConfigError(
                f"{self.key!r} has {len(self.names)} value(s), {list(self.names)}; to train on one and test "
                "on another, two are needed."
            )

    def within(self, name: str) -> Bool[np.ndarray, "conversation"]:
        """The conversations of a domain."""
        return self.of_conversation == self.names.index(name)

    @property
    def anywhere(self) -> Bool[np.ndarray, "conversation"]:
        """The conversations that are in some domain."""
        return self.of_conversation != NO_DOMAIN


def domains_of(transcripts: Sequence[Transcript], key: str) -> Domains:
    """Domains by a field of the transcripts (behavior, dataset, model, split) or by a key of their `meta`.

    A transcript that is excluded, or has no value, is in no domain.

    Raises:
        ConfigError: there are fewer than two values, or no transcript has such a key.
    """
    names = domain_names(transcripts, key)
    code = {name: number for number, name in enumerate(names)}
    return Domains(
        key=key,
        names=names,
        of_conversation=np.array(
            [
                NO_DOMAIN if item.excluded else code.get(domain_name(item, key), NO_DOMAIN)
                for item in transcripts
            ],
            dtype=np.int64,
        ),
        group=np.unique(np.array(group_names(transcripts)), return_inverse=True)[1].astype(
            np.int64
        ),
    )


def domain_names(transcripts: Sequence[Transcript], key: str) -> tuple[str, ...]:
    """The values that a field or a key of `meta` has among the transcripts that are not excluded, sorted.

    Raises:
        ConfigError: it is no such field, and no transcript has such a key; the message lists those there are.
    """
    known = sorted({*_FIELDS, *(name for item in transcripts for name in item.meta)})
    if key not in known:
        raise ConfigError(
            f"no transcript has a {key!r} to be grouped by; there are {', '.join(known)}."
        )
    values = {domain_name(item, key) for item in transcripts if not item.excluded}
    return tuple(sorted(values - {""}))


def domain_name(transcript: Transcript, key: str) -> str:
    """A transcript's value of a field or of a key of its `meta`; empty where it has none."""
    return getattr(transcript, key) if key in _FIELDS else transcript.meta.get(key, "")


def folds_from(domains: Domains, name: str, n_folds: int, *, seed: int = 0) -> list[Fold]:
    """Train on one domain, test on all of them: each fold's scenarios are scored by fits on the others.

    Raises:
        ConfigError: there are fewer than three folds (one is scored, one chooses strengths).
    """
    return _crossed(domains, domains.within(name), domains.anywhere, n_folds, seed)


def folds_without(domains: Domains, name: str, n_folds: int, *, seed: int = 0) -> list[Fold]:
    """Train on all domains but one, test on that one.

    One fit will do where the domain shares no scenario with the others; else folds keep the scenarios apart.

    Raises:
        ConfigError: there are fewer than three folds.
    """
    tested = domains.within(name)
    train = domains.anywhere & ~tested
    if np.isin(domains.group[tested], domains.group[train]).any():
        return _crossed(domains, train, tested, n_folds, seed)
    select = fold_of_conversation(domains, n_folds, seed=seed) == 0
    return [Fold(fit=train & ~select, select=train & select, test=tested)]


def fold_of_conversation(
    domains: Domains, n_folds: int, *, seed: int = 0
) -> Int[np.ndarray, "conversation"]:
    """The fold of each conversation; a group has one fold, and each domain's groups are dealt out evenly.

    Raises:
        ConfigError: there are fewer than three folds.
    """
    if n_folds < 3:
        raise ConfigError(
            f"n_folds is {n_folds}; training on a domain takes at least 3: one to fit on, one to choose "
            "strengths on, one to score."
        )
    names, first, sizes = np.unique(domains.group, return_index=True, return_counts=True)
    home = domains.of_conversation[first]
    order = np.random.default_rng(seed).permutation(len(names))
    filled = np.zeros((len(domains.names) + 1, n_folds))
    fold_of_group = np.zeros(len(names), dtype=np.int64)
    for group in sorted(order, key=lambda group: -sizes[group]):
        # Of equally filled folds of the domain, the one that is emptiest over all domains.
        fold = int(np.lexsort((filled.sum(axis=0), filled[home[group]]))[0])
        fold_of_group[group] = fold
        filled[home[group], fold] += sizes[group]
    return fold_of_group[np.searchsorted(names, domains.group)]


def _crossed(
    domains: Domains, train: np.ndarray, tested: np.ndarray, n_folds: int, seed: int
) -> list[Fold]:
    fold = fold_of_conversation(domains, n_folds, seed=seed)
    return [
        Fold(
            fit=train & (fold != number) & (fold != (number + 1) % n_folds),
            select=train & (fold == (number + 1) % n_folds),
            test=tested & (fold == number),
        )
        for number in range(n_folds)
    ]
