"""Does an SAE have a feature for each planted thought? A finished run of the planted organism against its known directions.

`python analyses/features_known_truth.py RUN`: for each indicator the feature that is best on the ranking spans, its AUROC on
test spans, its p-value among the maxima over all features under permuted labels, and the cosine of its decoder row with the
planted direction; beside it the largest cosine of any feature, and of as many random rows.
"""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch.nn.functional import normalize

from mechprobe.cli.saying import say
from mechprobe.models.organism.truth import read_directions
from mechprobe.saes.lens import decoder_rows
from mechprobe.study.feature_pages import open_run
from mechprobe.study.feature_ranking import feature_ranking
from mechprobe.study.reading import open_features

WANTED_AUROC, WANTED_COSINE, LEVEL = 0.9, 0.8, 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownFeature:
    """What was found for one indicator."""

    indicator: str
    feature: int
    auroc: float
    p_value: float
    cosine: float
    """Of the best feature's decoder row with the planted direction."""
    best_cosine: float
    """Of the feature that points most nearly along it."""
    best_cosine_feature: int
    random_cosine: float
    """Largest of as many random rows."""


def known_features(folder: Path) -> list[KnownFeature]:
    """Compare the run's features with the directions that were planted in its organism."""
    run = open_run(folder, say)
    features = open_features(run, "transcripts")
    ranking = feature_ranking(run, features, n=1)
    rows = normalize(decoder_rows(run.sae).detach(), dim=-1)
    random = normalize(torch.randn(rows.shape, generator=torch.Generator().manual_seed(0)), dim=-1)
    directions = {
        name: torch.from_numpy(row) for name, row in read_directions(Path(run.model_source)).items()
    }
    found: list[KnownFeature] = []
    for row in ranking.to_dict("records"):
        cosines = rows @ normalize(directions[row["indicator"]], dim=0)
        found.append(
            KnownFeature(
                indicator=row["indicator"],
                feature=int(row["feature"]),
                auroc=float(row["auroc"]),
                p_value=float(row["p_value"]),
                cosine=float(cosines[int(row["feature"])]),
                best_cosine=float(cosines.max()),
                best_cosine_feature=int(cosines.argmax()),
                random_cosine=float((random @ directions[row["indicator"]]).max()),
            )
        )
    return found


def main(folder: Path) -> None:
    """Print each indicator and how many meet the bar."""
    found = known_features(folder)
    for one in found:
        print(json.dumps(asdict(one)))
    told = [one for one in found if one.auroc >= WANTED_AUROC and one.p_value < LEVEL]
    near = [one for one in told if one.cosine >= WANTED_COSINE]
    print(f"AUROC >= {WANTED_AUROC} and p < {LEVEL}: {len(told)} of {len(found)}")
    print(f"and cosine >= {WANTED_COSINE}: {len(near)} of {len(found)}")
    any_near = sum(one.best_cosine >= WANTED_COSINE for one in found)
    print(f"any feature of cosine >= {WANTED_COSINE}: {any_near} of {len(found)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
