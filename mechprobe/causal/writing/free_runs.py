"""Let the model write under many edits at once, and read what it does by an exact rule.

Every text under an edit has an unedited twin with the same prompt and the same random numbers, so that they differ by
the edit alone. Rates of free text mislead where the text breaks, so the share of texts without a readable answer and
their variety stand beside every rate (CAUSAL.md section 8).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from mechprobe.causal.verdicts.statistics import Interval
from mechprobe.causal.writing.free_prompts import FreePrompt, Where, edited_tokens, find_answer
from mechprobe.causal.writing.pushes import EditName, Push, PushTable
from mechprobe.causal.writing.rates import cluster_rate, rate_difference
from mechprobe.errors import ConfigError, DataError
from mechprobe.models.hooks import Edit
from mechprobe.models.subject import Subject

PlanRule = Callable[[str], bool]
"""Whether a written text holds the thought itself."""
_Job = tuple[int, int, int]
"""Number of the group, of the push (-1: none) and of the text."""
BATCH_TEXTS = 384
"""Texts of one batch; on one CPU thread fewer pay more for each step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Writing:
    """How texts are written."""

    where: Where = "writing"
    """Which tokens are edited: "message", "writing", "decision" or "span_last" (see `edited_tokens`)."""
    n_samples: int = 1
    """Texts of each prompt."""
    max_new_tokens: int = 96
    """Longest text."""
    temperature: float = 1.0
    """0 takes the most likely token."""
    seed: int = 0
    """Seed of the random numbers, the same for a text and its edited twins."""
    batch_texts: int = BATCH_TEXTS
    """Texts of one batch."""

    def __post_init__(self) -> None:
        if min(self.n_samples, self.max_new_tokens, self.batch_texts) < 1:
            raise ConfigError(
                f"n_samples is {self.n_samples}, max_new_tokens {self.max_new_tokens}, batch_texts "
                f"{self.batch_texts}; each must be at least 1."
            )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FreeText:
    """One text that was written."""

    token_ids: tuple[int, ...]
    text: str
    action: str
    """The answer as text, "" if none was found."""
    is_bad: bool | None
    """None: no readable answer."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FreeGroup:
    """Prompts, and the pushes under which each is written on."""

    prompts: tuple[FreePrompt, ...]
    pushes: tuple[Push, ...]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FreeRuns:
    """Texts without and under edits; each list goes prompt by prompt, sample by sample."""

    prompts: tuple[FreePrompt, ...]
    n_samples: int
    where: str
    """Which tokens were edited; "prompt" where the prompt was."""
    unedited: tuple[FreeText, ...]
    names: tuple[EditName, ...]
    """One an edit."""
    edited: tuple[tuple[FreeText, ...], ...]
    """One list an edit."""

    @property
    def clusters(self) -> list[str]:
        """The transcript of each text."""
        return [prompt.cluster for prompt in self.prompts for _ in range(self.n_samples)]


@dataclass(frozen=True, kw_only=True, slots=True)
class RateChange:
    """What an edit does to the rate of an event in free text."""

    n: int
    """Texts of each kind."""
    n_readable: int
    """Edited texts in which the event can be read at all."""
    unedited: Interval
    edited: Interval
    """Both over their readable texts."""
    difference: Interval
    """Over the texts that can be read both times."""
    anti_share: float
    """Share of prompts whose rate moves the wrong way (Tan et al., arXiv 2407.12404)."""


def run_free(
    subject: Subject,
    prompts: Sequence[FreePrompt],
    pushes: Sequence[Push],
    hook_name: str,
    writing: Writing | None = None,
    *,
    progress: Callable[[int], object] | None = None,
) -> FreeRuns:
    """Write on from every prompt, unedited and under each push, with the edit active at every step.

    Args:
        progress: told the number of texts after each batch.

    Raises:
        DataError: there is no prompt, or not one unedited text has a readable answer.
        HookError, ShapeError: there is no such hook point, or a push is not as wide.
    """
    group = FreeGroup(prompts=tuple(prompts), pushes=tuple(pushes))
    return run_free_groups(subject, [group], hook_name, writing, progress=progress)[0]


def run_free_groups(
    subject: Subject,
    groups: Sequence[FreeGroup],
    hook_name: str,
    writing: Writing | None = None,
    *,
    needs_answers: bool = True,
    progress: Callable[[int], object] | None = None,
) -> list[FreeRuns]:
    """The same for groups of prompts that have pushes of their own, all in shared batches.

    Args:
        needs_answers: whether a group whose unedited texts have no readable answer is an error.

    Raises:
        DataError, HookError, ShapeError: see `run_free`.
    """
    how = writing or Writing()
    if any(not group.prompts for group in groups):
        raise DataError("there is no prompt to write on from; give at least one in each group.")
    jobs = [job for number, group in enumerate(groups) for job in _jobs(number, group, how)]
    written: dict[_Job, list[int]] = {}
    for batch in _batches(groups, jobs, how):
        texts = _write(subject, groups, batch, hook_name, how)
        written.update(zip(batch, texts, strict=True))
        if progress is not None:
            progress(len(batch))
    found = [_runs(subject, n, group, written, how) for n, group in enumerate(groups)]
    for runs in found if needs_answers else ():
        check_readable(runs, how)
    return found


def action_rate(runs: FreeRuns, condition: int) -> RateChange:
    """How often the text ends in a bad action."""
    return rate_change(
        _events([text.is_bad for text in runs.unedited]),
        _events([text.is_bad for text in runs.edited[condition]]),
        runs.clusters,
        n_samples=runs.n_samples,
        sign=runs.names[condition].sign,
    )


def plan_rate(runs: FreeRuns, condition: int, rule: PlanRule) -> RateChange:
    """How often the thought itself is written."""
    return rate_change(
        _events([rule(text.text) for text in runs.unedited]),
        _events([rule(text.text) for text in runs.edited[condition]]),
        runs.clusters,
        n_samples=runs.n_samples,
        sign=runs.names[condition].sign,
    )


def rate_change(
    unedited: Float[np.ndarray, "text"],
    edited: Float[np.ndarray, "text"],
    clusters: Sequence[str],
    *,
    n_samples: int = 1,
    sign: int = 1,
) -> RateChange:
    """Compare an event (1, 0, NaN where it cannot be read) in twin texts.

    Args:
        n_samples: texts in a row that share their prompt.
        sign: the way in which it should move.
    """
    names = np.array(clusters)
    known = np.isfinite(unedited), np.isfinite(edited)
    both = known[0] & known[1]
    moved = np.where(both, edited - unedited, 0.0).reshape(-1, n_samples).sum(1)
    is_used = both.reshape(-1, n_samples).any(1)
    return RateChange(
        n=len(edited),
        n_readable=int(known[1].sum()),
        unedited=cluster_rate(unedited[known[0]] > 0, names[known[0]].tolist()),
        edited=cluster_rate(edited[known[1]] > 0, names[known[1]].tolist()),
        difference=rate_difference(unedited[both] > 0, edited[both] > 0, names[both].tolist()),
        anti_share=float((sign * moved[is_used] < 0).mean()) if is_used.any() else float("nan"),
    )


def check_readable(runs: FreeRuns, how: Writing) -> None:
    """Raise a DataError where answers are looked for and no unedited text has one."""
    is_read = any(prompt.read is not None for prompt in runs.prompts)
    if is_read and all(text.is_bad is None for text in runs.unedited):
        raise DataError(
            f"no readable answer was found in {len(runs.unedited)} unedited texts (the first goes "
            f"{runs.unedited[0].text[:80]!r}); raise max_new_tokens (now {how.max_new_tokens}), or give an outcome "
            "whose answers the model writes."
        )


def _jobs(number: int, group: FreeGroup, how: Writing) -> list[_Job]:
    rows = range(len(group.prompts) * how.n_samples)
    return [(number, condition, row) for condition in range(-1, len(group.pushes)) for row in rows]


def _batches(groups: Sequence[FreeGroup], jobs: Sequence[_Job], how: Writing) -> list[list[_Job]]:
    """Batches of unedited texts, and batches of edited ones; longer prompts have less left to write."""

    def length(job: _Job) -> int:
        return len(groups[job[0]].prompts[job[2] // how.n_samples].token_ids)

    kinds = [[job for job in jobs if (job[1] < 0) == is_clean] for is_clean in (True, False)]
    return [
        batch[start : start + how.batch_texts]
        for batch in (sorted(kind, key=length) for kind in kinds)
        for start in range(0, len(batch), how.batch_texts)
    ]


def _write(
    subject: Subject,
    groups: Sequence[FreeGroup],
    batch: Sequence[_Job],
    hook_name: str,
    how: Writing,
) -> list[list[int]]:
    chosen = [groups[group].prompts[row // how.n_samples] for group, _condition, row in batch]
    edits: list[Edit] = []
    if batch[0][1] >= 0:
        used = list(dict.fromkeys((group, condition) for group, condition, _row in batch))
        place = {name: index for index, name in enumerate(used)}
        table = PushTable.of(hook_name, [groups[group].pushes[one] for group, one in used])
        conditions = torch.tensor([place[group, one] for group, one, _row in batch])
        edits = [table.between(*edited_tokens(chosen, how.where), conditions)]
    return subject.generate(
        [prompt.token_ids for prompt in chosen],
        max_new_tokens=how.max_new_tokens,
        edits=edits,
        temperature=how.temperature,
        seed=[_seed(how.seed, row) for _group, _condition, row in batch],
        stop_token_ids=sorted({one.stop for one in chosen if one.stop is not None}),
    )


def _seed(seed: int, row: int) -> int:
    """A text's own, the same under every edit."""
    return seed * 1_000_003 + row


