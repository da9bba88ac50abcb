"""How the templates of `family_templates.py` write tool calls and their answers, made by hand (see `expected_talks.py`)."""

from mechprobe.transcripts.transcript import Message, ToolCall, Transcript, number_turns

SEND = ToolCall(name="send", arguments='{"to": "bob"}', id="c1")
STOP = ToolCall(name="stop", arguments="{}", id="c2")
ONE_CALL = Transcript(
    id="one call",
    messages=number_turns(
        [
            Message(role="user", content="go"),
            Message(role="assistant", reasoning="plan", content="now", tool_calls=(SEND,)),
            Message(role="tool", content='sent "ok"', tool_call_id="c1"),
            Message(role="assistant", reasoning="check", content="done"),
        ]
    ),
)
TWO_CALLS = Transcript(
    id="two calls",
    messages=number_turns(
        [
            Message(role="user", content="go"),
            Message(role="assistant", reasoning="plan", tool_calls=(SEND, STOP)),
            Message(role="tool", content="sent", tool_call_id="c1"),
            Message(role="tool", content="off", tool_call_id="c2"),
            Message(role="assistant", content="done"),
        ]
    ),
)

DROPPED_OF_ONE_CALL = {
    "DeepSeek-R1": "1r",
    "DeepSeek-V3.1": "1r",
    "gpt-oss": "1r 1a",
    "Llama 3.1": "1r 1a",
}
"""gpt-oss refuses content beside reasoning and a call, so the content is left out; Llama shows the call alone."""
DROPPED_OF_TWO_CALLS = {"DeepSeek-V3.1": "1r", "gpt-oss": "1r 1t"}
"""gpt-oss shows one call of each message."""

