"""How the templates of `family_templates.py` write a conversation with reasoning, stretch by stretch, made by hand.

The notation is that of `segments.py`; DeepSeek's bars are written as plain ones.
"""

from mechprobe.transcripts.transcript import Message, Transcript, number_turns

TALK = Transcript(
    id="talk",
    messages=number_turns(
        [
            Message(role="system", content="be good"),
            Message(role="user", content="hide it"),
            Message(role="assistant", reasoning="plan one", content="done"),
            Message(role="user", content="why"),
            Message(role="assistant", reasoning="plan two", content="so"),
        ]
    ),
)
WITHOUT_SYSTEM = Transcript(id="without system", messages=TALK.messages[1:])

DROPPED = {
    "Qwen3": "2r",
    "DeepSeek-R1": "2r 4r",
    "DeepSeek-V3.1": "2r 4r",
    "GLM-4.5": "2r",
    "gpt-oss": "2r",
}
"""Reasoning of TALK that the template leaves out; nothing where a family is not named."""

OF_TALK = {
    "Qwen2.5": """
0h <|im_start|>system⏎
0a be good
0s <|im_end|>⏎
1h <|im_start|>user⏎
1a hide it
1s <|im_end|>⏎
2h <|im_start|>assistant⏎
2s <think>⏎
2r plan one
2s ⏎</think>⏎⏎
2a done
2s <|im_end|>⏎
3h <|im_start|>user⏎
3a why
3s <|im_end|>⏎
4h <|im_start|>assistant⏎
4s <think>⏎
4r plan two
4s ⏎</think>⏎⏎
4a so
4s <|im_end|>⏎
""",
    "Qwen3": """
0h <|im_start|>system⏎
0a be good
0s <|im_end|>⏎
1h <|im_start|>user⏎
1a hide it
1s <|im_end|>⏎
2h <|im_start|>assistant⏎
2a done
2s <|im_end|>⏎
3h <|im_start|>user⏎
3a why
3s <|im_end|>⏎
4h <|im_start|>assistant⏎
4s <think>⏎
4r plan two
4s ⏎</think>⏎⏎
4a so
4s <|im_end|>⏎
""",
    "DeepSeek-R1": """
-s <s>
0a be good
1h <|User|>
1a hide it
2h <|Assistant|>
2a done
2s <|end▁of▁sentence|>
3h <|User|>
3a why
4h <|Assistant|>
4a so
4s <|end▁of▁sentence|>
""",
    "DeepSeek-V3.1": """
-s <s>
0a be good
1h <|User|>
1a hide it
2h <|Assistant|>
2s </think>
2a done
2s <|end▁of▁sentence|>
3h <|User|>
3a why
4h <|Assistant|>
4s </think>
4a so
4s <|end▁of▁sentence|>
""",
    "GLM-4.5": """
-s [gMASK]<sop>
0h <|system|>⏎
0a be good
1h <|user|>⏎
1a hide it
2h <|assistant|>⏎
2s <think></think>⏎
2a done
3h <|user|>⏎
3a why
4h <|assistant|>⏎
4s <think>
4r plan two
4s </think>⏎
4a so
""",
    "gpt-oss": """
-s <|start|>system<|message|>You are a model. Reasoning: medium⏎⏎# Valid channels: analysis, commentary, final.<|end|>
0h <|start|>developer<|message|>
0s # Instructions⏎⏎
0a be good
0s <|end|>
1h <|start|>user<|message|>
1a hide it
1s <|end|>
2h <|start|>assistant<|channel|>final<|message|>
2a done
2s <|end|>
3h <|start|>user<|message|>
3a why
3s <|end|>
4h <|start|>assistant<|channel|>analysis<|message|>
4r plan two
4s <|end|><|start|>assistant<|channel|>final<|message|>
4a so
4s <|return|>
""",
    "Llama 3.1": """
-s <s>
0h <|start_header_id|>system<|end_header_id|>⏎⏎
0s Knowledge date: December⏎Today is Friday.⏎⏎
0a be good
0s <|eot_id|>
1h <|start_header_id|>user<|end_header_id|>⏎⏎
1a hide it
1s <|eot_id|>
2h <|start_header_id|>assistant<|end_header_id|>⏎⏎
2s <think>⏎
2r plan one
2s ⏎</think>⏎⏎
2a done
2s <|eot_id|>
3h <|start_header_id|>user<|end_header_id|>⏎⏎
3a why
3s <|eot_id|>
4h <|start_header_id|>assistant<|end_header_id|>⏎⏎
4s <think>⏎
4r plan two
4s ⏎</think>⏎⏎
4a so
4s <|eot_id|>
""",
    "Mistral": """
-s <s>
0h [SYSTEM_PROMPT]
0a be good
0s [/SYSTEM_PROMPT]
1h [INST]
1a hide it
1s [/INST]
2s <think>⏎
2r plan one
2s ⏎</think>⏎⏎
2a done
2s </s>
3h [INST]
3a why
3s [/INST]
4s <think>⏎
4r plan two
4s ⏎</think>⏎⏎
4a so
4s </s>
""",
    "Magistral": """
-s <s>
0h [SYSTEM_PROMPT]
0a be good
0s [/SYSTEM_PROMPT]
1h [INST]
1a hide it
1s [/INST]
2s [THINK]
2r plan one
2s [/THINK]
2a done
2s </s>
3h [INST]
3a why
3s [/INST]
4s [THINK]
4r plan two
4s [/THINK]
4a so
4s </s>
""",
    "Gemma 3": """
-s <s>
0h <start_of_turn>user⏎
0a be good
0s ⏎⏎
1a hide it
1s <end_of_turn>⏎
2h <start_of_turn>model⏎
2s <think>⏎
2r plan one
2s ⏎</think>⏎⏎
2a done
2s <end_of_turn>⏎
3h <start_of_turn>user⏎
3a why
3s <end_of_turn>⏎
4h <start_of_turn>model⏎
4s <think>⏎
4r plan two
4s ⏎</think>⏎⏎
4a so
4s <end_of_turn>⏎
""",
    "Phi-3": """
0h <|system|>⏎
0a be good
0s <|end|>⏎
1h <|user|>⏎
1a hide it
1s <|end|>⏎
2h <|assistant|>⏎
2s <think>⏎
2r plan one
2s ⏎</think>⏎⏎
2a done
2s <|end|>⏎
3h <|user|>⏎
3a why
3s <|end|>⏎
4h <|assistant|>⏎
4s <think>⏎
4r plan two
4s ⏎</think>⏎⏎
4a so
4s <|end|>⏎</s>
""",
    "OLMo 2": """
-s <s>
0h <|system|>⏎
0a be good
0s ⏎
1h <|user|>⏎
1a hide it
1s ⏎
2h <|assistant|>⏎
2s <think>⏎
2r plan one
2s ⏎</think>⏎⏎
2a done
2s <|endoftext|>⏎
3h <|user|>⏎
3a why
3s ⏎
4h <|assistant|>⏎
4s <think>⏎
4r plan two
4s ⏎</think>⏎⏎
4a so
4s </s>
""",
}

