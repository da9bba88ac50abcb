"""Where a study asks for its verdicts: `sites/site.json`."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from mechprobe.causal.places.sites import Site
from mechprobe.errors import DataError
from mechprobe.records import atomic_write_text

SITE_FILE = "site.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class ChosenSites:
    """What the sweep chose: the best site of all, where the SAE stands, and each indicator's own."""

    common: Site
    of: Mapping[str, Site]


def read_sites(folder: Path) -> ChosenSites:
    """The sites that the sweep chose.

    Raises:
        DataError: the sweep has not run.
    """
    path = folder / "sites" / SITE_FILE
    if not path.is_file():
        raise DataError(f"{path} does not exist; run the study's sites stage first.")
    found = json.loads(path.read_text())
    by_indicator = {name: Site(**site) for name, site in found.pop("by_indicator").items()}
    return ChosenSites(common=Site(**found), of=by_indicator)


def write_sites(folder: Path, chosen: ChosenSites) -> None:
    """Write what the sweep chose; the common site's keys stand at the top."""
    own = {name: asdict(site) for name, site in chosen.of.items()}
    found = asdict(chosen.common) | {"by_indicator": own}
    atomic_write_text(folder / "sites" / SITE_FILE, json.dumps(found, indent=1) + "\n")
