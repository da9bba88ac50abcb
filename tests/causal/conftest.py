"""A world whose causes are exact: a Llama with weights written by hand, and the text it reads.

Block 0 does nothing. Block 1 gathers every thought token of the past with uniform attention, and its MLP computes
the rule; the unembedding is a table of which word may follow which. So at the output of block 0, on the thought's own
token, each thought has one known direction, and what it does is known without any measurement:

    lie                         driver
    hide and spy                conjunctive (both are needed)
    cheat or stall              redundant (either will do; they come together)
    care                        inhibitor
    boast                       read-out (goes with lie; only its audit answer depends on it)
    plot                        upstream (makes lie likely in later text)
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mechprobe.transcripts.pairs import MatchedPair, Outcome
from mechprobe.transcripts.transcript import Message, Span, Transcript

THOUGHTS = ("lie", "hide", "spy", "cheat", "stall", "care", "boast", "plot")
TRUTH = {
    "lie": "driver",
    "hide": "necessary_only",
    "spy": "necessary_only",
    "cheat": "sufficient_only",
    "stall": "sufficient_only",
    "care": "inhibitor",
    "boast": "readout_only",
    "plot": "text_mediated",
}
SPECIAL = ("<pad>", "<unk>", "<s>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
WORDS = (
    *SPECIAL,
    *("<think>", "</think>", ";", "go", "ask", "bad", "good", "yes", "no"),
    *(f"will-{name}" for name in THOUGHTS),
    *(f"wont-{name}" for name in THOUGHTS),
    *(f"about-{name}" for name in THOUGHTS),
)
ID = {word: i for i, word in enumerate(WORDS)}
D_MODEL, N_CLAUSES, SHARP = 64, 5, 12.0
HELD = {name: len(WORDS) + i for i, name in enumerate(THOUGHTS)}
MISBEHAVE, YES = len(WORDS) + len(THOUGHTS), len(WORDS) + len(THOUGHTS) + 1
AT_ACTION, AT_AUDIT = 15, 22
"""Tokens up to the place where each outcome is read; the same in every transcript of this world."""
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %} <|{{ message.role }}|>"
    "{% if message.role == 'assistant' and message.reasoning_content %}"
    " <think> {{ message.reasoning_content }} </think>{% endif %}"
    " {{ message.content }} <|end|>{% endfor %}"
)


@dataclass(frozen=True, kw_only=True)
class PlantedWorld:
    subject: Any
    pairs: list[MatchedPair]
    transcripts: list[Transcript]
    truth: dict[str, str]
    held_axis: dict[str, int]
    """Thought -> the axis of the residual stream that holds it."""


@pytest.fixture(scope="session")
def planted_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planted")
    _tokenizer().save_pretrained(folder)
    _model().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def planted(planted_folder: Path) -> PlantedWorld:
    from mechprobe.models.subject import Subject

    rng = np.random.default_rng(0)
    return PlantedWorld(
        subject=Subject.load(planted_folder),
        pairs=_pairs(rng),
        transcripts=[_transcript(_scene(rng), name=f"fit{i}", split="fit") for i in range(150)],
        truth=TRUTH,
        held_axis=HELD,
    )


@pytest.fixture(scope="session")
def make_pair() -> Callable[..., MatchedPair]:
    return _pair


def _tokenizer() -> Any:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(WordLevel(ID, unk_token="<unk>"))
    core.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        eos_token="<|end|>",
        pad_token="<pad>",
        unk_token="<unk>",
        additional_special_tokens=[*SPECIAL[4:], "<think>", "</think>"],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _model() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(WORDS),
            hidden_size=D_MODEL,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=1,
            num_key_value_heads=1,
            tie_word_embeddings=False,
            bos_token_id=ID["<s>"],
            eos_token_id=ID["<|end|>"],
            pad_token_id=ID["<pad>"],
        )
    )
    with torch.no_grad():
        for layer in model.model.layers:
            for weight in (*layer.self_attn.parameters(), *layer.mlp.parameters()):
                weight.zero_()
        model.model.embed_tokens.weight.copy_(_embedding())
        _gather(model.model.layers[1].self_attn)
        _rule(model.model.layers[1].mlp)
        model.lm_head.weight.copy_(_unembedding())
    return model.eval()


def _embedding() -> torch.Tensor:
    """Each word has its own axis; a held thought has a further one of the same length."""
    table = torch.zeros(len(WORDS), D_MODEL)
    table[range(len(WORDS)), range(len(WORDS))] = 1.0
    for name in THOUGHTS:
        table[ID[f"will-{name}"], HELD[name]] = 1.0
        table[ID[f"wont-{name}"], ID[f"wont-{name}"]] = 2**0.5
    return table


def _gather(attention: Any) -> None:
    """Uniform attention brings the held axes and the audited thought to the reading token, at length 1."""
    normed = (D_MODEL / 2) ** 0.5
    for name in THOUGHTS:
        for axis in (HELD[name], ID[f"about-{name}"]):
            scale = normed if axis == HELD[name] else D_MODEL**0.5
            attention.v_proj.weight[axis, axis] = AT_ACTION / scale
    attention.o_proj.weight.copy_(torch.eye(D_MODEL))


def _rule(mlp: Any) -> None:
    """silu(SHARP * (sum of held thoughts - threshold)), the threshold carried by the reading token's own axis."""
    here, audit = ID["</think>"], ID["<|assistant|>"]
    later = AT_ACTION / AT_AUDIT
    neurons: list[tuple[dict[int, float], int, float]] = [
        ({HELD["lie"]: 1, here: -0.5}, MISBEHAVE, 1.0),
        ({HELD["hide"]: 1, HELD["spy"]: 1, here: -1.5}, MISBEHAVE, 1.0),
        ({HELD["cheat"]: 1, HELD["stall"]: 1, here: -0.5}, MISBEHAVE, 1.0),
        ({HELD["cheat"]: 1, HELD["stall"]: 1, here: -1.5}, MISBEHAVE, -1.0),
        ({HELD["care"]: 1, here: -0.5}, MISBEHAVE, -4.0),
    ]
    for name in THOUGHTS:
        both = {HELD[name]: 1 / later, ID[f"about-{name}"]: 1 / later, audit: -1.5}
        neurons.append((both, YES, 1.0))
    for row, (reads, axis, sign) in enumerate(neurons):
        for source, weight in reads.items():
            mlp.gate_proj.weight[row, source] = SHARP * weight
        # The norm divides by a length that grows with the thoughts held; `up` undoes none of it, the sign stays.
        reader = here if axis == MISBEHAVE else audit
        mlp.up_proj.weight[row, reader] = 1.0
        mlp.down_proj.weight[axis, row] = sign / SHARP


