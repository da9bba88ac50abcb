"""What is explained: one number for each run, from its logits at the token where it is read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.causal.cases import Case
from mechprobe.causal.outcomes import AnswerTokens, read_outcome
from mechprobe.errors import ConfigError, DataError
from mechprobe.models.subject import Subject


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Readout:
    """A number that a run is reduced to."""

    name: str
    read: Callable[[Float[Tensor, "row vocab"], Int[Tensor, "row"]], Float[Tensor, "row"]]
    """Logits and the run of each row -> the number of each row, in logits."""


def logit_difference(cases: Sequence[Case], outcome: str) -> Readout:
    """The logit difference of an outcome's answers, as `read_outcome` has it.

    Raises:
        DataError: a case has no such outcome.
    """
    if lost := [case.pair.id for case in cases if outcome not in case.pair.outcomes]:
        known = sorted({name for case in cases for name in case.pair.outcomes})
        raise DataError(
            f"pair {lost[0]!r} has no outcome {outcome!r}; the pairs have {', '.join(known)}."
        )
    answers = AnswerTokens.of([case.pair.outcomes[outcome] for case in cases])

    def read(logits: Tensor, case: Tensor) -> Tensor:
        return read_outcome(logits, answers.pick(case))[0]

    return Readout(name=outcome, read=read)


def token_logit(subject: Subject, token: str | int) -> Readout:
    """The logit of one token.

    Raises:
        ConfigError: it is not one token of the model's vocabulary.
    """
    token_id = token_id_of(subject, token)
    return Readout(name=f"logit of {token!r}", read=lambda logits, _case: logits[:, token_id])


def token_id_of(subject: Subject, token: str | int) -> int:
    """The number of a token that is given as text or as number.

    Raises:
        ConfigError: it is not one token of the model's vocabulary.
    """
    if isinstance(token, int):
        if not 0 <= token < subject.d_vocab:
            raise ConfigError(
                f"token {token} is not in the vocabulary of {subject.name}, which has 0 to {subject.d_vocab - 1}."
            )
        return token
    ids: list[int] = subject.tokenizer(token, add_special_tokens=False)["input_ids"]
    unknown = subject.tokenizer.unk_token_id
    if len(ids) != 1 or (ids[0] == unknown and token != subject.tokenizer.unk_token):
        pieces = [subject.tokenizer.decode([i]) for i in ids]
        found = "unknown" if unknown in ids else f"{len(ids)} tokens, {pieces}"
        raise ConfigError(
            f"the outcome {token!r} is no single token in the vocabulary of {subject.name} (it is {found}); give one "
            "token, with its leading space if it has one, or its number."
        )
    return ids[0]
