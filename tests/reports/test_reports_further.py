import pandas as pd
import pytest

from mechprobe.reports.further import free_text_rows, untrained_rows

VERDICTS = pd.DataFrame(
    {
        "indicator": ["a", "b", "a"],
        "direction": ["diff_of_means", "diff_of_means", "other"],
        "verdict": ["driver", "readout_only", "undetermined"],
    }
)


def rate(indicator: str, operation: str, control: str, before: float, after: float, where: str):
    return {
        **{"indicator": indicator, "operation": operation, "control": control, "where": where},
        **{"rate_unedited": before, "rate": after, "unreadable": 0.0},
    }


def test_free_text_is_averaged_by_verdict_and_only_at_the_site():
    rates = pd.DataFrame(
        [
            rate("a", "steer", "none", 0.2, 0.9, "span_last"),
            rate("a", "steer", "random", 0.2, 0.3, "span_last"),
            rate("a", "steer", "random", 0.2, 0.1, "span_last"),
            rate("b", "steer", "none", 0.4, 0.4, "span_all"),
            rate("a", "steer", "none", 0.2, 0.0, "writing"),
        ]
    )
    found = {row.verdict: row for row in free_text_rows(rates, VERDICTS)}
    assert list(found) == ["driver", "readout_only"]
    driver = found["driver"]
    assert (driver.before, driver.after) == (0.2, 0.9)
    assert driver.random == pytest.approx(0.2)
    assert driver.n_indicators == 1
    assert free_text_rows(None, VERDICTS) == []


def test_untrained_models_and_saes_are_averaged_over_indicators():
    models = pd.DataFrame(
        {"model": ["trained", "trained"], "indicator": ["a", "b"], "auroc": [1.0, 0.8]}
    ).assign(moved=[0.4, 0.2])
    saes = pd.DataFrame({"sae": ["random"] * 2, "operation": ["feature", "decoder_row"]}).assign(
        indicator="a", auroc=0.9, moved=[0.1, 0.3]
    )
    rows = untrained_rows([models, None, saes])
    assert [(row.name, row.operation) for row in rows] == [
        ("model: trained", "interchange"),
        ("sae: random", "feature"),
        ("sae: random", "decoder_row"),
    ]
    assert rows[0].auroc == pytest.approx(0.9)
    assert rows[0].n_indicators == 2
