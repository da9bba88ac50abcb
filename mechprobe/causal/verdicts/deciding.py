"""The ordered rule that turns effects into a verdict, and nothing else: it sees numbers, never a model.

CAUSAL.md section 6 with the changes of its section 8.
"""

import math
from collections.abc import Iterator, Sequence

from mechprobe.causal.verdicts.statistics import needed_for_sign_flip
from mechprobe.causal.verdicts.verdict import (
    STRATA,
    Evidence,
    Stratum,
    StratumEffect,
    Verdict,
    VerdictName,
    VerdictRule,
)


def decide(evidence: Evidence, rule: VerdictRule) -> Verdict:
    """Apply the ordered rule."""
    if evidence.faults:
        return _nothing("invalid", "; ".join(evidence.faults))
    if evidence.gaps:
        return _nothing("undetermined", "; ".join(evidence.gaps))
    if not evidence.strata:
        return _nothing("undetermined", _too_few(evidence, rule))
    fault = _site_fault(evidence, rule)
    if fault:
        return _nothing("invalid", fault)
    parts: list[Stratum] = [
        name for name, found in evidence.strata.items() if _is_part(found, rule)
    ]
    if parts:
        return _nothing("undetermined", _part_or_shadow(evidence, parts))
    shown: list[Stratum] = [name for name in STRATA if not shortfall(evidence, name, rule)]
    if "necessity" in shown or "sufficiency" in shown:
        return _drives(evidence, rule, shown)
    if shown:
        return _inhibits(evidence, rule, shown)
    if is_without_effect(evidence, rule):
        return _without_effect(evidence, rule)
    return _nothing("undetermined", _why_undetermined(evidence, rule))


def shortfall(evidence: Evidence, name: Stratum, rule: VerdictRule) -> str:
    """What keeps the effect in a stratum from being shown; "" where it is shown."""
    found = evidence.strata.get(name)
    if found is None:
        return f"{evidence.n_items.get(name, 0)} runs, fewer than {rule.min_items}"
    value = found.effect.value
    if not value >= rule.min_effect:
        return f"effect {value:.2f} < {rule.min_effect}"
    if not found.effect.low > 0:
        return f"effect {value:.2f} with an interval from {found.effect.low:.2f}"
    if not found.flip_rate >= rule.min_flip_rate:
        return (
            f"effect {value:.2f} but only {found.flip_rate:.0%} of the runs change sides "
            f"(< {rule.min_flip_rate:.0%})"
        )
    if not found.p_holm <= rule.alpha:
        needed = needed_for_sign_flip(evidence.family_size, alpha=rule.alpha)
        more = f"; {needed} transcripts are the least that can" if found.n_clusters < needed else ""
        return f"effect {value:.2f} with Holm p {found.p_holm:.3f} from {found.n_clusters} transcripts{more}"
    if not found.p_random <= rule.alpha:
        return (
            f"effect {value:.2f} does not stand out from random directions (p {found.p_random:.3f})"
        )
    return ""


def _is_part(found: StratumEffect, rule: VerdictRule) -> bool:
    """Whether there is an effect that the direction does not mediate as a whole.

    A mediator does what the whole activation does, and everything else does nothing. One of the two would be enough
    if the outcome were linear; where it saturates, a shadow can pass either alone.
    """
    asked = [zero for zero in (found.rest_zero, found.short_zero) if zero is not None]
    has_effect = found.effect.value >= rule.min_effect and found.effect.low > 0
    return has_effect and any(not zero.p_value <= rule.alpha for zero in asked)


def _part_or_shadow(evidence: Evidence, parts: Sequence[Stratum]) -> str:
    """Interchange cannot tell one axis of a wider cause from a direction that only overlaps with the cause."""
    sizes = "; ".join(
        f"{name} {evidence.strata[name].effect.value:.2f} along the direction, "
        f"{evidence.strata[name].rest:.2f} along everything else, {evidence.strata[name].whole:.2f} with both"
        for name in parts
    )
    return f"a part or a shadow of the cause: {sizes}"


def is_without_effect(evidence: Evidence, rule: VerdictRule) -> bool:
    """Whether both natural sides are equivalent to zero, and no stratum says otherwise."""
    sides = evidence.pooled_zero
    return (
        {"removing", "adding"} <= set(sides)
        and all(zero.p_value <= rule.alpha for zero in sides.values())
        and not any(_is_open(found, rule) for found in evidence.strata.values())
    )


