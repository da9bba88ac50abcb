"""The organism's language for the falsifiers: exact synonyms, exact frames, and the rule that says what is held."""

from mechprobe.falsifiers.wording import Wording, synonym_groups
from mechprobe.models.organism.vocabulary import FRAMES, OBJECTS, VERBS
from mechprobe.models.organism.written import FRAME_WORDS, written_thoughts


def organism_wording() -> Wording:
    """Both words of a verb or object mean the same, and so do the endorsing frames that are seen in fitting."""
    endorsing = tuple(f.words[1] for f in FRAMES if f.endorses and not f.held_out)
    return Wording(
        paraphrases=synonym_groups([*VERBS.values(), *OBJECTS.values(), endorsing]),
        mask="the",
        phrase=without_frame,
        graft=under_frame_of,
        holds=lambda text, indicator: indicator in written_thoughts(text),
    )


def without_frame(clause: str) -> str:
    """What a clause is about, without the three words that say whether it is held."""
    return " ".join(clause.split()[FRAME_WORDS:])


def under_frame_of(host: str, phrase: str) -> str:
    """The phrase under the frame of another clause."""
    return " ".join([*host.split()[:FRAME_WORDS], *phrase.split()])
