"""The words, signs and number formats of the report, in one place.

A verdict is never shown by colour alone: each has a word and a sign of its own. The meanings follow the ordered
rule of the causal protocol (necessity by taking the direction away, sufficiency by putting it in).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

MINUS = "\u2212"
DASH = "\u2013"
NOT_KNOWN = DASH


@dataclass(frozen=True, kw_only=True, slots=True)
class VerdictWord:
    """How a verdict is said to a person."""

    slug: str
    word: str
    sign: str
    meaning: str


VERDICT_WORDS: tuple[VerdictWord, ...] = (
    VerdictWord(
        slug="driver",
        word="Driver",
        sign="●",
        meaning="Taking it away stops the behaviour, and putting it in starts it.",
    ),
    VerdictWord(
        slug="necessary_only",
        word="Necessary only",
        sign="◐",
        meaning="Taking it away stops the behaviour; by itself it does not start it.",
    ),
    VerdictWord(
        slug="sufficient_only",
        word="Sufficient only",
        sign="◑",
        meaning="Putting it in starts the behaviour; when it is taken away, something else does its work.",
    ),
    VerdictWord(
        slug="inhibitor",
        word="Inhibitor",
        sign="▼",
        meaning="Putting it in holds the behaviour back.",
    ),
    VerdictWord(
        slug="text_mediated",
        word="Through text",
        sign="⇢",
        meaning="No effect while the text is held fixed; it works only by what the model goes on to write.",
    ),
    VerdictWord(
        slug="readout_only",
        word="Read-out only",
        sign="○",
        meaning="It can be read, but moving it moves nothing: an equivalence test says so, not a missing star.",
    ),
    VerdictWord(
        slug="undetermined",
        word="Undetermined",
        sign="?",
        meaning="The evidence does not decide.",
    ),
    VerdictWord(
        slug="invalid",
        word="Invalid",
        sign="✕",
        meaning="The intervention did not do what it was meant to do, so nothing is claimed.",
    ),
)

ROLE_WORDS: Mapping[str, str] = {
    "driver": "driver",
    "conjunctive": "needs its partner",
    "redundant": "one of two ways",
    "inhibitor": "inhibitor",
    "upstream": "works through text",
    "readout": "read-out",
}

SCORER_WORDS: Mapping[str, str] = {
    "dense_logistic": "Dense probe (logistic)",
    "dense_diff_of_means": "Dense probe (difference of means)",
    "diff_of_means": "Dense probe (difference of means)",
    "dense_logistic_pattern": "Dense probe (its pattern)",
    "dense_lda": "Dense probe (LDA)",
    "dense_ridge": "Dense probe (ridge)",
    "sae_k_sparse": "SAE features (k-sparse)",
    "sae_best_feature": "SAE, best single feature",
    "sae_k_sparse_features": "SAE features (those of the k-sparse probe)",
    "sae_single": "SAE, best single feature",
    "tfidf": "Words (TF-IDF)",
    "tfidf_bigrams": "Words and word pairs (TF-IDF)",
    "sae_logistic": "SAE features (all, logistic)",
    "bag_of_words": "Words (counts)",
    "length": "Length",
    "token_identity": "Token identity",
    "token_position": "Place of tokens",
    "token_embedding": "Embeddings of tokens",
    "embedding_layer": "Mean embedding of a turn's tokens",
    "sentence_embedding": "Embedding of the turn's text",
    "dense_attention": "Dense probe of turns (attention)",
    "dense_softmax": "Dense probe of turns (softmax-weighted)",
    "dense_rolling_max": "Dense probe of turns (highest rolling mean)",
    "dense_ema": "Dense probe of turns (running average)",
    "sae_softmax": "SAE features of turns (softmax-weighted)",
    "sae_rolling_max": "SAE features of turns (highest rolling mean)",
    "sae_ema": "SAE features of turns (running average)",
    "random_direction": "Random direction",
    "shuffled_labels": "Shuffled labels",
    "shuffled": "Shuffled labels",
    "writing": "Where thoughts begin (difference of means)",
}

FUSION_WORDS: Mapping[str, str] = {
    "fused": "highest of all indicators",
    "max_raw": "highest raw score of all indicators",
    "or_tuned": "OR over tuned thresholds",
    "or_each": "OR, each at the target",
    "or_bonferroni": "OR, target divided",
    "or_joint": "OR, tuned together",
    "noisy_or": "noisy OR of probabilities",
    "mean_log_odds": "mean log-odds",
    "stacked": "weighed sum of log-odds",
    "none": "not fused",
}
"""How the indicators' probes become one score; their names are suffixes of the scorer's."""

FALSIFIER_WORDS: Mapping[str, str] = {
    "injection": "Its words in benign text",
    "paraphrase": "Said in other words",
    "masking": "Its words masked",
    "context": "The quotation in benign text",
    "keywords": "Overlap with keywords",
}
"""What a falsifier does to the text."""

UNIT_WORDS: Mapping[str, str] = {
    "hard_negative": "span against hard negatives",
    "mixed": "highest turn of a bad transcript against single turns",
    "span": "span",
    "matched_pair": "twins with the same words",
    "sentence": "sentence",
    "turn": "turn",
    "transcript": "transcript",
    "token": "token",
}

KIND_WORDS: Mapping[str, str] = {
    "hard_negative": "hard negatives (look-alikes)",
    "other": "other text",
}

STRATUM_WORDS: Mapping[str, str] = {
    "necessity": "held, misbehaves",
    "release": "held, behaves",
    "sufficiency": "not held, behaves",
    "inhibition": "not held, misbehaves",
    "all": "all runs",
}
"""Which runs an effect is measured on: is the indicator held there, and what does the run do by itself."""

CONTROL_WORDS: Mapping[str, str] = {
    "random": "Random directions",
    "random_covariance": "Random, spread as the activations",
    "random_covariance_orthogonal": "Random, spread as the activations, real direction taken out",
    "shuffled_orthogonal": "Shuffled labels, real direction taken out",
    "shuffled": "Shuffled labels",
    "other": "Other indicators",
    "fragility": "Shove of equal size",
}

OPERATION_WORDS: Mapping[str, str] = {
    "P0": "Whole text patched (ceiling)",
    "N1": "Taken away: swapped with the matched negative",
    "N2": "Taken away: mean-ablated",
    "S1": "Put in: swapped with the matched positive",
    "S2": "Put in: steered",
    "F1": "SAE feature changed",
    "N1_complement": "Taken away: all but the direction swapped",
    "S1_complement": "Put in: all but the direction swapped",
    "R0": "Rest of the text written anew",
    "steer": "Steered",
    "ablate": "Held at the other class's mean",
    "prompt": "Told so in the prompt",
}

POSITION_WORDS: Mapping[str, str] = {
    "span_first": "first of span",
    "span_last": "last of span",
    "span_all": "whole span",
    "after_span": "after span",
    "decision": "decision",
}


PART_WORDS: Mapping[str, str] = {
    "residual": "stream after it",
    "attention": "attention",
    "mlp": "MLP",
}

DAMAGE_WORDS: Mapping[str, str] = {
    "kl": "KL, nats a token",
    "ce": "Cross-entropy",
    "ce_change": "Cross-entropy, change",
    "distinct_2": "Different word pairs",
    "repetition": "Repetition",
    "accuracy": "Right answers",
    "audit_accuracy": "Right audit answers",
}

FIGURE_WORDS: Mapping[str, str] = {
    "q_bh": "q (Benjamini-Hochberg)",
    "mde": "Least effect that would be found (power .9)",
    "n_random": "Random directions",
    "unrelated_effect": "Effect on an unrelated answer",
    "unrelated_flips": "Unrelated answers that change",
    "unrelated_text_flips": "Unrelated answers that the text flip changes",
    "anti_share": "Runs that move the wrong way",
    "remains_auroc": "AUROC of a refit probe without the direction",
    "remains_dims": "Directions to take out until it is unreadable",
    "off_manifold": "Share of edits unlike natural activations",
    "kept_plane": "Share of the effect kept with its read and unread parts swapped together",
    "kept_patch": "Share of the effect kept by a whole patch",
    "audit_ceiling": "Whole patch on the self-report question",
}
"""Further figures of a verdict, in the order in which they are printed."""


def verdict_word(slug: str) -> VerdictWord:
    """The wording of a verdict; an unknown one keeps its own name."""
    for word in VERDICT_WORDS:
        if word.slug == slug:
            return word
    return VerdictWord(slug="undetermined", word=plain(slug), sign="?", meaning="")


REMOVAL_WORDS: Mapping[str, str] = {
    "none": "Nothing",
    "leace": "Everything that a linear reader uses (LEACE)",
}


def removal_words(removal: str) -> str:
    """What was taken out of the activations, for a person."""
    return REMOVAL_WORDS.get(removal, plain(removal))


def plain(slug: str) -> str:
    """A slug as words: "hard_negative" -> "Hard negative"."""
    words = slug.replace("_", " ").strip()
    return words[:1].upper() + words[1:]


def scorer_words(scorer: str) -> str:
    """A scorer's name for a person."""
    fusion = fusion_of(scorer)
    own = scorer.removesuffix(f"_{fusion}") if fusion else scorer
    words = SCORER_WORDS.get(own, plain(own))
    return f"{words}, {FUSION_WORDS[fusion]}" if fusion else words


