"""Print what was checked of each model family and each chat template, with the largest deviation found.

python -m tools.architecture_matrix

From the repository's root: the checks and their tiny random models are those of tests/models. A family that cannot be
made or loaded with the installed versions has its reason in the table.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import torch

from mechprobe.errors import MechprobeError
from mechprobe.models.rendering import render
from mechprobe.transcripts.transcript import Transcript
from tests.models import expected_talks, expected_tool_calls
from tests.models.architectures import (
    Studied,
    bfloat16_errors,
    edited_deviation,
    engines,
    padded_deviation,
    stored_deviation,
    stored_rows,
    study,
)
from tests.models.awkward_texts import CASES, conversation, whole_or_dropped
from tests.models.families import FAMILIES, WINDOW, Family
from tests.models.family_templates import ALL, WIDE_BAR
from tests.models.segments import dropped, segments
from tests.models.tiny import tiny_tokenizer

TOLERANCE = 1e-5
"""That of the tests; activations are of size 2 to 9."""
ERRORS = (MechprobeError, ImportError, AttributeError, RuntimeError, TypeError, ValueError)
TOKENIZER = tiny_tokenizer()


def main() -> None:
    """Print both tables."""
    torch.set_num_threads(1)
    names = ("transformers", "transformer-lens", "torch")
    print(f"{', '.join(f'{name} {version(name)}' for name in names)}; CPU, random weights.\n")
    print("\n".join(model_table()))
    print()
    print("\n".join(template_table()))


def model_table() -> Iterator[str]:
    """Largest absolute differences from plain Hugging Face, one sequence at a time."""
    yield (
        "| family | store, float32 | padded batch | steered logits | bfloat16 rows, 90 % within | engines | notes |"
    )
    yield "|---|---|---|---|---|---|---|"
    for name, family in FAMILIES.items():
        with tempfile.TemporaryDirectory() as folder:
            cells = _attempt(lambda f=folder, n=name: _model_cells(n, Path(f)))
        yield f"| {name} | {' | '.join([*cells, _notes(family)])} |"


def _attempt(check: Callable[[], list[str]]) -> list[str]:
    try:
        return check()
    except ERRORS as error:
        return [f"no: {type(error).__name__}: {' '.join(str(error).split())[:120]}", *[""] * 4]


def _model_cells(name: str, folder: Path) -> list[str]:
    studied = study(name, folder / "model")
    stored = stored_deviation(stored_rows(studied.subject, folder / "store"), studied.wanted)
    padded = max(padded_deviation(studied, side) for side in ("left", "right"))
    errors = bfloat16_errors(studied, folder / "bfloat16")
    return [
        _judged(stored),
        _judged(padded),
        _edited(studied),
        f"{float(errors[int(0.9 * len(errors))]):.1%}",
        ", ".join(engines(studied.subject)),
    ]


def _edited(studied: Studied) -> str:
    return _judged(edited_deviation(studied)) if studied.family.is_causal else "has none"


def _judged(deviation: float) -> str:
    return f"{'ok' if deviation < TOLERANCE else 'deviates'}, {deviation:.1e}"


def _notes(family: Family) -> str:
    notes = [
        "experts" if family.has_experts else "",
        f"window of {WINDOW} tokens" if family.has_window else "",
        "" if family.is_causal else "bidirectional, plain template",
    ]
    return ", ".join(note for note in notes if note)


def template_table() -> Iterator[str]:
    """Whether every stretch of text is labelled as was written down by hand."""
    yield "| chat template | turns with reasoning | tool calls | awkward texts | refuses | leaves out |"
    yield "|---|---|---|---|---|---|"
    turns = [
        (expected_talks.TALK, expected_talks.OF_TALK),
        (expected_talks.WITHOUT_SYSTEM, expected_talks.OF_WITHOUT_SYSTEM),
    ]
    calls = [
        (expected_tool_calls.ONE_CALL, expected_tool_calls.OF_ONE_CALL),
        (expected_tool_calls.TWO_CALLS, expected_tool_calls.OF_TWO_CALLS),
    ]
    for family in ALL:
        cells = [_labelled(family, turns), _labelled(family, calls), _awkward(family)]
        refused = _refused(family, [talk for talk, _ in (*turns, *calls)])
        yield f"| {family} | {' | '.join([*cells, refused, _dropped(family)])} |"


def _labelled(family: str, cases: Sequence[tuple[Transcript, Mapping[str, str]]]) -> str:
    found = [
        _written(family, talk) == expected[family].strip()
        for talk, expected in cases
        if family in expected
    ]
    return f"{sum(found)} of {len(found)}"


def _written(family: str, talk: Transcript) -> str:
    rendering = render(talk, TOKENIZER, chat_template=ALL[family])
    return segments(rendering, talk, TOKENIZER).replace(WIDE_BAR, "|")


def _refused(family: str, talks: Sequence[Transcript]) -> str:
    reasons: list[str] = []
    for talk in talks:
        try:
            _written(family, talk)
        except MechprobeError as error:
            reasons.append(str(error).split("(")[1].split(")")[0])
    return "; ".join(reasons)


def _awkward(family: str) -> str:
    talks = [conversation(*case) for case in CASES.values()]
    right = sum(
        whole_or_dropped(render(talk, TOKENIZER, chat_template=ALL[family]), talk, TOKENIZER)
        for talk in talks
    )
    return f"{right} of {len(talks)}"


def _dropped(family: str) -> str:
    rendering = render(expected_talks.WITHOUT_SYSTEM, TOKENIZER, chat_template=ALL[family])
    return {"1r": "earlier reasoning", "1r 3r": "all reasoning", "": ""}[dropped(rendering)]


if __name__ == "__main__":
    main()