OF_ONE_CALL = {
    "Qwen2.5": """
-s <|im_start|>system⏎You help the user.<|im_end|>⏎
0h <|im_start|>user⏎
0a go
0s <|im_end|>⏎
1h <|im_start|>assistant⏎
1s <think>⏎
1r plan
1s ⏎</think>⏎⏎
1a now
1s ⏎<tool_call>⏎{"name": "
1t send", "arguments": {"to": "bob"}
1s }⏎</tool_call><|im_end|>⏎
2h <|im_start|>user⏎
2s <tool_response>⏎
2a sent "ok"
2s ⏎</tool_response><|im_end|>⏎
3h <|im_start|>assistant⏎
3s <think>⏎
3r check
3s ⏎</think>⏎⏎
3a done
3s <|im_end|>⏎
""",
    "Qwen3": """
0h <|im_start|>user⏎
0a go
0s <|im_end|>⏎
1h <|im_start|>assistant⏎
1s <think>⏎
1r plan
1s ⏎</think>⏎⏎
1a now
1s ⏎<tool_call>⏎{"name": "
1t send", "arguments": {"to": "bob"}
1s }⏎</tool_call><|im_end|>⏎
2h <|im_start|>user⏎
2s <tool_response>⏎
2a sent "ok"
2s ⏎</tool_response><|im_end|>⏎
3h <|im_start|>assistant⏎
3s <think>⏎
3r check
3s ⏎</think>⏎⏎
3a done
3s <|im_end|>⏎
""",
    "DeepSeek-R1": """
-s <s>
0h <|User|>
0a go
1h <|Assistant|>
1a now
1s <|tool▁calls▁begin|><|tool▁call▁begin|>function<|tool▁sep|>
1t send⏎```json⏎{"to": "bob"}
1s ⏎```<|tool▁call▁end|><|tool▁calls▁end|><|end▁of▁sentence|><|tool▁outputs▁begin|>
2h <|tool▁output▁begin|>
2a sent "ok"
2s <|tool▁output▁end|><|tool▁outputs▁end|>
3s <think>⏎
3r check
3s ⏎</think>⏎⏎
3a done
3s <|end▁of▁sentence|>
""",
    "DeepSeek-V3.1": """
-s <s>
0h <|User|>
0a go
1h <|Assistant|>
1s </think>
1a now
1s <|tool▁calls▁begin|><|tool▁call▁begin|>
1t send<|tool▁sep|>{"to": "bob"}
1s <|tool▁call▁end|><|tool▁calls▁end|><|end▁of▁sentence|>
2h <|tool▁output▁begin|>
2a sent "ok"
2s <|tool▁output▁end|>
3s <think>⏎
3r check
3s ⏎</think>⏎⏎
3a done
3s <|end▁of▁sentence|>
""",
    "GLM-4.5": """
-s [gMASK]<sop>
0h <|user|>⏎
0a go
1h <|assistant|>⏎
1s <think>
1r plan
1s </think>⏎
1a now
1s ⏎<tool_call>
1t send⏎<arg_key>to</arg_key>⏎<arg_value>bob
1s </arg_value>⏎</tool_call>
2h <|observation|>⏎
2s <tool_response>⏎
2a sent "ok"
2s ⏎</tool_response>
3h <|assistant|>⏎
3s <think>
3r check
3s </think>⏎
3a done
""",
    "gpt-oss": """
-s <|start|>system<|message|>You are a model. Reasoning: medium⏎⏎# Valid channels: analysis, commentary, final.<|end|>
0h <|start|>user<|message|>
0a go
0s <|end|>
1h <|start|>assistant to=functions.
1t send<|channel|>commentary json<|message|>{"to": "bob"}
1s <|call|>
2h <|start|>functions.send to=assistant<|channel|>commentary<|message|>
2s "
2a sent \\"ok\\"
2s "<|end|>
3h <|start|>assistant<|channel|>analysis<|message|>
3r check
3s <|end|><|start|>assistant<|channel|>final<|message|>
3a done
3s <|return|>
""",
    "Llama 3.1": """
-s <s><|start_header_id|>system<|end_header_id|>⏎⏎Knowledge date: December⏎Today is Friday.⏎⏎<|eot_id|>
0h <|start_header_id|>user<|end_header_id|>⏎⏎
0a go
0s <|eot_id|>
1h <|start_header_id|>assistant<|end_header_id|>⏎⏎
1s {"name": "
1t send", "parameters": {"to": "bob"}
1s }<|eot_id|>
2h <|start_header_id|>ipython<|end_header_id|>⏎⏎
2a sent "ok"
2s <|eot_id|>
3h <|start_header_id|>assistant<|end_header_id|>⏎⏎
3s <think>⏎
3r check
3s ⏎</think>⏎⏎
3a done
3s <|eot_id|>
""",
    "Mistral": """
-s <s>
0h [INST]
0a go
0s [/INST]
1s <think>⏎
1r plan
1s ⏎</think>⏎⏎
1a now
1s [TOOL_CALLS][{"name": "
1t send", "arguments": {"to": "bob"}
1s , "id": "000000000"}]</s>
2h [TOOL_RESULTS]
2a sent "ok"
2s [/TOOL_RESULTS]
3s <think>⏎
3r check
3s ⏎</think>⏎⏎
3a done
3s </s>
""",
    "Gemma 3": """
-s <s>
0h <start_of_turn>user⏎
0a go
0s <end_of_turn>⏎
1h <start_of_turn>model⏎
1s <think>⏎
1r plan
1s ⏎</think>⏎⏎
1a now
1s ⏎<tool_call>⏎
1t send: {"to": "bob"}
1s ⏎</tool_call><end_of_turn>⏎
2h <start_of_turn>user⏎
2s <tool_response>⏎
2a sent "ok"
2s ⏎</tool_response><end_of_turn>⏎
3h <start_of_turn>model⏎
3s <think>⏎
3r check
3s ⏎</think>⏎⏎
3a done
3s <end_of_turn>⏎
""",
    "OLMo 2": """
-s <s>
0h <|user|>⏎
0a go
0s ⏎
1h <|assistant|>⏎
1s <think>⏎
1r plan
1s ⏎</think>⏎⏎
1a now
1s ⏎<tool_call>⏎
1t send: {"to": "bob"}
1s ⏎</tool_call><|endoftext|>⏎
2h <|user|>⏎
2s <tool_response>⏎
2a sent "ok"
2s ⏎</tool_response>⏎
3h <|assistant|>⏎
3s <think>⏎
3r check
3s ⏎</think>⏎⏎
3a done
3s </s>
""",
    "Magistral": """
-s <s>
0h [INST]
0a go
0s [/INST]
1s [THINK]
1r plan
1s [/THINK]
1a now
1s ⏎<tool_call>⏎
1t send: {"to": "bob"}
1s ⏎</tool_call></s>[INST]
2s <tool_response>⏎
2a sent "ok"
2s ⏎</tool_response>[/INST]
3s [THINK]
3r check
3s [/THINK]
3a done
3s </s>
""",
    "Gemma 2": """
-s <s>
0h <start_of_turn>user⏎
0a go
0s <end_of_turn>⏎
1h <start_of_turn>model⏎
1s <think>⏎
1r plan
1s ⏎</think>⏎⏎
1a now
1s ⏎<tool_call>⏎
1t send: {"to": "bob"}
1s ⏎</tool_call><end_of_turn>⏎
2h <start_of_turn>user⏎
2s <tool_response>⏎
2a sent "ok"
2s ⏎</tool_response><end_of_turn>⏎
3h <start_of_turn>model⏎
3s <think>⏎
3r check
3s ⏎</think>⏎⏎
3a done
3s <end_of_turn>⏎
""",
    "Phi-3": """
0h <|user|>⏎
0a go
0s <|end|>⏎
1h <|assistant|>⏎
1s <think>⏎
1r plan
1s ⏎</think>⏎⏎
1a now
1s ⏎<tool_call>⏎
1t send: {"to": "bob"}
1s ⏎</tool_call><|end|>⏎
2h <|user|>⏎
2s <tool_response>⏎
2a sent "ok"
2s ⏎</tool_response><|end|>⏎
3h <|assistant|>⏎
3s <think>⏎
3r check
3s ⏎</think>⏎⏎
3a done
3s <|end|>⏎</s>
""",
}