def _runs(
    subject: Subject,
    number: int,
    group: FreeGroup,
    written: Mapping[_Job, list[int]],
    how: Writing,
) -> FreeRuns:
    rows = [prompt for prompt in group.prompts for _ in range(how.n_samples)]

    def texts(condition: int) -> tuple[FreeText, ...]:
        return tuple(
            _read(subject, prompt, written[number, condition, row])
            for row, prompt in enumerate(rows)
        )

    return FreeRuns(
        prompts=group.prompts,
        n_samples=how.n_samples,
        where=how.where,
        names=tuple(push.name for push in group.pushes),
        unedited=texts(-1),
        edited=tuple(texts(condition) for condition in range(len(group.pushes))),
    )


def _read(subject: Subject, prompt: FreePrompt, tokens: list[int]) -> FreeText:
    found = find_answer(prompt, tokens)
    end = len(tokens) - (1 if tokens and tokens[-1] == prompt.stop else 0)
    action = tokens[found.start : end] if found.start is not None else []
    return FreeText(
        token_ids=tuple(tokens),
        text=subject.tokenizer.decode(tokens),
        action=subject.tokenizer.decode(action).strip() if action else "",
        is_bad=found.is_bad,
    )


def _events(found: Sequence[bool | None]) -> Float[np.ndarray, "text"]:
    return np.array([np.nan if one is None else float(one) for one in found])