OF_WITHOUT_SYSTEM = {
    "Qwen2.5": """
-s <|im_start|>system⏎You help the user.<|im_end|>⏎
0h <|im_start|>user⏎
0a hide it
0s <|im_end|>⏎
1h <|im_start|>assistant⏎
1s <think>⏎
1r plan one
1s ⏎</think>⏎⏎
1a done
1s <|im_end|>⏎
2h <|im_start|>user⏎
2a why
2s <|im_end|>⏎
3h <|im_start|>assistant⏎
3s <think>⏎
3r plan two
3s ⏎</think>⏎⏎
3a so
3s <|im_end|>⏎
""",
    "Llama 3.1": """
-s <s><|start_header_id|>system<|end_header_id|>⏎⏎Knowledge date: December⏎Today is Friday.⏎⏎<|eot_id|>
0h <|start_header_id|>user<|end_header_id|>⏎⏎
0a hide it
0s <|eot_id|>
1h <|start_header_id|>assistant<|end_header_id|>⏎⏎
1s <think>⏎
1r plan one
1s ⏎</think>⏎⏎
1a done
1s <|eot_id|>
2h <|start_header_id|>user<|end_header_id|>⏎⏎
2a why
2s <|eot_id|>
3h <|start_header_id|>assistant<|end_header_id|>⏎⏎
3s <think>⏎
3r plan two
3s ⏎</think>⏎⏎
3a so
3s <|eot_id|>
""",
    "gpt-oss": """
-s <|start|>system<|message|>You are a model. Reasoning: medium⏎⏎# Valid channels: analysis, commentary, final.<|end|>
0h <|start|>user<|message|>
0a hide it
0s <|end|>
1h <|start|>assistant<|channel|>final<|message|>
1a done
1s <|end|>
2h <|start|>user<|message|>
2a why
2s <|end|>
3h <|start|>assistant<|channel|>analysis<|message|>
3r plan two
3s <|end|><|start|>assistant<|channel|>final<|message|>
3a so
3s <|return|>
""",
    "Gemma 2": """
-s <s>
0h <start_of_turn>user⏎
0a hide it
0s <end_of_turn>⏎
1h <start_of_turn>model⏎
1s <think>⏎
1r plan one
1s ⏎</think>⏎⏎
1a done
1s <end_of_turn>⏎
2h <start_of_turn>user⏎
2a why
2s <end_of_turn>⏎
3h <start_of_turn>model⏎
3s <think>⏎
3r plan two
3s ⏎</think>⏎⏎
3a so
3s <end_of_turn>⏎
""",
}
"""System turns of the template's own belong to no message."""
