"""Where TransformerLens 3.9 and the models of transformers 5 have grown apart, mended on a bridge that was just made.

Both faults stop a forward pass with an error, and both show only without a key-value cache, as captures run.
"""

import sys
from typing import Any


def repair_bridge(bridge: Any) -> None:
    """Mend a bridge in place; one that needs nothing stays as it is."""
    for module in list(bridge.modules()):
        original = getattr(module, "original_component", None)
        if type(module).__name__ == "GatedDeltaNetBridge" and original is not None:
            _lend_kernels(original)
        for name in ("hook_rot_q", "hook_rot_k"):
            if point := getattr(module, name, None):
                point.register_forward_hook(_in_dtype(bridge.cfg.dtype))


def _lend_kernels(layer: Any) -> None:
    """Qwen3-Next's linear attention: the bridge looks for functions on the layer that are now in its module."""
    if not hasattr(layer, "causal_conv1d_fn"):
        # None has the bridge call the layer's own convolution.
        layer.causal_conv1d_fn = None
    if not hasattr(layer, "chunk_gated_delta_rule"):
        vendor = sys.modules[type(layer).__module__]
        layer.chunk_gated_delta_rule = vars(vendor)["torch_chunk_gated_delta_rule"]


def _in_dtype(dtype: Any) -> Any:
    """OLMo 2's rotary embedding is float32 in every model; its own attention rounds afterwards, the bridge does not."""

    def cast(_point: Any, _inputs: Any, out: Any) -> Any:
        return out.to(dtype)

    return cast