OF_TWO_CALLS = {
    "Qwen3": """
0h <|im_start|>user⏎
0a go
0s <|im_end|>⏎
1h <|im_start|>assistant⏎
1s <think>⏎
1r plan
1s ⏎</think>⏎⏎<tool_call>⏎{"name": "
1t send", "arguments": {"to": "bob"}
1s }⏎</tool_call>⏎<tool_call>⏎{"name": "
1t stop
1s ", "arguments": {}}⏎</tool_call><|im_end|>⏎
2h <|im_start|>user⏎
2s <tool_response>⏎
2a sent
2s ⏎</tool_response>⏎
3s <tool_response>⏎
3a off
3s ⏎</tool_response><|im_end|>⏎
4h <|im_start|>assistant⏎
4s <think>⏎⏎</think>⏎⏎
4a done
4s <|im_end|>⏎
""",
    "DeepSeek-V3.1": """
-s <s>
0h <|User|>
0a go
1h <|Assistant|>
1s </think><|tool▁calls▁begin|><|tool▁call▁begin|>
1t send<|tool▁sep|>{"to": "bob"}
1s <|tool▁call▁end|><|tool▁call▁begin|>
1t stop<|tool▁sep|>{}
1s <|tool▁call▁end|><|tool▁calls▁end|><|end▁of▁sentence|>
2h <|tool▁output▁begin|>
2a sent
2s <|tool▁output▁end|>
3h <|tool▁output▁begin|>
3a off
3s <|tool▁output▁end|>
4a done
4s <|end▁of▁sentence|>
""",
    "GLM-4.5": """
-s [gMASK]<sop>
0h <|user|>⏎
0a go
1h <|assistant|>⏎
1s <think>
1r plan
1s </think>⏎<tool_call>
1t send⏎<arg_key>to</arg_key>⏎<arg_value>bob
1s </arg_value>⏎</tool_call>⏎<tool_call>
1t stop
1s ⏎</tool_call>
2h <|observation|>⏎
2s <tool_response>⏎
2a sent
2s ⏎</tool_response>⏎
3s <tool_response>⏎
3a off
3s ⏎</tool_response>
4h <|assistant|>⏎
4s <think></think>⏎
4a done
""",
    "gpt-oss": """
-s <|start|>system<|message|>You are a model. Reasoning: medium⏎⏎# Valid channels: analysis, commentary, final.<|end|>
0h <|start|>user<|message|>
0a go
0s <|end|>
1h <|start|>assistant to=functions.
1t send<|channel|>commentary json<|message|>{"to": "bob"}
1s <|call|>
2h <|start|>functions.send to=assistant<|channel|>commentary<|message|>
2s "
2a sent
2s "<|end|>
3h <|start|>functions.send to=assistant<|channel|>commentary<|message|>
3s "
3a off
3s "<|end|>
4h <|start|>assistant<|channel|>final<|message|>
4a done
4s <|return|>
""",
}
"""Answers of tools that follow each other share a turn in some families."""
