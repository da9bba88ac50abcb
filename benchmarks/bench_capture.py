"""From token sequences to stored activations of one layer: our capture against sae-lens' runner.

Both run the same random Llama through TransformerLens' bridge, stop after the layer and write to disk.
"""

import random
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch

from benchmarks.sae_lens_cache import CONTEXT, quiet_datasets, write_cache
from benchmarks.timing import Row, compare
from mechprobe.activations.capture import capture
from mechprobe.activations.selection import TokenSelection
from mechprobe.models.subject import Subject
from mechprobe.saes.lens import import_sae_lens
from mechprobe.transcripts.transcript import Message, Transcript, number_turns

HOOK = "blocks.2.hook_out"
N_SEQUENCES, WIDTH, N_LAYERS, N_WORDS = 128, 192, 6, 500
WORDS = [f"w{index}" for index in range(N_WORDS)]


def save_model(folder: Path, n_positions: int = CONTEXT) -> None:
    """A random Llama whose tokenizer has a token for each word, and no scaffold."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    vocabulary = {word: index for index, word in enumerate(["<pad>", "<s>", "</s>", *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    tokenizer.chat_template = "{% for message in messages %}{{ message.content }} {% endfor %}"
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=N_LAYERS,
        num_attention_heads=6,
        num_key_value_heads=6,
        vocab_size=len(vocabulary),
        max_position_embeddings=n_positions,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def peer_store(subject: Subject, sequences: list[list[int]]) -> Any:
    """sae-lens' ActivationsStore over the same sequences and the same bridge."""
    from datasets import Dataset

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # 32 prompts a batch is sae-lens' own default.
        return import_sae_lens().ActivationsStore(
            model=subject.bridge,
            dataset=Dataset.from_dict({"tokens": sequences}),
            streaming=False,
            hook_name=HOOK,
            hook_head_index=None,
            context_size=CONTEXT,
            d_in=WIDTH,
            n_batches_in_buffer=1,
            total_training_tokens=1,
            store_batch_size_prompts=32,
            train_batch_size_tokens=1024,
            prepend_bos=False,
            normalize_activations="none",
            device=torch.device("cpu"),
            dtype="float32",
        )


def measure() -> Row:
    """Sequences of one length, so that padding is no part of it; the activations are compared first."""
    quiet_datasets()
    draw = random.Random(0)
    texts = [" ".join(draw.choices(WORDS, k=CONTEXT)) for _ in range(N_SEQUENCES)]
    transcripts = [
        Transcript(id=f"t{index}", messages=number_turns([Message(role="user", content=text)]))
        for index, text in enumerate(texts)
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_model(folder / "model")
        subject = Subject.load(folder / "model")
        sequences = [subject.render(t).token_ids.tolist() for t in transcripts]
        everything = TokenSelection(roles=None, sections=None)

        def ours() -> torch.Tensor:
            shutil.rmtree(folder / "ours", ignore_errors=True)
            store = capture(
                transcripts,
                subject,
                [HOOK],
                folder / "ours",
                select=everything,
                dtype="float32",
            )
            return store.acts(HOOK)

        def peer() -> torch.Tensor:
            store = peer_store(subject, sequences)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                parts = [store.get_raw_llm_batch()[0] for _ in range(N_SEQUENCES // 32)]
            acts = torch.cat(parts)
            write_cache(acts, torch.tensor(sequences).flatten(), folder / "peer")
            return acts

        gap = (ours() - peer()).abs().max()
        assert gap < 1e-4, f"the two activations differ by {gap}"
        return compare(
            f"capture[{N_SEQUENCES}x{CONTEXT} tokens, d={WIDTH}, layer 3 of {N_LAYERS}]",
            ours,
            peer,
            amount=N_SEQUENCES * CONTEXT / 1e3,
            unit="k tokens",
            peer_name="sae-lens ActivationsStore + CacheActivationsRunner",
            command="python -m benchmarks.run capture",
        )
