"""What the chat templates of well-known families do to a conversation, written anew and short.

Each follows its family in what matters for telling texts apart: what it trims, drops, merges, injects and refuses.
The texts that the real ones inject are longer.
"""

WIDE_BAR = chr(0xFF5C)
"""What stands in DeepSeek's tags instead of a bar."""


def wide_bars(template: str) -> str:
    """The same with DeepSeek's bars in its tags."""
    return template.replace("<|", f"<{WIDE_BAR}").replace("|>", f"{WIDE_BAR}>")


QWEN25 = """
{%- if messages[0].role == 'system' %}<|im_start|>system
{{ messages[0].content }}<|im_end|>
{% else %}<|im_start|>system
You help the user.<|im_end|>
{% endif %}
{%- for message in messages %}
{%- if message.role == 'user' or (message.role == 'system' and not loop.first) or (message.role == 'assistant' and not message.tool_calls) %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% elif message.role == 'assistant' %}<|im_start|>assistant{% if message.content %}{{ '\\n' + message.content }}{% endif %}
{%- for call in message.tool_calls %}{{ '\\n' }}<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}<|im_end|>
{% elif message.role == 'tool' %}
{%- if messages[loop.index0 - 1].role != 'tool' %}<|im_start|>user{% endif %}{{ '\\n' }}<tool_response>
{{ message.content }}
</tool_response>
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}<|im_end|>
{% endif %}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
"""A system turn of its own where there is none; answers of tools that follow each other share a user turn."""

QWEN3 = """
{%- set ns = namespace(last=-1) %}
{%- for message in messages %}
{%- if message.role == 'user' and not (message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
{%- set ns.last = loop.index0 %}
{%- endif %}
{%- endfor %}
{%- for message in messages %}
{%- if message.role == 'assistant' %}
{%- set content = message.content %}
{%- set thought = '' %}
{%- if message.reasoning_content is string %}
{%- set thought = message.reasoning_content %}
{%- elif '</think>' in content %}
{%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
{%- set content = content.split('</think>')[-1].lstrip('\\n') %}
{%- endif %}<|im_start|>assistant
{% if loop.index0 > ns.last and (loop.last or thought) %}<think>
{{ thought.strip('\\n') }}
</think>

{{ content.lstrip('\\n') }}{% else %}{{ content }}{% endif %}
{%- for call in message.tool_calls or [] %}
{%- if not loop.first or content %}{{ '\\n' }}{% endif %}<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments if call.function.arguments is string else call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}<|im_end|>
{% elif message.role == 'tool' %}
{%- if messages[loop.index0 - 1].role != 'tool' %}<|im_start|>user{% endif %}{{ '\\n' }}<tool_response>
{{ message.content }}
</tool_response>
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}<|im_end|>
{% endif %}
{%- else %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
"""Reasoning after the last user message only; an empty think block in the last turn; contents are searched for tags."""

DEEPSEEK_R1 = wide_bars(
    """{{ bos_token }}
{%- for message in messages if message.role == 'system' %}{{ message.content }}{% endfor %}
{%- set ns = namespace(after_tool=false) %}
{%- for message in messages %}
{%- if message.role == 'user' %}<|User|>{{ message.content }}{% set ns.after_tool = false %}
{%- elif message.role == 'tool' %}
{%- if not ns.after_tool %}<|tool▁outputs▁begin|>{% endif %}<|tool▁output▁begin|>{{ message.content }}<|tool▁output▁end|>
{%- set ns.after_tool = true %}
{%- elif message.role == 'assistant' and message.tool_calls %}<|Assistant|>{{ message.content.split('</think>')[-1] }}<|tool▁calls▁begin|>
{%- for call in message.tool_calls %}<|tool▁call▁begin|>function<|tool▁sep|>{{ call.function.name + '\\n```json\\n' + call.function.arguments + '\\n```' }}<|tool▁call▁end|>
{%- endfor %}<|tool▁calls▁end|><|end▁of▁sentence|>{% set ns.after_tool = false %}
{%- elif message.role == 'assistant' %}
{%- if ns.after_tool %}<|tool▁outputs▁end|>{{ message.content }}{% set ns.after_tool = false %}
{%- else %}<|Assistant|>{{ message.content.split('</think>')[-1] }}
{%- endif %}<|end▁of▁sentence|>
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|Assistant|><think>
{% endif %}"""
)
"""Whatever stands before a closing think tag is cut off, but for the answer after a tool, which has no header either."""

DEEPSEEK_V31 = wide_bars(
    """
{%- if not thinking is defined %}{% set thinking = false %}{% endif %}{{ bos_token }}
{%- for message in messages if message.role == 'system' %}{{ message.content }}{% endfor %}
{%- set ns = namespace(after_user=false, after_tool=false) %}
{%- for message in messages %}
{%- if message.role == 'user' %}<|User|>{{ message.content }}{% set ns.after_user = true %}{% set ns.after_tool = false %}
{%- elif message.role == 'tool' %}<|tool▁output▁begin|>{{ message.content }}<|tool▁output▁end|>{% set ns.after_tool = true %}
{%- elif message.role == 'assistant' %}
{%- if ns.after_user %}<|Assistant|></think>{% endif %}
{%- set content = message.content %}
{%- if not ns.after_tool and '</think>' in content %}{% set content = content.split('</think>', 1)[1] %}{% endif %}
{{- content }}
{%- for call in message.tool_calls or [] %}
{%- if loop.first %}<|tool▁calls▁begin|>{% endif %}<|tool▁call▁begin|>{{ call.function.name + '<|tool▁sep|>' + call.function.arguments }}<|tool▁call▁end|>
{%- if loop.last %}<|tool▁calls▁end|>{% endif %}
{%- endfor %}<|end▁of▁sentence|>
{%- set ns.after_user = false %}{% set ns.after_tool = false %}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|Assistant|>{{ '<think>' if thinking else '</think>' }}{% endif %}"""
)
"""`thinking` is a switch, no field of a message; contents are cut at the first closing tag."""

GLM45 = """[gMASK]<sop>
{%- set ns = namespace(last=-1) %}
{%- for message in messages %}{% if message.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}
{%- for message in messages %}
{%- if message.role == 'user' %}<|user|>
{{ message.content }}
{%- elif message.role == 'system' %}<|system|>
{{ message.content }}
{%- elif message.role == 'assistant' %}<|assistant|>
{%- set content = message.content %}
{%- set thought = '' %}
{%- if message.reasoning_content is string %}{% set thought = message.reasoning_content %}
{%- elif '</think>' in content %}
{%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
{%- set content = content.split('</think>')[-1].lstrip('\\n') %}
{%- endif %}
{%- if loop.index0 > ns.last and thought %}{{ '\\n<think>' + thought.strip() + '</think>' }}{% else %}{{ '\\n<think></think>' }}{% endif %}
{%- if content.strip() %}{{ '\\n' + content.strip() }}{% endif %}
{%- for call in message.tool_calls or [] %}
{{ '\\n<tool_call>' + call.function.name }}
{%- for key, value in call.function.arguments.items() %}{{ '\\n' }}<arg_key>{{ key }}</arg_key>
<arg_value>{{ value if value is string else value | tojson }}</arg_value>
{%- endfor %}{{ '\\n' }}</tool_call>
{%- endfor %}
{%- elif message.role == 'tool' %}
{%- if messages[loop.index0 - 1].role != 'tool' %}<|observation|>{% endif %}{{ '\\n' }}<tool_response>
{{ message.content }}
</tool_response>
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|assistant|>{% endif %}"""
"""An empty think block stands for reasoning that was dropped; nothing closes a turn."""

HARMONY = """<|start|>system<|message|>You are a model. Reasoning: medium

# Valid channels: analysis, commentary, final.<|end|>
{%- set rest = messages %}
{%- if messages[0].role in ('system', 'developer') %}<|start|>developer<|message|># Instructions

{{ messages[0].content }}<|end|>
{%- set rest = messages[1:] %}
{%- endif %}
{%- set ns = namespace(tool=none) %}
{%- for message in rest %}
{%- if message.role == 'user' %}<|start|>user<|message|>{{ message.content }}<|end|>
{%- elif message.role == 'tool' %}
{%- if ns.tool is none %}{{ raise_exception('a tool message without a call') }}{% endif %}<|start|>functions.{{ ns.tool }} to=assistant<|channel|>commentary<|message|>{{ message.content | tojson }}<|end|>
{%- elif 'tool_calls' in message %}
{%- if message.content and message.thinking %}{{ raise_exception('both content and thinking beside a tool call') }}{% endif %}
{%- set later = namespace(final=false) %}
{%- for other in rest[loop.index:] %}{% if other.role == 'assistant' and 'tool_calls' not in other %}{% set later.final = true %}{% endif %}{% endfor %}
{%- if (message.content or message.thinking) and not later.final %}<|start|>assistant<|channel|>analysis<|message|>{{ message.content or message.thinking }}<|end|>{% endif %}
{%- set call = message.tool_calls[0].function %}<|start|>assistant to=functions.{{ call.name }}<|channel|>commentary json<|message|>{{ call.arguments | tojson }}<|call|>
{%- set ns.tool = call.name %}
{%- elif loop.last and not add_generation_prompt %}
{%- if 'thinking' in message %}<|start|>assistant<|channel|>analysis<|message|>{{ message.thinking }}<|end|>{% endif %}<|start|>assistant<|channel|>final<|message|>{{ message.content }}<|return|>
{%- else %}<|start|>assistant<|channel|>{{ 'analysis' if 'thinking' in message else 'final' }}<|message|>{{ message.content }}<|end|>
{%- set ns.tool = none %}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|start|>assistant{% endif %}"""
"""gpt-oss: system texts are the developer's; only the last turn's analysis is shown. Where an earlier turn still has
its thinking the answer itself goes to the analysis channel; one tool call for each message, without a preamble."""

LLAMA31 = """{{ bos_token }}<|start_header_id|>system<|end_header_id|>

Knowledge date: December
Today is Friday.
{{ '\\n' }}
{%- set rest = messages %}
{%- if messages[0].role == 'system' %}{{ messages[0].content | trim }}{% set rest = messages[1:] %}{% endif %}<|eot_id|>
{%- for message in rest %}
{%- if message.role in ('tool', 'ipython') %}<|start_header_id|>ipython<|end_header_id|>

{{ message.content if message.content is string else message.content | tojson }}<|eot_id|>
{%- elif 'tool_calls' in message %}
{%- if message.tool_calls | length != 1 %}{{ raise_exception('one tool call at a time') }}{% endif %}
{%- set call = message.tool_calls[0].function %}<|start_header_id|>assistant<|end_header_id|>

{"name": "{{ call.name }}", "parameters": {{ call.arguments | tojson }}}<|eot_id|>
{%- else %}<|start_header_id|>{{ message.role }}<|end_header_id|>

{{ message.content | trim }}<|eot_id|>
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>

{% endif %}"""
"""Dates in every system turn, which is made where there is none; beside a tool call the content is left out."""

MISTRAL = """
{%- set rest = messages %}{{ bos_token }}
{%- if messages[0].role == 'system' %}[SYSTEM_PROMPT]{{ messages[0].content }}[/SYSTEM_PROMPT]{% set rest = messages[1:] %}{% endif %}
{%- for message in rest %}
{%- if message.role == 'user' %}[INST]{{ message.content }}[/INST]
{%- elif message.role == 'tool' %}[TOOL_RESULTS]{{ message.content }}[/TOOL_RESULTS]
{%- elif message.tool_calls %}{{ message.content }}[TOOL_CALLS][
{%- for call in message.tool_calls %}
{%- if call.id | length != 9 %}{{ raise_exception('tool call ids have length 9') }}{% endif %}
{{- '{"name": "' + call.function.name + '", "arguments": ' + call.function.arguments | tojson + ', "id": "' + call.id + '"}' }}{{ ', ' if not loop.last }}
{%- endfor %}]{{ eos_token }}
{%- else %}{{ message.content + eos_token }}
{%- endif %}
{%- endfor %}"""
"""Brackets and no names of roles; the assistant has no header at all; ids of tool calls have nine characters."""

MAGISTRAL = """{{ bos_token }}
{%- for message in messages %}
{%- if message.role == 'system' %}[SYSTEM_PROMPT]{{ message.content }}[/SYSTEM_PROMPT]
{%- elif message.role == 'user' %}[INST]{{ message.content }}[/INST]
{%- elif message.content is string %}{{ message.content + eos_token }}
{%- else %}
{%- for block in message.content %}
{%- if block.type == 'thinking' %}[THINK]{{ block.thinking }}[/THINK]{% else %}{{ block.text }}{% endif %}
{%- endfor %}{{ eos_token }}
{%- endif %}
{%- endfor %}"""
"""Reasoning is a part of the content, which is then a list."""

GEMMA2 = """{{ bos_token }}
{%- if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{%- for message in messages %}
{%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate') }}{% endif %}<start_of_turn>{{ 'model' if message.role == 'assistant' else message.role }}
{{ message.content | trim }}<end_of_turn>
{% endfor %}
{%- if add_generation_prompt %}<start_of_turn>model
{% endif %}"""
"""No system role."""

GEMMA3 = """{{ bos_token }}
{%- set first, rest = '', messages %}
{%- if messages[0].role == 'system' %}{% set first = messages[0].content + '\\n\\n' %}{% set rest = messages[1:] %}{% endif %}
{%- for message in rest %}
{%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate') }}{% endif %}<start_of_turn>{{ 'model' if message.role == 'assistant' else message.role }}
{{ first if loop.first }}{{ message.content | trim }}<end_of_turn>
{% endfor %}
{%- if add_generation_prompt %}<start_of_turn>model
{% endif %}"""
"""The system text stands in the first user turn."""

PHI3 = """
{%- for message in messages %}<|{{ message.role }}|>
{{ message.content }}<|end|>
{% endfor %}
{%- if add_generation_prompt %}<|assistant|>
{% else %}{{ eos_token }}{% endif %}"""
"""A tag for each role, and the end of everything at the end."""

OLMO2 = """{{ bos_token }}
{%- for message in messages %}
{%- if message.role == 'assistant' %}<|assistant|>
{{ message.content }}{{ eos_token if loop.last else '<|endoftext|>\\n' }}
{%- else %}<|{{ message.role }}|>
{{ message.content + '\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|assistant|>
{% endif %}"""
"""Only the assistant's turns are closed."""

ALL = {
    "Qwen2.5": QWEN25,
    "Qwen3": QWEN3,
    "DeepSeek-R1": DEEPSEEK_R1,
    "DeepSeek-V3.1": DEEPSEEK_V31,
    "GLM-4.5": GLM45,
    "gpt-oss": HARMONY,
    "Llama 3.1": LLAMA31,
    "Mistral": MISTRAL,
    "Magistral": MAGISTRAL,
    "Gemma 2": GEMMA2,
    "Gemma 3": GEMMA3,
    "Phi-3": PHI3,
    "OLMo 2": OLMO2,
}
