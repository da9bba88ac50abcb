"""A model that goes on with conversations: what it writes, and the stored rows of the finished conversation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mechprobe.activations.plan import RenderedConversation, selected_tokens
from mechprobe.activations.selection import TokenSelection
from mechprobe.activations.shard_capture import token_frame
from mechprobe.activations.writing import StoreWriter
from mechprobe.errors import ConfigError
from mechprobe.models.batches import TokenBatch
from mechprobe.models.subject import Subject
from mechprobe.models.written_acts import WrittenText, generation_suffix
from mechprobe.transcripts.jsonl import write_transcripts
from mechprobe.transcripts.readers.content import split_thinking
from mechprobe.transcripts.transcript import Message, Transcript, number_turns


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerationConfig:
    """How the model goes on."""

    max_new_tokens: int = 256
    """Tokens that it may write in each conversation."""
    temperature: float = 1.0
    """0 takes the most likely token."""
    seed: int = 0
    """Each conversation draws from this and its own number, whatever batch it is in."""
    batch_prompts: int = 16
    """Conversations that are written side by side."""
    shard_prompts: int = 64
    """Conversations of a shard: what is lost at most when a run is cut off."""

    def __post_init__(self) -> None:
        if min(self.max_new_tokens, self.batch_prompts, self.shard_prompts) < 1:
            raise ConfigError(
                f"max_new_tokens {self.max_new_tokens}, batch_prompts {self.batch_prompts} and shard_prompts "
                f"{self.shard_prompts} must be >= 1."
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class Author:
    """A model that goes on with conversations in one way; `Author.of` makes one."""

    subject: Subject
    config: GenerationConfig
    select: TokenSelection
    suffix: str
    """What the template puts before the assistant's words."""
    stop_ids: tuple[int, ...]
    """Tokens that end them."""

    @classmethod
    def of(cls, subject: Subject, config: GenerationConfig, select: TokenSelection) -> "Author":
        """Find out where the template lets the assistant begin and end.

        Raises:
            ModelError: it does not say where the assistant begins.
        """
        suffix = generation_suffix(subject.tokenizer, subject.chat_template)
        return cls(
            subject=subject,
            config=config,
            select=select,
            suffix=suffix,
            stop_ids=_stop_ids(subject),
        )

    def write_shard(
        self,
        prompts: Sequence[Transcript],
        first: int,
        index: int,
        writer: StoreWriter,
        part: Path,
    ) -> None:
        """Write the texts and activations of some conversations."""
        hook_names = list(writer.hooks)
        texts: list[Transcript] = []
        conversations: list[RenderedConversation] = []
        acts: list[dict[str, Tensor]] = []
        for start in range(0, len(prompts), self.config.batch_prompts):
            some = prompts[start : start + self.config.batch_prompts]
            ids = [self.prompt_ids(prompt) for prompt in some]
            written = self._written(ids, first + start, hook_names)
            for prompt, before, new in zip(some, ids, written, strict=True):
                text = self._finished(prompt, new)
                one, kept = self._rows(text, before, new, hook_names)
                texts.append(text)
                conversations.append(one)
                acts.append(kept)
        write_transcripts(part, texts)
        writer.write(
            index,
            {name: torch.cat([one[name] for one in acts]) for name in hook_names},
            token_frame(conversations, first),
            first_conversation=first,
            transcript_ids=[text.id for text in texts],
            n_dropped=sum(len(one.rendering.dropped) for one in conversations),
        )

    def prompt_ids(self, prompt: Transcript) -> list[int]:
        """The conversation up to where the assistant begins."""
        text = self.subject.render(prompt).text + self.suffix
        return self.subject.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _written(
        self, prompts: Sequence[list[int]], first: int, hook_names: Sequence[str]
    ) -> list[WrittenText]:
        seeds = [
            int(np.random.SeedSequence([self.config.seed, first + n]).generate_state(1)[0])
            for n in range(len(prompts))
        ]
        return self.subject.generate_with_acts(
            prompts,
            hook_names,
            max_new_tokens=self.config.max_new_tokens,
            temperature=self.config.temperature,
            seed=seeds,
            stop_token_ids=self.stop_ids,
        )

    def _finished(self, prompt: Transcript, written: WrittenText) -> Transcript:
        """The conversation with what was written, thought and answer apart."""
        ids = written.new_ids
        ids = ids[:-1] if ids and ids[-1] in self.stop_ids else ids
        text = self.subject.tokenizer.decode(ids, skip_special_tokens=False)
        # Some templates open the thought themselves.
        opened = "<think>" if self.suffix.rstrip().endswith("<think>") else ""
        parted = split_thinking(opened + text)
        message = Message(
            role="assistant",
            content=parted.text,
            reasoning=parted.reasoning,
            # An answer belongs to the turn of the user's message.
            turn=prompt.messages[-1].turn,
        )
        return Transcript(id=prompt.id, messages=(*prompt.messages, message), meta=prompt.meta)

    def _rows(
        self,
        text: Transcript,
        before: list[int],
        written: WrittenText,
        hook_names: Sequence[str],
    ) -> tuple[RenderedConversation, dict[str, Tensor]]:
        """The finished conversation's stored rows: those of the pass, if it has the same tokens up to the last of them."""
        rendering = self.subject.render(text)
        keep = selected_tokens(rendering, self.select)
        one = RenderedConversation(rendering=rendering, keep=keep)
        n_needed = int(np.flatnonzero(keep)[-1]) + 1 if keep.any() else 0
        same = [*before, *written.new_ids][:n_needed] == rendering.token_ids[:n_needed].tolist()
        if same:
            acts = {name: written.acts[name][:n_needed] for name in hook_names}
        else:
            batch = TokenBatch.of([rendering.token_ids.tolist()], self.subject.pad_id)
            acts = {n: a[0] for n, a in self.subject.capture(batch, hook_names).items()}
        mask = torch.from_numpy(keep)
        return one, {name: found.cpu()[mask[: len(found)]] for name, found in acts.items()}


def _stop_ids(subject: Subject) -> tuple[int, ...]:
    """The tokenizer's end, the model's, and the special token with which the template closes an answer."""
    configured = getattr(subject.bridge.original_model, "generation_config", None)
    ends = getattr(configured, "eos_token_id", None)
    found = {subject.tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])}
    messages = [Message(role="user", content="why"), Message(role="assistant", content="so")]
    rendering = subject.render(Transcript(id="probe", messages=number_turns(messages)))
    answer = np.flatnonzero((rendering.message == 1) & (rendering.char_end > 0))
    after = rendering.token_ids[answer[-1] + 1 :][:1].tolist() if len(answer) else []
    found |= set(after) & set(subject.tokenizer.added_tokens_decoder)
    return tuple(sorted(int(one) for one in found if one is not None))
