"""Which tokens of a transcript are kept."""

from dataclasses import dataclass

from mechprobe.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenSelection:
    """Tokens by the role and section that they stand in; only the selected ones are stored.

    Raises:
        ConfigError: an empty tuple selects nothing.
    """

    roles: tuple[str, ...] | None = ("assistant",)
    """Roles to keep; None keeps all, also tokens that belong to no message."""
    sections: tuple[str, ...] | None = ("reasoning", "answer", "tool_call")
    """Sections to keep; None keeps all, also headers and other scaffold."""

    def __post_init__(self) -> None:
        if self.roles == () or self.sections == ():
            raise ConfigError(
                f"roles {self.roles} and sections {self.sections} select no token; name at least one of "
                "each, or None for all."
            )