def fusion_of(scorer: str) -> str:
    """The fusion that a scorer's name ends with; empty if it is not fused."""
    return next((name for name in FUSION_WORDS if scorer.endswith(f"_{name}")), "")


def operation_words(operation: str) -> str:
    """What an intervention does, in words, with its identifier of the protocol kept by the caller."""
    return OPERATION_WORDS.get(operation, plain(operation))


def number(value: float | None, digits: int = 2) -> str:
    """A number with a true minus sign; a dash where there is none."""
    if value is None or math.isnan(value):
        return NOT_KNOWN
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = f"{0:.{digits}f}"
    return text.replace("-", MINUS)


def signed(value: float | None, digits: int = 2) -> str:
    """A number with its sign, also where it is positive."""
    text = number(value, digits)
    return f"+{text}" if value is not None and value > 0 and float(text) > 0 else text


def interval(low: float, high: float, digits: int = 2) -> str:
    """An interval with a dash between its bounds, or "to" where one of them is negative."""
    if math.isnan(low) or math.isnan(high):
        return "no interval"
    between = " to " if low < 0 or high < 0 else DASH
    return f"{number(low, digits)}{between}{number(high, digits)}"


def p_value(value: float | None) -> str:
    """A p-value as "p = 0.012" or "p < 0.001"."""
    if value is None or math.isnan(value):
        return "p not known"
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def share(value: float | None) -> str:
    """A share of one as a percentage."""
    return NOT_KNOWN if value is None or math.isnan(value) else f"{100 * value:.0f} %"


def count(value: float | int | None) -> str:
    """A count with thin spaces between the thousands."""
    if value is None or math.isnan(value):
        return NOT_KNOWN
    return f"{int(value):,}".replace(",", "\u202f")
