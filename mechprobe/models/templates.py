"""Chat templates: the tokenizer's own, a file's, or the plain one for models that have none."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from mechprobe.errors import ModelError
from mechprobe.models.alignment import Alignment, align
from mechprobe.models.messages import Render, TemplateForm, form_of
from mechprobe.transcripts.transcript import Transcript

PLAIN = "plain"
PLAIN_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ message.role }}: "
    "{% if message.reasoning_content %}<think> {{ message.reasoning_content }} </think> {% endif %}"
    "{{ message.content }}\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def read_chat_template(choice: str | None) -> str | None:
    """Turn the user's choice into Jinja text: None keeps the tokenizer's own template.

    Raises:
        ModelError: the choice is neither "plain" nor a file.
    """
    if choice is None:
        return None
    if choice == PLAIN:
        return PLAIN_TEMPLATE
    path = Path(choice).expanduser()
    if not path.is_file():
        raise ModelError(
            f"chat_template is {choice!r}; it must be {PLAIN!r} or the path of a Jinja file."
        )
    return path.read_text()


def align_with_template(
    transcript: Transcript, tokenizer: Any, chat_template: str | None
) -> Alignment:
    """Render a transcript through a chat template and find its texts.

    Raises:
        ModelError: there is no chat template, or it refuses the conversation.
    """
    from jinja2 import TemplateError

    template = chat_template or _own_template(tokenizer)
    render = _renderer(template, tokenizer)
    problems: list[Exception] = []
    for form in _forms_to_try(_form(template, tokenizer)):
        try:
            return align(transcript, form, render)
        except (TypeError, TemplateError) as error:
            problems.append(error)
    raise ModelError(
        f"the chat template refuses transcript {transcript.id!r} ({problems[0]}); set "
        'chat_template="plain" or a template file of your own.'
    ) from problems[0]


@lru_cache(maxsize=16)
def _form(template: str, tokenizer: Any) -> TemplateForm:
    return form_of(template, _renderer(template, tokenizer))


def _renderer(template: str, tokenizer: Any) -> Render:
    def render(messages: Sequence[dict[str, Any]]) -> str:
        return str(
            tokenizer.apply_chat_template(list(messages), tokenize=False, chat_template=template)
        )

    return render


def _forms_to_try(form: TemplateForm) -> Iterator[TemplateForm]:
    """What templates insist on for tool calls, which they say by refusing the rest."""
    yield form
    if form.takes_tools:
        # Some join a tool call's arguments as text, others walk through them as an object.
        yield replace(form, parses_arguments=False)
        yield replace(form, has_short_ids=True)
        yield replace(form, keeps_preamble=False)


def _own_template(tokenizer: Any) -> str:
    own = getattr(tokenizer, "chat_template", None)
    if isinstance(own, dict):
        own = own.get("default")
    if not own:
        raise ModelError(
            f"the tokenizer of {tokenizer.name_or_path or 'this model'} has no chat template; set "
            'chat_template="plain", or the path of a Jinja file.'
        )
    return str(own)
