"""Spans of one message in a probe-training file: by their words, or by the place that our writer put beside them."""

from collections.abc import Mapping
from typing import Any

from mechprobe.errors import LabelError
from mechprobe.transcripts.fields import as_list, as_object, as_text, record_from_json
from mechprobe.transcripts.labels import LabelReader, Quote
from mechprobe.transcripts.transcript import LostSpan, Message, Span


def spans_of_message(
    label: Mapping[str, Any],
    message: int,
    messages: tuple[Message, ...],
    indicator: str,
    labels: LabelReader,
) -> tuple[tuple[Span, ...], tuple[LostSpan, ...]]:
    """Spans of one message's label; where it says that the indicator is absent, they are hard negatives.

    They are found by their words, or by `span_places` where our writer saw that the words do not say which.

    Raises:
        DataError, LabelError: a span is malformed or is not in the message.
    """
    held = label.get("has_indicator") is True
    texts = [as_text(text, "spans") for text in as_list(label.get("spans", []), "spans")]
    if "span_places" in label:
        spans = tuple(
            record_from_json(
                Span,
                {
                    **as_object(place, "span_places"),
                    "indicator": indicator,
                    "message": message,
                    "present": held,
                },
            )
            for place in as_list(label["span_places"], "span_places")
        )
        found = [messages[message].text(span.section)[span.start : span.end] for span in spans]
        if found != texts:
            raise LabelError(
                f"span_places of message {message} mark {found}, its spans are {texts}; take span_places out "
                "to find the spans by their words."
            )
        return spans, ()
    only = tuple(
        one if at == message else Message(role=one.role, turn=one.turn)
        for at, one in enumerate(messages)
    )
    turn = messages[message].turn
    quotes = [Quote(indicator=indicator, text=text, turn=turn, present=held) for text in texts]
    return labels.place(only, quotes)
