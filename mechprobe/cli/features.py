"""`mechprobe features RUN`: the SAE features of a finished run, ranked, browsed and exported."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from mechprobe.cli.saying import say


@dataclass(frozen=True, kw_only=True, slots=True)
class Features:
    """Rank the features of a run's indicators; write a page to browse all features, or files for Neuronpedia."""

    folder: tyro.conf.Positional[Path]
    """The run's folder, such as runs/organism."""
    indicator: str = ""
    """Only this indicator; empty for all."""
    top: int = 5
    """Features of each indicator."""
    permutations: int = 200
    """Permuted labels for the p-values of the search over all features."""
    page: bool = False
    """Write features.html into the run's folder."""
    export: Path | None = None
    """A folder for JSON that SAEDashboard and Neuronpedia read."""

    def run(self) -> None:
        """Rank, and write what was asked for."""
        from mechprobe.errors import ConfigError
        from mechprobe.study.feature_pages import export_dashboards, open_run, write_pages
        from mechprobe.study.feature_ranking import feature_ranking
        from mechprobe.study.reading import open_features

        run = open_run(self.folder, say)
        if self.top < 1:
            raise ConfigError(f"--top is {self.top}; give at least 1.")
        if self.indicator and self.indicator not in run.taxonomy.slugs:
            raise ConfigError(
                f"--indicator {self.indicator!r} is unknown; there are {', '.join(run.taxonomy.slugs)}."
            )
        features = open_features(run, "transcripts")
        ranking = feature_ranking(run, features, n=self.top, n_permutations=self.permutations)
        shown: Any = ranking[ranking["indicator"] == self.indicator] if self.indicator else ranking
        print(shown.to_string(index=False, float_format=lambda value: f"{value:.3g}"))
        if self.page:
            print(write_pages(run, features, ranking))
        if self.export is not None:
            paths = export_dashboards(run, features, self.export)
            print(f"{self.export}: {len(paths)} files")
