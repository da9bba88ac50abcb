"""What reads the residual stream after a hook point: later projections, with the gains of their norms folded in.

A reader is found by watching, not by name: a linear layer whose input, on a few tokens, is the output of a norm of the
stream or the stream itself. This holds for attention and MLP projections, routers and the unembedding of every
architecture that the bridge loads. Experts that keep their weights outside of linear layers are not found.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor, nn

from mechprobe.errors import HookError, ShapeError
from mechprobe.models.parity import N_TOKENS
from mechprobe.models.subject import Subject

UNEMBEDDING = "unembed"
_N_TRIED = 8


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Reader:
    """A linear layer that reads the stream."""

    name: str
    """Its hook-point name where the bridge has one, such as "blocks.1.attn.q"."""
    layer: Any
    norm: Any = None
    """The norm through which it reads; None where it reads the stream as it is."""

    @property
    def weight(self) -> Float[Tensor, "out d_model"]:
        """Change of its output with the stream, up to the norm's division by the size of the stream.

        Made anew at each access, on the CPU, since all of a large model's together would fill its memory twice.
        """
        weight = _weight(self.layer)
        return weight if self.norm is None else _fold(weight, self.norm)


def residual_readers(subject: Subject, hook_name: str) -> list[Reader]:
    """The linear layers that read the residual stream after a hook point, in the order in which they run.

    Raises:
        ShapeError: the hook point is not as wide as the residual stream.
        HookError: nothing reads the stream after it.
    """
    site = subject.resolve(hook_name)
    if subject.width(site) != subject.d_model:
        raise ShapeError(
            f"{site} writes {subject.width(site)} numbers for each token and the residual stream has "
            f"{subject.d_model}; name a hook point of the stream, or of what is added to it."
        )
    found = _watch(subject, site)
    if not found:
        raise HookError(f"no linear layer reads the residual stream after {site}.")
    return found


def _watch(subject: Subject, site: str) -> list[Reader]:
    names = {id(point): name for name, point in subject.hooks.points.items()}
    seen: list[tuple[Tensor, Any]] = []
    """Values that a reader may take in, each with the norm that made it; None for the stream itself."""
    found: list[Reader] = []
    has_started = False

    def start(_module: Any, _inputs: Any, out: Tensor) -> None:
        nonlocal has_started
        has_started = True
        seen.append((out.detach().clone(), None))

    def see(norm: Any) -> Callable[..., None]:
        def look(_module: Any, _inputs: Any, out: Tensor) -> None:
            if has_started and out.shape[-1] == subject.d_model:
                seen.append((out.detach().clone(), norm))

        return look

    def read(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if not has_started or not inputs:
            return
        sources = [norm for value, norm in seen if torch.equal(value, inputs[0])]
        if sources:
            name = _name(module, subject, names)
            found.append(Reader(name=name, layer=module, norm=sources[-1]))

    handles = [subject.hooks.points[site].register_forward_hook(start)]
    handles += [
        point.register_forward_hook(see(None))
        for name, point in subject.hooks.points.items()
        if name.startswith("blocks.") and name.count(".") == 2 and name != site
    ]
    for module in subject.bridge.modules():
        if hasattr(module, "hook_normalized"):
            handles.append(module.register_forward_hook(see(module)))
        if _is_linear(module, subject.d_model):
            handles.append(module.register_forward_pre_hook(read))
    generator = torch.Generator().manual_seed(0)
    token_ids = torch.randint(0, subject.d_vocab, (1, N_TOKENS), generator=generator)
    try:
        with torch.no_grad():
            token_ids = token_ids.to(subject.device)
            subject.bridge(token_ids, attention_mask=torch.ones_like(token_ids))
    finally:
        for handle in handles:
            handle.remove()
    return found


def _is_linear(module: Any, width: int) -> bool:
    if isinstance(module, nn.Linear):
        return module.in_features == width
    # GPT-2's layer, which keeps its weight the other way round.
    return type(module).__name__ == "Conv1D" and module.weight.shape[0] == width


def _weight(module: Any) -> Float[Tensor, "out d_model"]:
    weight = module.weight.detach().float().cpu()
    return weight if isinstance(module, nn.Linear) else weight.T


def _fold(weight: Float[Tensor, "out d_model"], norm: Any) -> Float[Tensor, "out d_model"]:
    """Fold a norm's gain, and its centring where it has one, into the layer that reads it.

    Both are measured by calling the norm: its odd part on centred rows of unit size is the gain times the row.
    """
    width = weight.shape[1]
    device, dtype = next((p.device, p.dtype) for p in norm.parameters())
    rows = torch.randn(_N_TRIED, width, generator=torch.Generator().manual_seed(0))
    rows = rows - rows.mean(-1, keepdim=True)
    rows = rows / rows.pow(2).mean(-1, keepdim=True).sqrt()
    flat = torch.ones(1, width)
    with torch.no_grad():
        tried = torch.cat([rows, flat]).to(device, dtype)[None]
        odd = ((norm(tried) - norm(-tried)) / 2)[0].float().cpu()
    gain = (odd[:-1] * rows).sum(0) / rows.pow(2).sum(0)
    folded = einsum(weight, gain, "out d, d -> out d")
    is_centring = float(odd[-1].abs().max()) < 1e-2 * float(gain.abs().max())
    return folded - folded.mean(1, keepdim=True) if is_centring else folded


def _name(module: nn.Module, subject: Subject, names: dict[int, str]) -> str:
    """The module's place in the bridge's names, by the hook point of the component that wraps it."""
    for parent in subject.bridge.modules():
        if getattr(parent, "original_component", None) is module and hasattr(parent, "hook_in"):
            return names.get(id(parent.hook_in), "").removesuffix(".hook_in") or "unnamed"
    return "unnamed"
