"""Chat templates in the manner of well-known families, written anew and short."""

CHATML = """
{%- if messages[0].role != 'system' %}<|im_start|>system
You help.<|im_end|>
{% endif %}
{%- for message in messages %}
{%- if message.role == 'tool' %}<|im_start|>user
<tool_response>
{{ message.content }}
</tool_response><|im_end|>
{% else %}<|im_start|>{{ message.role }}
{{ message.content }}
{%- for call in message.tool_calls or [] %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}<|im_end|>
{% endif %}
{%- endfor %}"""
"""ChatML with a system turn of its own, and tool calls as JSON; it knows no reasoning."""

QWEN3 = """
{%- set ns = namespace(last=-1) %}
{%- for message in messages %}
{%- if message.role == 'user' and not message.content.startswith('<tool_response>') %}
{%- set ns.last = loop.index0 %}
{%- endif %}
{%- endfor %}
{%- for message in messages %}
{%- if message.role == 'tool' %}<|im_start|>user
<tool_response>
{{ message.content }}
</tool_response><|im_end|>
{% else %}<|im_start|>{{ message.role }}
{% if message.reasoning_content and loop.index0 > ns.last %}<think>
{{ message.reasoning_content.strip('\\n') }}
</think>

{{ message.content.lstrip('\\n') }}{% else %}{{ message.content }}{% endif %}
{%- for call in message.tool_calls or [] %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}<|im_end|>
{% endif %}
{%- endfor %}"""
"""Reasoning is kept in the turn after the last user message only."""

LLAMA3 = """{{ bos_token }}
{%- if messages[0].role != 'system' %}<|start_header_id|>system<|end_header_id|>

Today is Friday.<|eot_id|>{% endif %}
{%- for message in messages %}<|start_header_id|>{{ message.role }}<|end_header_id|>

{{ message.content | trim }}<|eot_id|>
{%- endfor %}"""
"""Every text is trimmed; there is no notion of reasoning or tools."""

GEMMA = """{{ bos_token }}
{%- set system = messages[0].content + '\\n\\n' if messages[0].role == 'system' else '' %}
{%- set rest = messages[1:] if system else messages %}
{%- for message in rest %}
{%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception('roles must alternate') }}
{%- endif %}<start_of_turn>{{ 'model' if message.role == 'assistant' else message.role }}
{{ (system if loop.first else '') + message.content | trim }}<end_of_turn>
{% endfor %}"""
"""The system text stands in the first user turn; the assistant is called model."""

DEEPSEEK = """{{ bos_token }}
{%- for message in messages %}
{%- if message.role == 'system' %}{{ message.content }}
{%- elif message.role == 'user' %}<|User|>{{ message.content }}
{%- elif message.role == 'tool' %}<|tool output begin|>{{ message.content }}<|tool output end|>
{%- else %}<|Assistant|>{{ message.content.split('</think>')[-1] }}
{%- for call in message.tool_calls or [] %}<|tool call begin|>{{ call.function.name + '\\n' + call.function.arguments }}<|tool call end|>
{%- endfor %}<|end of sentence|>
{%- endif %}
{%- endfor %}"""
"""Thinking inside the content is always cut off; arguments are joined as text."""

GLM4 = """[gMASK]<sop>
{%- set ns = namespace(last=-1) %}
{%- for message in messages %}{% if message.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}
{%- for message in messages %}
{%- if message.role == 'tool' %}<|observation|>
<tool_response>
{{ message.content }}
</tool_response>
{%- elif message.role == 'assistant' %}<|assistant|>
{% if message.reasoning_content and loop.index0 > ns.last %}<think>{{ message.reasoning_content.strip() }}</think>{% else %}<think></think>{% endif %}
{%- if message.content.strip() %}{{ '\\n' + message.content.strip() }}{% endif %}
{%- for call in message.tool_calls or [] %}
<tool_call>{{ call.function.name }}
{% for key, value in call.function.arguments.items() %}<arg_key>{{ key }}</arg_key>
<arg_value>{{ value if value is string else value | tojson }}</arg_value>
{% endfor %}</tool_call>
{%- endfor %}
{%- else %}<|{{ message.role }}|>
{{ message.content }}
{%- endif %}
{%- endfor %}"""
"""No token closes a turn; arguments are walked through one by one."""

ALL = {
    "chatml": CHATML,
    "qwen3": QWEN3,
    "llama3": LLAMA3,
    "gemma": GEMMA,
    "deepseek": DEEPSEEK,
    "glm4": GLM4,
}
