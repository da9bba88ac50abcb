"""The organism's tokenizer: one token a word, and a chat template with think tags.

It is an ordinary fast tokenizer with an ordinary Jinja template, so that the organism takes the same path through
`models/subject.py` as any hub model. Rendered text has one space between tokens, hence encoding is exact.
"""

from typing import Any

from mechprobe.models.organism.second_vocabulary import SECOND_WORDS
from mechprobe.models.organism.vocabulary import world_words

BOS, PAD, UNKNOWN, END = "<s>", "<pad>", "<unk>", "<|end|>"
ROLE_TOKENS = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>"}
THINK_START, THINK_END = "<think>", "</think>"
SPECIAL_TOKENS = (PAD, UNKNOWN, BOS, END, *ROLE_TOKENS.values(), THINK_START, THINK_END)

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %} <|{{ message.role }}|>"
    "{% if message.role == 'assistant' and message.reasoning_content %}"
    " <think> {{ message.reasoning_content }} </think>"
    "{% endif %}"
    " {{ message.content }} <|end|>"
    "{% endfor %}"
    "{% if add_generation_prompt %} <|assistant|>{% endif %}"
)


def vocabulary(vocabularies: int = 1) -> dict[str, int]:
    """Token -> id: the special tokens, the words of the world, and where two are asked for those of the second."""
    second = tuple(SECOND_WORDS.values()) if vocabularies == 2 else ()
    return {token: i for i, token in enumerate((*SPECIAL_TOKENS, *world_words(), *second))}


def build_tokenizer(vocabularies: int = 1) -> Any:
    """Make the tokenizer with its chat template."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(WordLevel(vocabulary(vocabularies), unk_token=UNKNOWN))
    core.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=BOS,
        eos_token=END,
        pad_token=PAD,
        unk_token=UNKNOWN,
        additional_special_tokens=[*ROLE_TOKENS.values(), THINK_START, THINK_END],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
