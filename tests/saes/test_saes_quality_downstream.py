"""What the model loses by an SAE is what sae-lens says it loses, and the error term is all that the SAE leaves out."""

import numpy as np
import pytest
import torch

from mechprobe.errors import ShapeError
from mechprobe.models.batches import TokenBatch
from mechprobe.models.subject import Subject
from mechprobe.saes.checkpoints import load_sae
from mechprobe.saes.encoding import encode_rows
from mechprobe.saes.lens import Sae, import_sae_lens
from mechprobe.saes.measuring.downstream import ARMS, loss_recovered, token_losses
from mechprobe.saes.quality import TOKEN_FIGURES, token_figures
from mechprobe.study.shipped import shipped_folder

pytestmark = pytest.mark.slow  # importing sae-lens alone takes many seconds

HOOK = "blocks.0.hook_out"


@pytest.fixture(scope="module")
def subject() -> Subject:
    return Subject.load(shipped_folder("sae_checkpoints") / "organism-natural")


@pytest.fixture(scope="module")
def sae() -> Sae:
    return load_sae(shipped_folder("sae_checkpoints") / "organism-natural-sae" / HOOK)


@pytest.fixture(scope="module")
def sequences() -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [rng.integers(5, 80, 24).tolist() for _ in range(6)]


def test_losses_are_those_of_sae_lens(subject: Subject, sae: Sae, sequences: list[list[int]]):
    evals = import_sae_lens("sae_lens.evals")
    scaler = import_sae_lens("sae_lens.training.activation_scaler").ActivationScaler()
    found = evals.get_recons_loss(
        sae,
        subject.bridge,
        scaler,
        torch.tensor(sequences),
        compute_kl=True,
        compute_ce_loss=True,
        hook_name=HOOK,
    )
    table = loss_recovered(subject, sae, HOOK, sequences).set_index("arm")
    ours = [table.loc["reconstruction", "ce"], table.loc["reconstruction", "ce_clean"]]
    ours.append(table.loc["zero", "ce"])
    names = ("ce_loss_with_sae", "ce_loss_without_sae", "ce_loss_with_ablation")
    assert ours == pytest.approx([float(found[name].mean()) for name in names], abs=1e-4)
    # sae-lens averages the divergence over all positions, ours over those whose next token is known.
    wanted = [found[f"kl_div_with_{arm}"][:, :-1].mean() for arm in ("sae", "ablation")]
    assert list(table.loc[["reconstruction", "zero"], "kl"]) == pytest.approx(
        [float(kl) for kl in wanted], abs=1e-4
    )
    score = (ours[2] - ours[0]) / (ours[2] - ours[1])
    assert table.loc["reconstruction", "ce_score"] == pytest.approx(score)
    assert table.loc["zero", "ce_score"] == 0.0


def test_figures_of_tokens_are_those_of_sae_lens(
    subject: Subject, sae: Sae, sequences: list[list[int]]
):
    acts = subject.capture(TokenBatch.of(sequences, subject.pad_id), [HOOK])[HOOK].flatten(0, 1)
    feature_acts = sae.encode(acts)
    out = sae.decode(feature_acts)
    figures = token_figures(acts.double().numpy(), out.detach().double().numpy()).mean(0)
    by_name = dict(zip(TOKEN_FIGURES, figures, strict=True))
    cosine = torch.nn.functional.cosine_similarity(acts, out, dim=-1).mean()
    assert by_name["cosine"] == pytest.approx(float(cosine), abs=1e-5)
    assert by_name["error"] == pytest.approx(float((acts - out).pow(2).sum(-1).mean()), rel=1e-5)
    assert encode_rows(sae, acts).getnnz() == int((feature_acts != 0).sum())


def test_an_sae_that_leaves_nothing_out_loses_nothing(subject: Subject, sequences: list[list[int]]):
    sae_lens = import_sae_lens()
    width = subject.width(HOOK)
    perfect = sae_lens.StandardSAE(sae_lens.StandardSAEConfig(d_in=width, d_sae=2 * width))
    with torch.no_grad():
        perfect.W_dec.copy_(torch.cat([torch.eye(width), -torch.eye(width)]))
        perfect.W_enc.copy_(perfect.W_dec.T)
        perfect.b_enc.zero_()
        perfect.b_dec.zero_()
    table = loss_recovered(subject, perfect, HOOK, sequences).set_index("arm")
    assert table.loc["reconstruction", "ce"] == pytest.approx(
        table.loc["reconstruction", "ce_clean"], abs=1e-5
    )
    assert table.loc["reconstruction", "kl"] == pytest.approx(0.0, abs=1e-6)
    # Its error term is nothing, so that the error arm is the mean arm.
    assert table.loc["error", "ce"] == pytest.approx(table.loc["mean", "ce"], abs=1e-4)
    assert table.loc["mean", "ce"] > table.loc["mean", "ce_clean"] + 0.05


def test_subsets_are_parts_of_the_whole(subject: Subject, sae: Sae, sequences: list[list[int]]):
    short = [*sequences, [7, 9, 11]]
    marks = [[at % 3 == 0 for at in range(len(sequence))] for sequence in short]
    table = loss_recovered(
        subject, sae, HOOK, short, {"third": marks, "none": [[False] * len(s) for s in short]}
    )
    assert set(table["subset"]) == {"all", "third"}
    mean = torch.zeros(subject.width(HOOK))
    losses = token_losses(subject, sae, HOOK, short, mean)
    alone = token_losses(subject, sae, HOOK, short[-1:], mean)
    assert np.allclose(losses.ce[:, -2:], alone.ce, atol=1e-5)  # padding changes nothing
    chosen = np.concatenate([np.array(mark)[:-1] for mark in marks])
    row = table[(table["subset"] == "third") & (table["arm"] == "reconstruction")].iloc[0]
    assert row["n_tokens"] == chosen.sum()
    assert row["ce"] == pytest.approx(
        losses.ce[ARMS.index("reconstruction"), chosen].mean(), abs=1e-6
    )
    with pytest.raises(ShapeError, match="'bad' marks other numbers"):
        loss_recovered(subject, sae, HOOK, short, {"bad": marks[:-1]})
    with pytest.raises(ShapeError, match="at least two tokens"):
        loss_recovered(subject, sae, HOOK, [[3]])