def _is_open(found: StratumEffect, rule: VerdictRule) -> bool:
    """Whether a stratum leaves room for an effect."""
    if found.n < rule.min_items_for_zero:
        return abs(found.effect.value) >= rule.margin
    return found.zero.p_value > rule.alpha


def _site_fault(evidence: Evidence, rule: VerdictRule) -> str:
    """Why nothing can be claimed at this site, "" if something can."""
    ceiling = evidence.ceiling
    if math.isfinite(ceiling) and ceiling < rule.min_ceiling:
        return (
            f"refused: patching the whole activation at this site moves {ceiling:.2f} of what the text "
            f"flip does (< {rule.min_ceiling}); the cause is read elsewhere, see the site map"
        )
    if math.isnan(ceiling) and not evidence.audit_ceiling >= rule.min_ceiling:
        return (
            "refused: the text flip changes no behaviour and patching the whole activation does not "
            f"move the audit answer ({evidence.audit_ceiling:.2f} < {rule.min_ceiling}); the thought may "
            "not be represented at this site"
        )
    if not evidence.moved >= rule.min_moved:
        return (
            f"the edit hardly moves the coordinate ({evidence.moved:.2f} standard deviations < "
            f"{rule.min_moved}); the direction does not tell the two sides of a pair apart"
        )
    unrelated = evidence.unrelated
    if unrelated and unrelated.flip_rate > unrelated.text_flip_rate + rule.max_unrelated:
        return (
            f"the edit changes {unrelated.flip_rate:.0%} of unrelated answers, where flipping the text changes "
            f"{unrelated.text_flip_rate:.0%}: it breaks the model rather than the thought"
        )
    if evidence.illusion:
        return f"illusion suspected: {evidence.illusion} (Makelov et al., arXiv 2311.17030)"
    for name, found in evidence.strata.items():
        whole = evidence.ceiling_effects.get(name, math.nan)
        if found.effect.value >= rule.min_effect and whole < rule.margin:
            return (
                f"illusion suspected: {found.effect.value:.2f} in {name} along one direction where the "
                f"whole activation moves {whole:.2f} (Makelov et al., arXiv 2311.17030)"
            )
    return ""


def _drives(evidence: Evidence, rule: VerdictRule, shown: list[Stratum]) -> Verdict:
    claimed: list[Stratum] = [name for name in ("necessity", "sufficiency") if name in shown]
    flat = [name for name in claimed if not evidence.rises.get(name, False)]
    if flat:
        return _nothing(
            "undetermined",
            f"an effect was found, but it does not rise with the strength of steering ({', '.join(flat)})",
        )
    if evidence.specificity <= 0:
        return _nothing(
            "undetermined",
            f"the other indicators' directions do as much here (specificity {evidence.specificity:.2f})",
        )
    if len(claimed) == 2:
        return Verdict(
            name="driver",
            p_value=_largest_p(evidence, claimed),
            reason=f"{_size(evidence, 'necessity')}; {_size(evidence, 'sufficiency')}",
        )
    if "necessity" in shown:
        return Verdict(
            name="necessary_only",
            p_value=_largest_p(evidence, ["necessity"]),
            reason=f"{_size(evidence, 'necessity')}; sufficiency not shown: "
            f"{shortfall(evidence, 'sufficiency', rule)}",
        )
    return Verdict(
        name="sufficient_only",
        p_value=_largest_p(evidence, ["sufficiency"]),
        reason=f"{_size(evidence, 'sufficiency')}; necessity not shown: "
        f"{shortfall(evidence, 'necessity', rule)}",
    )


def _inhibits(evidence: Evidence, rule: VerdictRule, shown: list[Stratum]) -> Verdict:
    against: list[Stratum] = [
        name
        for name in ("necessity", "sufficiency")
        if name in evidence.strata and evidence.strata[name].effect.value >= rule.min_effect
    ]
    if against:
        return _nothing(
            "undetermined", f"it holds back the outcome and also raises it ({', '.join(against)})"
        )
    return Verdict(
        name="inhibitor",
        p_value=_largest_p(evidence, shown),
        reason="; ".join(_size(evidence, name) for name in shown),
    )


