"""The errors that a user can cause. Each says what was found, what was wanted and what to do."""


class MechprobeError(Exception):
    """A mistake that the user can mend; the command line prints it as one line and exits with 1."""


class ConfigError(MechprobeError):
    """A setting is out of range, unknown, or contradicts another."""


class DataError(MechprobeError):
    """A file or table is missing, malformed or empty."""


class LabelError(MechprobeError):
    """A label names an unknown indicator, or a span does not stand in its text."""


class ShapeError(MechprobeError):
    """An array does not have the shape that its use needs."""


class StoreError(MechprobeError):
    """An activation or feature store is truncated, damaged or of another kind."""


class CheckpointError(MechprobeError):
    """A model, SAE or probe on disk cannot be used here."""


class ModelError(MechprobeError):
    """A model or its tokenizer lacks what was asked of it."""


class HookError(ModelError):
    """A hook point does not exist, or an edit at it never fired."""


class WorkError(MechprobeError):
    """Work that was given to other processes failed there as often as it may."""
