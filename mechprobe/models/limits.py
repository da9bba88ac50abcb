"""What a model's configuration says about the length of sequences."""

from typing import Any


def max_positions(config: Any, tokenizer: Any, *, is_causal: bool) -> int | None:
    """Most tokens of one sequence; None if the model states no limit."""
    limit = getattr(config.get_text_config(), "max_position_embeddings", None)
    if limit is None or is_causal:
        return limit
    # Some encoders keep a few positions for themselves; their tokenizer knows.
    return min(int(limit), int(tokenizer.model_max_length))


def rotary_switch(config: Any) -> int | None:
    """Length beyond which a batch gets other rotary frequencies ("longrope", as Phi-3 has it); None: none.

    Hugging Face chooses them for the whole batch, so that a longer neighbour would change a short sequence.
    """
    rotary = getattr(config.get_text_config(), "rope_parameters", None) or {}
    is_switching = rotary.get("rope_type") == "longrope"
    return rotary["original_max_position_embeddings"] if is_switching else None
