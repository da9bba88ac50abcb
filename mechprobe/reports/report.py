"""`report.html` of a run: one file that opens anywhere, without network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mechprobe import __version__
from mechprobe.records import atomic_write_text
from mechprobe.reports.causes import CEILING, quality_rows, self_test, site_maps
from mechprobe.reports.drivers import best_feature_rows, driver_tables
from mechprobe.reports.facts import read_facts
from mechprobe.reports.falsified import falsifier_tables
from mechprobe.reports.figures import cosine_figure, domain_figure, matrix_figure, site_figure
from mechprobe.reports.further import free_text_rows, untrained_rows
from mechprobe.reports.generalisation import domain_maps, domain_words, transfers
from mechprobe.reports.geometry import PLOTTED_SETS, geometries
from mechprobe.reports.html import render_page
from mechprobe.reports.matrix import effect_matrices
from mechprobe.reports.names import IndicatorName, indicator_names, run_taxonomy
from mechprobe.reports.operating import calibration_rows, grain_rows, operating_tables
from mechprobe.reports.overview import overview
from mechprobe.reports.places import PlaceMap, UsedSite, marked, place_maps, used_sites
from mechprobe.reports.reliability import reliability_figure, shown_curves
from mechprobe.reports.rows import distinct
from mechprobe.reports.scorers import scorer_table
from mechprobe.reports.sections import Plot, indicator_section, make_plot
from mechprobe.reports.tables import CausalTables, RunTables, read_tables

REPORT_NAME = "report.html"


def write_report(run_folder: Path) -> Path:
    """Write the report of a run from the tables and JSON in its folder, and return its path.

    Raises:
        DataError: a needed table is missing or malformed; it names the file and the stage that writes it.
    """
    tables = read_tables(run_folder)
    path = run_folder / REPORT_NAME
    atomic_write_text(path, render_page(report_context(tables)))
    return path


def report_context(tables: RunTables) -> dict[str, Any]:
    """Everything that the page shows."""
    slugs = distinct(tables.detection, "indicator")
    names = indicator_names(slugs, run_taxonomy(tables.folder))
    first_screen = overview(tables, names.studied)
    causal = tables.causal
    sites = used_sites(causal) if causal else []
    return {
        "facts": read_facts(tables.folder),
        "version": __version__,
        "overview": first_screen,
        "absent": names.absent,
        "sites_used": sites_used(tables),
        "sections": [indicator_section(tables, row) for row in first_screen.rows],
        **_detector_parts(tables, names.studied),
        "has_causal": causal is not None,
        "has_sae": tables.sae is not None,
        "quality": quality_rows(tables.sae.quality) if tables.sae else [],
        "selftest": self_test(causal.selftest) if causal and causal.selftest else None,
        "site_maps": _site_plots(causal, sites) if causal else [],
        "matrices": _matrix_plots(causal, names.studied) if causal else [],
        "used_sites": sites,
        "indicator_words": {name.slug: name.name for name in names.studied},
        "place_maps": _place_plots(causal) if causal else {},
        "free_text": free_text_rows(causal.rates, causal.verdicts) if causal else [],
        "untrained": untrained_rows([causal.untrained_models, causal.untrained_saes])
        if causal
        else [],
        "ceiling": CEILING,
    }


def _detector_parts(tables: RunTables, names: Sequence[IndicatorName]) -> dict[str, Any]:
    """What is known of detectors beyond the first screen; each part is empty where its table is not there."""
    found = tables.detectors
    directions = geometries(found.geometry, names)
    return {
        "scorers": scorer_table(tables),
        "transfers": transfers(found),
        "domain_plots": _domain_plots(found.generalisation),
        "falsified": falsifier_tables(found.falsifiers, names),
        "operating": operating_tables(found.thresholds),
        "calibration": calibration_rows(found.calibration),
        "reliability": _reliability_plot(found.reliability),
        "drivers": driver_tables(found.drivers, found.driver_checks, names),
        "best_features": best_feature_rows(found.best_features, names),
        "grains": grain_rows(found.decomposition),
        "geometry": directions,
        "cosine_plots": [
            {
                "set": one,
                "plot": make_plot(f"cosines-{at}", "Cosines", cosine_figure(one.cosines)),
            }
            for at, one in enumerate(directions)
            if one.space == "raw" and one.scorer in PLOTTED_SETS
        ],
    }


def _reliability_plot(table: pd.DataFrame | None) -> Plot | None:
    curves = shown_curves(table)
    if curves is None:
        return None
    return make_plot("reliability", "Reliability curves", reliability_figure(curves))


def _domain_plots(table: pd.DataFrame | None) -> list[dict[str, Any]]:
    plots: list[dict[str, Any]] = []
    for at, found in enumerate(domain_maps(table)):
        names = {name: domain_words(name) for name in (*found.auroc.index, *found.auroc.columns)}
        figure = domain_figure(found.auroc, found.note, names)
        plots.append(
            {"map": found, "plot": make_plot(f"domains-{at}", "Trained on, tested on", figure)}
        )
    return plots


def sites_used(tables: RunTables) -> list[str]:
    """The hook points that the run's verdicts, or else its probes, stand at."""
    table = tables.causal.verdicts if tables.causal else tables.detection
    if "hook_name" not in table.columns:
        return []
    return [name for name in distinct(table, "hook_name") if name]


def _site_plots(causal: CausalTables, sites: list[UsedSite]) -> list[dict[str, Any]]:
    chosen = marked(sites)
    maps = [(site, site_figure(site.effect, chosen=chosen)) for site in site_maps(causal.sites)]
    return [
        {"map": site, "plot": make_plot(f"sites-{i}", "Site sweep", figure)}
        for i, (site, figure) in enumerate(maps)
    ]


def _place_plots(causal: CausalTables) -> dict[str, list[dict[str, Any]]]:
    maps = {"part": place_maps(causal.parts, "part"), "head": place_maps(causal.heads, "head")}
    return {kind: [_place_plot(found, i) for i, found in enumerate(maps[kind])] for kind in maps}


def _place_plot(found: PlaceMap, index: int) -> dict[str, Any]:
    figure = site_figure(found.effect, is_shown=found.is_shown)
    return {"map": found, "plot": make_plot(f"{found.kind}s-{index}", "Patching map", figure)}


def _matrix_plots(causal: CausalTables, names: Sequence[IndicatorName]) -> list[dict[str, Any]]:
    matrices = effect_matrices(causal.effects, [name.slug for name in names])
    labels = [name.name for name in names]
    return [
        {
            "matrix": matrix,
            "plot": make_plot(f"matrix-{i}", "Effect matrix", matrix_figure(matrix, labels)),
        }
        for i, matrix in enumerate(matrices)
    ]
