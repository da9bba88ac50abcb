"""The indicators of a run, in the taxonomy's order, with the words that explain them."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mechprobe.reports.wording import plain
from mechprobe.taxonomy import Taxonomy, load_taxonomy

TAXONOMY_FILE = "taxonomy.toml"


@dataclass(frozen=True, kw_only=True, slots=True)
class IndicatorName:
    """What the report calls an indicator."""

    slug: str
    name: str
    group: str = ""
    definition: str = ""
    not_flagged: str = ""

    @property
    def anchor(self) -> str:
        """The fragment that links to its section; only letters, digits and "-"."""
        return "i-" + "".join(sign if sign.isalnum() else "-" for sign in self.slug)


@dataclass(frozen=True, kw_only=True, slots=True)
class NameList:
    """The indicators that were studied, and those of the taxonomy that were not."""

    studied: tuple[IndicatorName, ...]
    absent: tuple[IndicatorName, ...]


def run_taxonomy(folder: Path) -> Taxonomy:
    """The taxonomy that the run was made with: its own copy, else the shipped one."""
    own = folder / TAXONOMY_FILE
    return load_taxonomy(own) if own.is_file() else load_taxonomy()


def indicator_names(slugs: Iterable[str], taxonomy: Taxonomy) -> NameList:
    """Name the run's indicators in the taxonomy's order; unknown ones come last under their own slug."""
    found = list(dict.fromkeys(slugs))
    known = [
        IndicatorName(
            slug=indicator.slug,
            name=indicator.name,
            group=plain(indicator.group),
            definition=indicator.definition,
            not_flagged=indicator.not_flagged,
        )
        for indicator in taxonomy.indicators
    ]
    listed = {name.slug for name in known}
    own = [IndicatorName(slug=slug, name=plain(slug)) for slug in found if slug not in listed]
    return NameList(
        studied=(*(name for name in known if name.slug in found), *own),
        absent=tuple(name for name in known if name.slug not in found)
        if len(own) < len(found)
        else (),
    )
