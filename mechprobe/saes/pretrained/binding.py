"""Whether an SAE that others trained reads what this model gives it, and where."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mechprobe.errors import CheckpointError, HookError
from mechprobe.saes.lens import Sae

_SCALED_BY_DATA = "expected_average_only_in"


@dataclass(frozen=True, kw_only=True, slots=True)
class Binding:
    """Where an SAE belongs in a model."""

    hook_name: str
    """Canonical hook point that it reads."""
    hook_name_out: str
    """Canonical hook point that it reconstructs; the same one but for transcoders."""
    notes: tuple[str, ...]
    """What the user should know: the SAE fits, but was trained on something a little different."""


def bind(
    sae: Sae,
    *,
    resolve: Callable[[str], str],
    width: Callable[[str], int],
    model_name: str = "",
    begins_with_bos: bool | None = None,
    hook_name: str | None = None,
) -> Binding:
    """Find an SAE's hook points in a model, and check that it fits there.

    Args:
        resolve: an alias of a hook point -> its canonical name (`Subject.resolve`).
        width: canonical hook point -> width of its activations.
        model_name: the model's; compared where the SAE names one as well.
        begins_with_bos: whether what was captured begins with BOS; None for not known.
        hook_name: where it is to be attached, for SAEs that do not say it.

    Raises:
        CheckpointError: the width, the hook point, the model or the normalisation does not fit.
    """
    metadata = sae.cfg.metadata
    reads = _resolved(hook_name or metadata.hook_name, resolve)
    if hook_name and metadata.hook_name and _resolved(metadata.hook_name, resolve) != reads:
        raise CheckpointError(
            f"the SAE was trained at {metadata.hook_name}, not at {reads}; attach it there, or use an SAE trained "
            f"at {reads}."
        )
    writes = _resolved(metadata.hook_name_out, resolve) if metadata.hook_name_out else reads
    _check_sizes(sae, reads, writes, width)
    _check_inputs(sae)
    trained_on = metadata.model_name or ""
    if model_name and trained_on and not _same_model(trained_on, model_name):
        raise CheckpointError(
            f"the SAE was trained on {trained_on}, not on {model_name}; use an SAE of this model."
        )
    return Binding(hook_name=reads, hook_name_out=writes, notes=tuple(_notes(sae, begins_with_bos)))


def _resolved(name: str | None, resolve: Callable[[str], str]) -> str:
    if not name:
        raise CheckpointError("the SAE does not say its hook point; give it.")
    try:
        return resolve(name)
    except HookError as error:
        raise CheckpointError(
            f"the SAE reads {name}, which this model does not have ({error}); use an SAE of this model."
        ) from error


def _check_sizes(sae: Sae, reads: str, writes: str, width: Callable[[str], int]) -> None:
    if sae.cfg.reshape_activations != "none":
        raise CheckpointError(
            f"the SAE reads heads one by one (reshape_activations {sae.cfg.reshape_activations!r}), which is "
            "not supported; use an SAE of a residual stream, MLP or attention output."
        )
    for what, name, size in (
        ("reads", reads, int(sae.cfg.d_in)),
        ("reconstructs", writes, int(sae.W_dec.shape[1])),
    ):
        if width(name) != size:
            raise CheckpointError(
                f"the SAE {what} activations of width {size}, but {name} has width {width(name)}; use an SAE trained "
                "there, of this model."
            )


def _check_inputs(sae: Sae) -> None:
    if sae.cfg.normalize_activations == _SCALED_BY_DATA:
        raise CheckpointError(
            "the SAE expects activations that are scaled to a mean norm of the root of d_in, and the scale is not "
            "folded into its weights; load it by release and sae_id, or call fold_activation_norm_scaling_factor with "
            "the scale that its makers state."
        )


def _same_model(trained_on: str, model: str) -> bool:
    return Path(trained_on).name.lower() == Path(model).name.lower()


def _notes(sae: Sae, begins_with_bos: bool | None) -> list[str]:
    metadata, notes = sae.cfg.metadata, list[str]()
    if sae.cfg.normalize_activations not in ("none", _SCALED_BY_DATA):
        notes.append(
            f"it normalises each input ({sae.cfg.normalize_activations}), so its features have no fixed direction: "
            "they can be read, not added"
        )
    wants_bos = metadata.prepend_bos
    if begins_with_bos is not None and wants_bos is not None and wants_bos != begins_with_bos:
        notes.append(
            f"it was trained on texts {'with' if wants_bos else 'without'} BOS, which are captured here "
            f"{'with' if begins_with_bos else 'without'} it"
        )
    changed = {
        name
        for name, value in (metadata.model_from_pretrained_kwargs or {}).items()
        if value
        and name in ("center_writing_weights", "center_unembed", "fold_ln", "fold_value_biases")
    }
    if changed:
        notes.append(
            f"it was trained on a model with changed weights ({', '.join(sorted(changed))}); activations here are those "
            "of the weights as they are"
        )
    return notes
