"""What is done along single directions in free text: many of them in one batch, each row its own.

A *push* adds an amount along a direction, or holds the coordinate along it at a value. Which tokens it reaches is
said apart: given ones of each text, or all from one token on, which then includes every token that is yet to be
written.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from einops import einsum
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechprobe.causal.edits.edited_rows import (
    Operation,
    Rows,
    check_numbers,
    check_unit,
    edit_at,
    edit_rows,
    fitting,
)
from mechprobe.errors import ConfigError
from mechprobe.models.hooks import Edit, EditContext

PushKind = Literal["steer", "ablate"]
LAST = torch.iinfo(torch.long).max
"""Last edited token of a text that is edited to its end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EditName:
    """What tables know an edit by, and what it should do."""

    indicator: str
    direction: str
    operation: str
    """"steer", "ablate" or "prompt"."""
    strength: float
    amount: float
    control: str
    draw: int
    sign: int
    """The way in which the outcome should move if the direction drives it: 1 up, -1 down."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Push:
    """One direction and how far it is pushed."""

    indicator: str
    direction: str
    """How the direction was made, such as "diff_of_means", "writing" or "random"."""
    operation: PushKind = "steer"
    strength: float = float("nan")
    """The amount in natural gaps; NaN where it comes from elsewhere."""
    control: str = "none"
    draw: int = 0
    vector: Float[Tensor, "d"]
    amount: float
    """Added along the vector ("steer"), or the coordinate that is held ("ablate")."""

    def __post_init__(self) -> None:
        if self.operation not in get_args(PushKind):
            raise ConfigError(
                f"operation is {self.operation!r}; it must be one of {', '.join(get_args(PushKind))}."
            )

    @property
    def name(self) -> EditName:
        """Its names; a coordinate that is held is taken to hold the thought back."""
        return EditName(
            indicator=self.indicator,
            direction=self.direction,
            operation=self.operation,
            strength=self.strength,
            amount=self.amount,
            control=self.control,
            draw=self.draw,
            sign=1 if self.operation == "steer" and self.amount > 0 else -1,
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PushTable:
    """Pushes at one hook point as arrays."""

    hook_name: str
    vectors: Float[Tensor, "condition d"]
    amounts: Float[Tensor, "condition"]
    is_held: Bool[Tensor, "condition"]
    """Whether the coordinate is held at the amount; else the amount is added."""

    def __post_init__(self) -> None:
        check_numbers(self.vectors, "the direction")
        check_numbers(self.amounts, "the amount")
        check_unit(self.vectors[self.is_held])

    @classmethod
    def of(cls, hook_name: str, pushes: Sequence[Push]) -> "PushTable":
        """Stack pushes."""
        return cls(
            hook_name=hook_name,
            vectors=torch.stack([push.vector.float() for push in pushes]),
            amounts=torch.tensor([float(push.amount) for push in pushes]),
            is_held=torch.tensor([push.operation == "ablate" for push in pushes]),
        )

    @classmethod
    def steering(
        cls,
        hook_name: str,
        vectors: Float[Tensor, "condition d"],
        amounts: Float[Tensor, "condition"],
    ) -> "PushTable":
        """Amounts that are added along vectors."""
        is_held = torch.zeros(len(vectors), dtype=torch.bool)
        return cls(hook_name=hook_name, vectors=vectors, amounts=amounts, is_held=is_held)

    def at(self, positions: Int[Tensor, "row site"], condition: Int[Tensor, "row"]) -> Edit:
        """The edit of a batch at given tokens; -1 fills up."""
        return edit_at(self.hook_name, positions, self._operation(condition))

    def between(
        self,
        first: Int[Tensor, "row"],
        last: Int[Tensor, "row"],
        condition: Int[Tensor, "row"],
    ) -> Edit:
        """The edit of a batch at all tokens from the first to the last, those written meanwhile included."""

        def choose(context: EditContext) -> Rows:
            here = context.positions
            is_reached = (here >= first.to(here)[:, None]) & (here <= last.to(here)[:, None])
            case, column = torch.nonzero(is_reached & (here >= 0), as_tuple=True)
            position = here[case, column]
            return Rows(
                case=case, slot=position - first.to(here)[case], position=position, column=column
            )

        return edit_rows(self.hook_name, choose, self._operation(condition))

    def _operation(self, condition: Int[Tensor, "row"]) -> Operation:
        def operation(live: Tensor, rows: Rows) -> Tensor:
            chosen = condition.to(live.device)[rows.case]
            along = fitting(self.vectors, live, "the direction")[chosen]
            amount = self.amounts.to(live)[chosen]
            now = einsum(live, along, "row d, row d -> row")
            change = torch.where(self.is_held.to(live.device)[chosen], amount - now, amount)
            return live + change[:, None] * along

        return operation