def _without_effect(evidence: Evidence, rule: VerdictRule) -> Verdict:
    p_zero = max(zero.p_value for zero in evidence.pooled_zero.values())
    fixed = f"no effect with the text held fixed (within +-{rule.margin}, TOST p {p_zero:.3f})"
    if math.isfinite(evidence.ceiling):
        return _read_out(
            evidence,
            rule,
            p_zero,
            f"{fixed}, although flipping the thought in the text has one: the cause lies along other directions",
        )
    moved, zero = evidence.resampled, evidence.resampled_zero
    if moved is None or zero is None or math.isnan(moved.low):
        return _nothing(
            "undetermined",
            f"{fixed}, but an effect through later text was not tested (no resampling)",
        )
    if abs(moved.value) >= rule.min_resampled and (moved.low > 0 or moved.high < 0):
        return Verdict(
            name="text_mediated",
            p_value=p_zero,
            reason=f"{fixed}; with the later text written anew the rate changes by {moved.value:+.2f} "
            f"[{moved.low:.2f}, {moved.high:.2f}]",
        )
    if not (-rule.resampled_margin < zero.low and zero.high < rule.resampled_margin):
        return _nothing(
            "undetermined",
            f"{fixed}; the effect through later text ({moved.value:+.2f}) is too uncertain: 90 % interval "
            f"[{zero.low:.2f}, {zero.high:.2f}] must lie within +-{rule.resampled_margin}"
            + (f"; about {zero.n_needed} transcripts are needed" if zero.n_needed else ""),
        )
    return _read_out(evidence, rule, p_zero, f"{fixed} or through later text ({moved.value:+.2f})")


def _read_out(evidence: Evidence, rule: VerdictRule, p_zero: float, finding: str) -> Verdict:
    """A read-out needs its positive control: the direction must carry the thought somewhere."""
    if not evidence.audit_effect >= rule.min_audit_effect or not evidence.auroc >= rule.min_auroc:
        return _nothing(
            "undetermined",
            f"{finding}, but the positive control fails: audit effect {evidence.audit_effect:.2f} (wanted "
            f"{rule.min_audit_effect}), AUROC {evidence.auroc:.2f} (wanted {rule.min_auroc})",
        )
    return Verdict(
        name="readout_only",
        p_value=p_zero,
        reason=f"{finding}; yet the edit moves the audit answer by {evidence.audit_effect:.2f} and AUROC is "
        f"{evidence.auroc:.2f}",
    )


def _why_undetermined(evidence: Evidence, rule: VerdictRule) -> str:
    found = [*_open_questions(evidence, rule)] or [*_open_sides(evidence, rule)]
    return "; ".join(found) or _too_few(evidence, rule)


def _open_questions(evidence: Evidence, rule: VerdictRule) -> Iterator[str]:
    for name, found in evidence.strata.items():
        if not _is_open(found, rule):
            continue
        needed = (
            f"; about {found.zero.n_needed} transcripts would show none"
            if found.zero.n_needed
            else ""
        )
        yield (
            f"{name}: {shortfall(evidence, name, rule)}, yet not equivalent to none (90 % interval "
            f"[{found.zero.low:.2f}, {found.zero.high:.2f}], n {found.n}{needed})"
        )


def _open_sides(evidence: Evidence, rule: VerdictRule) -> Iterator[str]:
    """Natural sides that are not equivalent to none as a whole, where no stratum leaves a question of its own."""
    for name, zero in evidence.pooled_zero.items():
        if not zero.p_value <= rule.alpha:
            yield (
                f"{name}, all runs: not equivalent to none (90 % interval [{zero.low:.2f}, {zero.high:.2f}])"
            )


def _too_few(evidence: Evidence, rule: VerdictRule) -> str:
    counts = ", ".join(f"{name} {evidence.n_items.get(name, 0)}" for name in STRATA)
    return f"too few runs: {counts}; each side of the pairs needs a stratum of {rule.min_items} or more"


def _size(evidence: Evidence, name: Stratum) -> str:
    found = evidence.strata[name]
    return (
        f"{name} {found.effect.value:.2f} [{found.effect.low:.2f}, {found.effect.high:.2f}], "
        f"{found.flip_rate:.0%} of {found.n} runs change sides"
    )


def _largest_p(evidence: Evidence, names: list[Stratum]) -> float:
    """Intersection-union: a claim is as strong as its weakest part."""
    return max(max(evidence.strata[n].p_holm, evidence.strata[n].p_random) for n in names)


def _nothing(name: VerdictName, reason: str) -> Verdict:
    return Verdict(name=name, p_value=math.nan, reason=reason)
