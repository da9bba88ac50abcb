"""What a bank holds, in lines for a terminal."""

from collections.abc import Iterator

from mechprobe.probes.exchange.artefact import Artefact
from mechprobe.probes.probe_set import ProbeSet
from mechprobe.taxonomy import Taxonomy


def bank_lines(artefact: Artefact, taxonomy: Taxonomy) -> Iterator[str]:
    """What the bank holds: model, origin, and a line for each probe.

    AUROCs and thresholds are those that the probes' makers give, on their data; nothing is measured here.
    """
    digest = artefact.model_digest[:12] or "not recorded"
    yield f"model {artefact.bank.model or 'not said'}, weights {digest}; from {artefact.origin}"
    for one in artefact.bank.sets:
        yield f"{one.scorer} at {one.hook_name}: {len(one.probes)} probes on {one.reads} of width {one.width}"
        for indicator, probe in zip(one.indicators, one.probes, strict=True):
            yield f"  {indicator:<42}{probe.kind}{_figures(artefact, one, indicator)}"
        if missing := [slug for slug in taxonomy.slugs if slug not in one.indicators]:
            yield f"  without a probe: {', '.join(missing)}"


def _figures(artefact: Artefact, one: ProbeSet, indicator: str) -> str:
    card = artefact.card(one, indicator)
    aurocs = {key: value for key, value in card.metrics.items() if key.split()[-1] == "auroc"}
    told = [f"{key} {value:.3f}" for key, value in aurocs.items()]
    if card.thresholds:
        told.append(f"{len(card.thresholds)} thresholds")
    return f" (its makers: {', '.join(told)})" if told else ""
