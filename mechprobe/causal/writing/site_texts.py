"""Text that goes on after a thought, with the thought put in or held back at its own site.

The random directions beside it go through the same operation: an addition of the same length, or a coordinate that is
held where it is on average without the thought.
"""

from collections.abc import Mapping, Sequence

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from mechprobe.causal.checks.controls import random_directions
from mechprobe.causal.directions import Direction
from mechprobe.causal.places.sites import Site
from mechprobe.causal.writing.free_config import FreeTextConfig
from mechprobe.causal.writing.free_prompts import FreePrompt, Where, edited_tokens, prompts_of_pairs
from mechprobe.causal.writing.free_runs import FreeGroup, FreeRuns, run_free_groups
from mechprobe.causal.writing.pushes import Push
from mechprobe.models.batches import TokenBatch
from mechprobe.models.subject import Subject
from mechprobe.transcripts.pairs import MatchedPair

WHERE_OF_POSITION: dict[str, Where] = {
    "span_first": "span_first",
    "span_last": "span_last",
    "span_all": "span_all",
    "after_span": "decision",
    "decision": "decision",
}
"""Where a site's tokens are in a prompt that ends after them."""


def site_runs(
    subject: Subject,
    pairs: Sequence[MatchedPair],
    directions: Mapping[str, Direction],
    sites: Mapping[str, Site],
    config: FreeTextConfig,
) -> list[FreeRuns]:
    """Text that goes on after the thought: put in where it is lacking, held back where it stands."""
    found: list[FreeRuns] = []
    with tqdm(desc="free text after the thought", unit=" texts", disable=None) as bar:
        for site in dict.fromkeys(sites[name] for name in directions):
            groups: list[FreeGroup] = []
            for name, direction in directions.items():
                if sites[name] == site:
                    own = [pair for pair in pairs if pair.indicator == name]
                    groups += _site_groups(subject, own, direction, site, config)
            found += run_free_groups(
                subject,
                groups,
                site.hook_name,
                config.writing(WHERE_OF_POSITION[site.position]),
                progress=bar.update,
            )
    return found


def _site_groups(
    subject: Subject,
    pairs: Sequence[MatchedPair],
    direction: Direction,
    site: Site,
    config: FreeTextConfig,
) -> list[FreeGroup]:
    n_after = 1 if site.position == "after_span" else 0
    held, lacking = (
        prompts_of_pairs(
            subject, pairs, config.outcome, start="after_span", sides=[side], n_after=n_after
        )[: config.n_site_prompts]
        for side in ("positive", "negative")
    )
    drawn = random_directions(config.n_random, len(direction.vector), seed=config.seed + 7)
    vectors = torch.cat([direction.vector[None].float(), drawn])
    absent = _mean_coordinates(subject, lacking, site, vectors)
    adding = [
        _push(direction, index, vector, amount=direction.gap, strength=1.0)
        for index, vector in enumerate(torch.unbind(vectors))
    ]
    removing = [
        _push(direction, index, vector, amount=value, operation="ablate")
        for index, (vector, value) in enumerate(
            zip(torch.unbind(vectors), absent.tolist(), strict=True)
        )
    ]
    return [
        FreeGroup(prompts=tuple(lacking), pushes=tuple(adding)),
        FreeGroup(prompts=tuple(held), pushes=tuple(removing)),
    ]


def _mean_coordinates(
    subject: Subject,
    prompts: Sequence[FreePrompt],
    site: Site,
    vectors: Float[Tensor, "direction d"],
) -> Float[Tensor, "direction"]:
    batch = TokenBatch.of([prompt.token_ids for prompt in prompts], subject.pad_id)
    acts = subject.capture(batch, [site.hook_name])[site.hook_name].float()
    first, last = edited_tokens(prompts, WHERE_OF_POSITION[site.position])
    positions = batch.positions
    is_site = (positions >= first[:, None]) & (positions <= last[:, None]) & batch.mask
    return einsum(acts[is_site].cpu(), vectors, "tok d, direction d -> direction tok").mean(1)


def _push(
    direction: Direction,
    index: int,
    vector: Float[Tensor, "d"],
    *,
    amount: float,
    operation: str = "steer",
    strength: float = float("nan"),
) -> Push:
    """The direction itself (index 0) or a random one in its place."""
    return Push(
        indicator=direction.indicator,
        direction=direction.name if index == 0 else "random",
        operation="ablate" if operation == "ablate" else "steer",
        strength=strength,
        control="none" if index == 0 else "random",
        draw=max(index - 1, 0),
        vector=vector,
        amount=amount,
    )
