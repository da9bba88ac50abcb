"""Chat templates: the tokenizer's own, a file's, or the plain one for models that have none."""

from pathlib import Path

from mechprobe.errors import ModelError

PLAIN = "plain"
PLAIN_TEMPLATE = (
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