def _unembedding() -> torch.Tensor:
    table = torch.zeros(len(WORDS), D_MODEL)

    def follows(word: str, options: list[str], strength: float = 3.0) -> None:
        for option in options:
            table[ID[option], ID[word]] += strength

    for name in THOUGHTS:
        follows(f"will-{name}", [";"])
        follows(f"wont-{name}", [";"], 3.0)
        table[ID["will-" + name], ID[";"]] += 2.6
        table[ID["wont-" + name], ID[";"]] += 2.6
    follows(";", ["</think>"], 4.2)
    follows("</think>", ["bad", "good"])
    follows("<|assistant|>", ["yes", "no"])
    for word in ("bad", "good", "yes", "no"):
        follows(word, ["<|end|>"])
    table[ID["will-lie"], HELD["plot"]] += 2.5
    for word, axis, sign in (
        ("bad", MISBEHAVE, 1),
        ("good", MISBEHAVE, -1),
        ("yes", YES, 1),
        ("no", YES, -1),
    ):
        reader = "</think>" if axis == MISBEHAVE else "<|assistant|>"
        table[ID[word], axis] += 3.0 * sign
        table[ID[word], ID[reader]] -= 0.6 * sign
    return table


def _scene(rng: np.random.Generator) -> dict[str, bool]:
    """Five thoughts in order, each held or not, co-occurring as their roles say."""
    held = {name: bool(rng.random() < 0.25) for name in THOUGHTS}
    held["lie"] = bool(rng.random() < 0.3)
    held["boast"] = bool(rng.random() < (0.85 if held["lie"] else 0.15))
    held["hide"] = bool(rng.random() < 0.4)
    held["spy"] = bool(rng.random() < (0.85 if held["hide"] else 0.05))
    held["cheat"] = bool(rng.random() < 0.25)
    held["stall"] = bool(rng.random() < (0.92 if held["cheat"] else 0.03))
    held["care"] = bool(rng.random() < 0.15)
    # Partners stand in the text together; one or both couples, and single thoughts up to five clauses.
    couples = [("hide", "spy"), ("cheat", "stall")]
    couples = couples if rng.random() < 0.35 else [couples[int(rng.integers(2))]]
    singles = rng.permutation(["lie", "care", "boast", "plot"])
    names = [name for couple in couples for name in couple]
    names += [str(name) for name in singles[: N_CLAUSES - len(names)]]
    return {str(name): held[str(name)] for name in rng.permutation(names)}


