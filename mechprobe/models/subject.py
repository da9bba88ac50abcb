"""The model under study: run it, capture its activations, edit them, let it write."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.errors import HookError, ModelError, ShapeError
from mechprobe.models.batches import TokenBatch
from mechprobe.models.clean_start import aligned_width
from mechprobe.models.fused import FusedModel, fused_model
from mechprobe.models.generation import continue_batch, uniform_draws
from mechprobe.models.hook_names import HookTable, read_hook_points
from mechprobe.models.hooks import (
    AllCapturedError,
    Edit,
    applied_edits,
    captured_acts,
)
from mechprobe.models.limits import max_positions, rotary_switch
from mechprobe.models.loading import Device, Loading, digest_model, load_model, load_tokenizer
from mechprobe.models.parity import Parity, compare
from mechprobe.models.passes import Passes, pick_columns
from mechprobe.models.prefix import PrefixSharing
from mechprobe.models.rendering import Rendering, render
from mechprobe.models.templates import read_chat_template
from mechprobe.models.written_acts import WrittenText, write_with_acts
from mechprobe.transcripts.transcript import Transcript


class Subject:
    """A loaded model with checked hook points; `Subject.load` makes one.

    All edits go through `editing`, `run`, `capture` or `generate`, which put the model back as it was even after an
    error. Activations have one row for each position of the batch, padding included.
    """

    def __init__(
        self,
        *,
        name: str,
        bridge: Any,
        tokenizer: Any,
        hooks: HookTable,
        parity: Parity,
        is_causal: bool,
        loading: Loading,
        chat_template: str | None,
        window: int | None,
        twin: Any | None = None,
    ) -> None:
        self.name = name
        self.tokenizer = tokenizer
        self.hooks = hooks
        self.parity = parity
        self.is_causal = is_causal
        self.chat_template = chat_template
        self.window = window
        self.n_layers = int(bridge.cfg.n_layers)
        self.d_model = int(bridge.cfg.d_model)
        self.d_vocab = int(bridge.cfg.d_vocab)
        self.bridge = bridge
        self.loading = loading
        self._twin = twin
        self._passes = Passes(bridge, is_causal=is_causal)
        self._sharing = PrefixSharing(self._passes, hooks, d_vocab=self.d_vocab, pad_id=self.pad_id)

    @staticmethod
    def load(
        model: str | Path,
        *,
        device: Device = "cpu",
        dtype: str = "float32",
        chat_template: str | None = None,
        window: int | None = None,
        revision: str | None = None,
    ) -> "Subject":
        """Load a model from a local folder or by hub name, and check the bridge against the plain model.

        Args:
            device: "cpu", "cuda", "cuda:1"; for a model larger than one GPU "auto", or a device map of accelerate.
            dtype: "float32", "bfloat16" or "float16".
            chat_template: None for the tokenizer's own, "plain", or the path of a Jinja file.
            window: tokens that the model reads at once; longer conversations are read in consecutive windows.

        Raises:
            ModelError: missing folder, no tokenizer, unsupported architecture, or the bridge computes something else.
        """
        tokenizer = load_tokenizer(model, revision=revision)
        loaded = load_model(model, tokenizer, device=device, dtype=dtype, revision=revision)
        parity, widths = compare(loaded.plain, loaded.bridge, str(model))
        points, aliases = read_hook_points(loaded.bridge)
        if window is None and not loaded.is_causal:
            window = max_positions(loaded.bridge.original_model.config, tokenizer, is_causal=False)
        is_folder = Path(model).is_dir()
        return Subject(
            name=Path(model).name if is_folder else str(model),
            bridge=loaded.bridge,
            tokenizer=tokenizer,
            hooks=HookTable(points=points, aliases=aliases, widths=widths),
            parity=parity,
            is_causal=loaded.is_causal,
            loading=Loading(
                model=Path(model).resolve() if is_folder else model,
                device=device,
                dtype=dtype,
                chat_template=chat_template,
                window=window,
                revision=revision,
            ),
            chat_template=read_chat_template(chat_template),
            window=window,
            twin=loaded.twin,
        )

    @property
    def hook_names(self) -> tuple[str, ...]:
        """Canonical names of the hook points that write a row of numbers for each token."""
        return tuple(self.hooks.widths)

    @property
    def pad_id(self) -> int:
        """The token that fills up batches; what it is does not matter, since it is masked."""
        pad_id = self.tokenizer.pad_token_id
        return int(pad_id) if pad_id is not None and pad_id < self.d_vocab else 0

    @property
    def device(self) -> torch.device:
        """Where the model reads its tokens."""
        return self._passes.device

    @property
    def max_positions(self) -> int | None:
        """Most tokens of one sequence; None if the model states no limit."""
        config = self.bridge.original_model.config
        return max_positions(config, self.tokenizer, is_causal=self.is_causal)

    @property
    def rotary_switch(self) -> int | None:
        """Length beyond which a batch gets other rotary frequencies; None: none (`limits.rotary_switch`)."""
        return rotary_switch(self.bridge.original_model.config)

    @cached_property
    def model_digest(self) -> str:
        """What records name the weights by."""
        return digest_model(self.loading.model, self.bridge.original_model.config)

    @cached_property
    def fused(self) -> FusedModel | None:
        """The faster way to inputs and outputs of blocks, compared with the bridge when first asked for.

        None where it gives something else. It knows no edits: a capture for a store uses it, an intervention must not.
        """
        return fused_model(self._twin, self.bridge, self.capture, self.hook_names)

    def resolve(self, hook_name: str) -> str:
        """The canonical name of a hook point.

        Raises:
            HookError: there is no such hook point (the error lists near names).
        """
        return self.hooks.resolve(hook_name)

    def width(self, hook_name: str) -> int:
        """Numbers that a hook point writes for each token."""
        return self.hooks.widths[self.resolve(hook_name)]

    def render(self, transcript: Transcript, *, max_tokens: int | None = None) -> Rendering:
        """The transcript as this model reads it; `max_tokens` keeps only its start."""
        return render(
            transcript,
            self.tokenizer,
            chat_template=self.chat_template,
            window=self.window,
            max_tokens=max_tokens,
        )

    def run(
        self,
        batch: TokenBatch,
        *,
        edits: Sequence[Edit] = (),
        positions: Int[Tensor, "case"] | None = None,
    ) -> Float[Tensor, "case pos vocab"] | Float[Tensor, "case vocab"]:
        """Logits of every position, or of one position for each case.

        Raises:
            ModelError: the model is an encoder, whose vocabulary head is not trained.
        """
        self._need_causal("logits")
        self._need_room(batch.token_ids.shape[1])
        # Edits of the unembedding are shown all positions.
        edits_unembedding = any(self.resolve(e.hook_name).startswith("unembed") for e in edits)
        with self.editing(edits), torch.no_grad():
            if positions is not None and not edits_unembedding:
                return self._passes.at(batch, positions)
            logits = self._passes.whole(batch)
        return logits if positions is None else pick_columns(logits, positions)

    def shared_blocks(self, hook_names: Sequence[str]) -> int | None:
        """How many of the first blocks `run_shared` computes once for edits at these hook points.

        None if it computes every run whole, since the model is an encoder, or cannot go on exactly from a clean pass.
        """
        return self._sharing.n_blocks([self.resolve(name) for name in hook_names])

    def run_shared(
        self,
        sequences: Sequence[Sequence[int]],
        case: Int[Tensor, "row"],
        *,
        first: Sequence[int],
        edits: Sequence[Edit],
    ) -> Float[Tensor, "row vocab"]:
        """Logits after the last token of many edited runs of few sequences.

        The tokens before the first edited one, and the blocks below the edits, are computed once for each sequence,
        unless the sequences are too long for the model when their first edited tokens are aligned.
        Edits see the tokens from there on; first they are shown the tokens before, which they must leave as they are.

        Args:
            case: which of the sequences each run is of.
            first: the first token that any edit touches in each sequence.

        Raises:
            HookError: an edit changes a token before the first, or never fires.
            ShapeError: a first token is not in its sequence.
        """
        self._need_causal("logits")
        self._need_room(max(len(sequence) for sequence in sequences))
        n_blocks = self.shared_blocks([edit.hook_name for edit in edits])
        if n_blocks is None or not self._has_room(aligned_width(sequences, first)):
            rows = [sequences[i] for i in case.tolist()]
            ends = torch.tensor([len(row) - 1 for row in rows])
            return self.run(TokenBatch.of(rows, self.pad_id), edits=edits, positions=ends)
        with torch.no_grad():
            start = self._sharing.start(sequences, first, n_blocks)
            for edit in edits:
                self._sharing.check(edit, start, case)
            with self.editing(edits):
                return self._sharing.resume(start, case)

    def capture(
        self, batch: TokenBatch, hook_names: Sequence[str], *, edits: Sequence[Edit] = ()
    ) -> dict[str, Float[Tensor, "case pos d"]]:
        """Activations at several hook points from one pass that stops after the last of them.

        Args:
            edits: fire before the activations of their own hook point are captured.

        Returns:
            The activations under the names that were asked for.
        """
        wanted = {name: self.resolve(name) for name in hook_names}
        found: dict[str, Tensor] = {}
        if not wanted:
            raise HookError("no hook point was named to capture from; name at least one.")
        points = {canonical: self.hooks.points[canonical] for canonical in wanted.values()}
        catching = captured_acts(points, found)
        self._need_room(batch.token_ids.shape[1])
        with self.editing(edits), catching, torch.no_grad(), suppress(AllCapturedError):
            self._passes.whole(batch)
        return {name: found[canonical] for name, canonical in wanted.items()}

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        edits: Sequence[Edit] = (),
        temperature: float = 1.0,
        seed: int | Sequence[int] = 0,
        stop_token_ids: Sequence[int] = (),
    ) -> list[list[int]]:
        """New tokens for each prompt, up to and including the first stop token.

        A prompt's text depends on its own seed only: batches give what single prompts give. Edits fire at every step;
        after the first they see the newest token only.

        Args:
            temperature: 0 takes the most likely token.
            seed: one for all (each prompt draws by its place), or one for each prompt.

        Raises:
            ModelError: the model is an encoder, or the text would exceed the model's positions.
        """
        self._need_causal("generated text")
        batch = TokenBatch.of(prompts, self.pad_id, side="left")
        self._need_room(batch.token_ids.shape[1] + max_new_tokens)
        draws = uniform_draws(seed, len(prompts), max_new_tokens)
        with self.editing(edits), torch.no_grad():
            return continue_batch(
                self._passes.step, batch, draws, temperature=temperature, stops=stop_token_ids
            )

    def generate_with_acts(
        self,
        prompts: Sequence[Sequence[int]],
        hook_names: Sequence[str],
        *,
        max_new_tokens: int,
        temperature: float = 1.0,
        seed: int | Sequence[int] = 0,
        stop_token_ids: Sequence[int] = (),
    ) -> list[WrittenText]:
        """What `generate` writes, with the activations of prompts and new tokens, in one pass with the cache.

        Raises:
            HookError: a hook point does not exist.
            ModelError: the model is an encoder.
            ShapeError: the text would exceed the model's positions.
        """
        self._need_causal("generated text")
        points = {name: self.hooks.points[self.resolve(name)] for name in hook_names}
        batch = TokenBatch.of(prompts, self.pad_id, side="left")
        self._need_room(batch.token_ids.shape[1] + max_new_tokens)
        draws = uniform_draws(seed, len(prompts), max_new_tokens)
        with torch.no_grad():
            return write_with_acts(
                self._passes.step,
                points,
                batch,
                draws,
                temperature=temperature,
                stops=stop_token_ids,
            )

    @contextmanager
    def editing(self, edits: Sequence[Edit]) -> Generator[list[int], None, None]:
        """Apply edits, in order, to every pass of this subject while active; yields the firings of each so far.

        Raises:
            HookError: a hook point does not exist, or an edit never fired.
        """
        points = [self.hooks.points[self.resolve(edit.hook_name)] for edit in edits]
        with applied_edits(points, edits, lambda: self._passes.context) as counts:
            yield counts

    def _need_causal(self, what: str) -> None:
        if not self.is_causal:
            raise ModelError(
                f"{self.name} is an encoder and has no {what}; use it to capture activations, or load a causal model."
            )

    def _has_room(self, n_tokens: int) -> bool:
        return self.max_positions is None or n_tokens <= self.max_positions

    def _need_room(self, n_tokens: int) -> None:
        if not self._has_room(n_tokens):
            raise ShapeError(
                f"a sequence of {n_tokens} tokens is longer than the {self.max_positions} that {self.name} reads; set "
                "window (tokens read at once) or max_tokens."
            )