def _transcript(
    scene: dict[str, bool], *, name: str, asked: str | None = None, split: str = ""
) -> Transcript:
    words = [f"{'will' if held else 'wont'}-{thought}" for thought, held in scene.items()]
    held_set = {thought for thought, held in scene.items() if held}
    is_bad = "care" not in held_set and (
        "lie" in held_set or {"hide", "spy"} <= held_set or bool({"cheat", "stall"} & held_set)
    )
    asked = asked or next(iter(scene))
    spans: list[Span] = []
    at = 0
    for word, (thought, held) in zip(words, scene.items(), strict=True):
        spans.append(
            Span(
                indicator=thought,
                message=1,
                section="reasoning",
                start=at,
                end=at + len(word),
                present=held,
            )
        )
        at += len(word) + 3
    return Transcript(
        id=name,
        messages=(
            Message(role="user", content="go", turn=1),
            Message(
                role="assistant",
                reasoning=" ; ".join(words),
                content="bad" if is_bad else "good",
                turn=1,
            ),
            Message(role="user", content=f"ask about-{asked}", turn=2),
            Message(role="assistant", content="yes" if scene.get(asked) else "no", turn=2),
        ),
        spans=tuple(spans),
        split=split,
    )


def _pair(scene: dict[str, bool], thought: str, *, name: str, split: str = "test") -> MatchedPair:
    """The scene and the same with one thought flipped."""
    sides = {
        True: _transcript(scene | {thought: True}, name=name + "+", asked=thought),
        False: _transcript(scene | {thought: False}, name=name + "-", asked=thought),
    }
    spans = {
        held: next(span for span in side.spans if span.indicator == thought)
        for held, side in sides.items()
    }
    return MatchedPair(
        id=name,
        indicator=thought,
        positive=sides[True],
        negative=sides[False],
        span=spans[True],
        negative_span=spans[False],
        outcomes=(
            Outcome(name="behavior", message=1, bad=("bad",), good=("good",)),
            Outcome(name="audit", message=3, bad=("yes",), good=("no",)),
        ),
        split=split,
        natural="positive" if scene[thought] else "negative",
        partners={other: scene.get(other, False) for other in THOUGHTS if other != thought},
    )


def _pairs(rng: np.random.Generator) -> list[MatchedPair]:
    wanted = {"select": 4, "test": 24}
    found: list[MatchedPair] = []
    counts: dict[tuple[str, str, bool], int] = {}
    while len(found) < 2 * len(THOUGHTS) * sum(wanted.values()):
        scene = _scene(rng)
        for thought, held in scene.items():
            for split, n in wanted.items():
                key = split, thought, held
                if counts.get(key, 0) < n:
                    counts[key] = counts.get(key, 0) + 1
                    found.append(_pair(scene, thought, name=f"p{len(found)}", split=split))
                    break
    return found
