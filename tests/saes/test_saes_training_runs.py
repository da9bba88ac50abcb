"""Training gives what sae-lens' trainer gives, and a killed run ends in the same weights."""

import itertools
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from mechprobe.activations.shuffling import ShuffledReader
from mechprobe.activations.store import ActivationStore
from mechprobe.errors import CheckpointError, ConfigError, ShapeError, StoreError
from mechprobe.saes.checkpoints import load_sae
from mechprobe.saes.lens import decoder_rows, import_sae_lens
from mechprobe.saes.training import runs
from mechprobe.saes.training.config import Architecture, SaeConfig
from mechprobe.saes.training.live import figures_line
from mechprobe.saes.training.progress import FOLDER
from mechprobe.saes.training.reading import TrainingRows
from mechprobe.saes.training.runs import SaeJob, fit_sae, train_sae, train_saes
from mechprobe.saes.training.trainer import Trainer
from mechprobe.saes.training.untrained import untrained_sae
from tests.saes.made_training import D_IN, HOOKS, N_TOKENS, planted_acts, write_training_store

pytestmark = pytest.mark.slow  # importing sae-lens alone takes many seconds

ARCHITECTURES = get_args(Architecture)
HOOK = HOOKS[0]
SHORT = SaeConfig(d_sae=40, k=3, n_steps=30, batch_size=128, lr=3e-3)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ActivationStore:
    return write_training_store(tmp_path_factory.mktemp("training") / "store")


def weights(folder: Path) -> bytes:
    return (folder / "sae_weights.safetensors").read_bytes()


def sae_lens_trainer(config: SaeConfig, sae: Any, scale: float) -> Any:
    settings = import_sae_lens("sae_lens.config").SAETrainerConfig(
        total_training_samples=config.n_steps * config.batch_size,
        train_batch_size_samples=config.batch_size,
        lr=config.lr,
        lr_end=config.lr,
        lr_warm_up_steps=round(config.lr_warm_up * config.n_steps),
        lr_decay_steps=round(config.lr_decay * config.n_steps),
        dead_feature_window=config.dead_window,
        feature_sampling_window=config.n_steps + 1,
    )
    trainer = import_sae_lens().SAETrainer(settings, sae, iter(()))
    trainer.activation_scaler.scaling_factor = scale
    return trainer


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_run_is_that_of_sae_lens_trainer(architecture: Architecture):
    config = replace(SHORT, architecture=architecture, n_steps=60, lr_warm_up=0.1, dead_after=12)
    acts = planted_acts(0)
    ours, theirs = (
        untrained_sae(config, d_in=D_IN, mean=0.3 * acts.mean(0), hook_name=HOOK) for _ in range(2)
    )
    theirs.W_enc.data = theirs.W_enc.data.contiguous()
    for name in ("l1_warm_up_steps", "l0_warm_up_steps"):
        if hasattr(theirs.cfg, name):
            setattr(theirs.cfg, name, 30 if architecture == "jumprelu" else 6)
    trainer, peer = Trainer(ours, config, scale=0.3), sae_lens_trainer(config, theirs, 0.3)
    generator = torch.Generator().manual_seed(1)
    # A number at the batch's cut-off may fall on either side of it by its last bit, and the runs part a little.
    late = 1e-2 if "batchtopk" in architecture else 1e-5
    for step in range(config.n_steps):
        rows = acts[torch.randperm(N_TOKENS, generator=generator)[:128]]
        trainer.step(rows)
        loss = float(peer.step(rows).loss.detach())
        tolerance = 1e-5 if step < 10 else late
        assert sum(trainer.losses.values()) == pytest.approx(loss, rel=tolerance)
    if late < 1e-2:
        assert torch.equal(trainer.dead, peer.dead_neurons)
    assert trainer.l0 == pytest.approx(float(peer.feature_sparsity.sum()), rel=1e-4)
    for (name, mine), other in zip(
        ours.state_dict().items(), theirs.state_dict().values(), strict=True
    ):
        assert float((mine - other).norm()) < 10 * late * float(other.norm()) + 1e-6, name


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_plain_sae_lens_loads_every_architecture_with_equal_output(
    store: ActivationStore, tmp_path: Path, architecture: Architecture
):
    config = replace(SHORT, architecture=architecture)
    fitted = fit_sae(store, HOOK, config)
    plain = import_sae_lens().SAE.load_from_disk(train_sae(store, HOOK, config, tmp_path / "sae"))
    saved_as = "jumprelu" if "batchtopk" in architecture else architecture
    assert plain.cfg.architecture() == saved_as
    assert plain.cfg.metadata.training_architecture == architecture
    assert (plain.cfg.metadata.hook_name, plain.cfg.metadata.model_name) == (HOOK, "org/toy")
    acts = store.acts(HOOK, slice(0, 200))
    with torch.no_grad():
        features = load_sae(tmp_path / "sae").encode(acts)
        assert torch.allclose(plain.encode(acts), features, rtol=1e-6, atol=1e-6)
        dense = fitted.encode(acts)
        if saved_as == "jumprelu" and architecture != "jumprelu":
            # In training the batch decides which are kept; afterwards a threshold.
            z = (acts - fitted.b_dec) @ fitted.W_enc + fitted.b_enc
            z = z * fitted.W_dec.norm(dim=-1)
            dense = z * (z > float(fitted.topk_threshold))
        close = (plain.encode(acts) - dense).abs() <= 1e-6 * dense.abs().max()
        assert close.all()
        norms = fitted.W_dec.norm(dim=-1) if config.keeps_k else torch.ones(40)
        wanted = (dense / norms) @ fitted.W_dec + fitted.b_dec
        gap = (plain.decode(features) - wanted).abs().max()
        assert float(gap) <= 2e-6 * float(wanted.abs().max())


@pytest.mark.parametrize("architecture", ["batchtopk", "topk", "jumprelu"])
def test_a_killed_run_goes_on_to_the_same_bits(
    store: ActivationStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    architecture: Architecture,
):
    revive = "resample" if architecture == "jumprelu" else "auto"
    config = replace(
        SHORT, architecture=architecture, ema=0.9, revive=revive, dead_after=5, sparsity=0.1
    )
    whole = train_sae(store, HOOK, config, tmp_path / "whole")
    step, steps = Trainer.step, itertools.count()

    def killed(self: Trainer, acts: Tensor, target: Tensor | None = None) -> Any:
        if next(steps) == 17:
            raise KeyboardInterrupt
        return step(self, acts, target)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", killed)
        with pytest.raises(KeyboardInterrupt):
            train_sae(store, HOOK, config, tmp_path / "killed", save_seconds=0.0)
    assert [path.name for path in (tmp_path / "killed").iterdir()] == [FOLDER]
    begun = count_steps(monkeypatch)
    train_sae(store, HOOK, config, tmp_path / "killed")
    assert len(begun) == config.n_steps - 17
    assert weights(tmp_path / "killed") == weights(whole)
    assert not (tmp_path / "killed" / FOLDER).exists()


def count_steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    step, seen = Trainer.step, list[int]()

    def counted(self: Trainer, acts: Tensor, target: Tensor | None = None) -> Any:
        seen.append(self.n_steps)
        return step(self, acts, target)

    monkeypatch.setattr(Trainer, "step", counted)
    return seen


def test_a_process_that_is_killed_leaves_a_state_to_go_on_from(
    store: ActivationStore, tmp_path: Path
):
    script = f"""
        import os, signal
        from pathlib import Path
        from mechprobe.activations.store import ActivationStore
        from mechprobe.saes.training import progress
        from mechprobe.saes.training.config import SaeConfig
        from mechprobe.saes.training.runs import train_sae
        flush = progress._flush
        def dying(path):
            if path.parent.name == ".writing" and "0000000033" in map(str, os.listdir(path.parents[1])):
                os.kill(os.getpid(), signal.SIGKILL)  # in the middle of writing a state
            flush(path)
        progress._flush = dying
        store = ActivationStore.open(Path({str(store.folder)!r}))
        config = {SHORT!r}
        train_sae(store, {HOOK!r}, config, Path({str(tmp_path / "killed")!r}), save_seconds=0.0)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False)
    assert done.returncode == -signal.SIGKILL
    train_sae(store, HOOK, SHORT, tmp_path / "killed")
    train_sae(store, HOOK, SHORT, tmp_path / "whole")
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")


def test_several_saes_in_one_pass_are_those_trained_alone(
    store: ActivationStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    configs = {
        "a": (HOOKS[0], SHORT),
        "b": (HOOKS[1], replace(SHORT, d_sae=64, k=2)),
        "c": (HOOKS[0], replace(SHORT, seed=4, order_seed=0, architecture="gated", n_steps=20)),
    }
    begun: list[tuple[str, ...]] = []
    batches = TrainingRows.batches
    with monkeypatch.context() as patch:
        patch.setattr(
            TrainingRows,
            "batches",
            lambda self, start=0: begun.append(self.hook_names) or batches(self, start),
        )
        jobs = [
            SaeJob(hook_name=hook, config=config, out=tmp_path / name)
            for name, (hook, config) in configs.items()
        ]
        train_saes(store, jobs)
    assert begun == [HOOKS, HOOKS]  # once for the means, once to train all three
    for name, (hook, config) in configs.items():
        alone = train_sae(store, hook, config, tmp_path / f"{name}-alone")
        assert weights(alone) == weights(tmp_path / name)
    with pytest.raises(ConfigError, match="give all the same batch_size and order_seed"):
        other = replace(jobs[1], config=replace(SHORT, seed=9), out=tmp_path / "d")
        train_saes(store, [replace(other, config=SHORT), other])


def test_batches_from_any_on_are_those_of_the_whole_stream(store: ActivationStore):
    reading = TrainingRows.of(store, slice(0, 1000), HOOKS, batch_size=96, seed=3)
    whole = [
        {name: acts.clone() for name, acts in batch.items()}
        for batch in itertools.islice(reading.batches(), 25)
    ]
    for start in (1, 10, 11, 21):
        again = next(reading.batches(start))
        assert all(torch.equal(again[name], whole[start][name]) for name in HOOKS)
    for name in HOOKS:  # each row once an epoch
        read = torch.cat([batch[name] for batch in whole])[:1000]
        rows = store.acts(name, slice(0, 1000))
        assert torch.equal(read[read[:, 0].argsort()], rows[rows[:, 0].argsort()])
    sample = reading.sample()
    assert torch.equal(sample[HOOKS[1]], torch.cat([batch[HOOKS[1]] for batch in whole[:11]]))


def test_the_average_of_the_weights_is_what_is_saved():
    config = replace(SHORT, architecture="topk", ema=0.5, scale_inputs=False)
    sae = untrained_sae(config, d_in=D_IN, mean=torch.zeros(D_IN), hook_name=HOOK)
    trainer = Trainer(sae, config, scale=1.0)
    average = sae.b_dec.detach().clone()
    for step in range(4):
        trainer.step(planted_acts(step)[:64])
        decay = min(0.5, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * sae.b_dec.detach()
    assert torch.allclose(trainer.finish().b_dec, average, atol=1e-6)


def test_training_stops_when_nothing_is_gained(store: ActivationStore):
    config = replace(SHORT, n_steps=4000, patience=40, min_gain=0.5, lr_decay=0.01)
    reading = TrainingRows.of(store, None, [HOOK], batch_size=128, seed=0)
    mean = store.acts(HOOK).mean(0)
    sae = untrained_sae(config, d_in=D_IN, mean=mean, hook_name=HOOK)
    trainer = Trainer(sae, config, scale=1.0)
    for batch in itertools.takewhile(lambda _: not trainer.is_done, reading.batches()):
        trainer.step(batch[HOOK])
    # The last gain is seen within the first looks; after 40 steps without one the rate falls for 1 % of the steps.
    assert trainer.n_steps == trainer.best[1] + 40 + 40 < 150


def test_dead_features_are_pointed_at_what_is_badly_explained():
    config = replace(
        SHORT, architecture="standard", d_sae=64, revive="resample", dead_after=10, n_steps=10_000
    )
    acts = planted_acts(0) - 10
    counts = {}
    for revive in ("resample", "none"):
        own = replace(config, revive=revive)
        sae = untrained_sae(own, d_in=D_IN, mean=torch.zeros(D_IN), hook_name=HOOK)
        with torch.no_grad():
            sae.b_enc[20:] = -100.0  # 44 features that no token reaches
        trainer = Trainer(sae, own, scale=1.0)
        for step in range(40):
            trainer.step(acts[(step % 8) * 256 : (step % 8 + 1) * 256])
        counts[revive] = int(trainer.dead.sum())
    assert counts["none"] >= 44
    assert counts["resample"] < 10


def test_decoder_rows_of_length_one_change_no_output(store: ActivationStore, tmp_path: Path):
    config = replace(SHORT, architecture="standard")
    free = load_sae(train_sae(store, HOOK, config, tmp_path / "free"))
    unit = load_sae(train_sae(store, HOOK, replace(config, unit_decoder=True), tmp_path / "unit"))
    acts = store.acts(HOOK, slice(0, 100))
    assert torch.allclose(decoder_rows(unit).norm(dim=-1), torch.ones(40), atol=1e-5)
    assert not torch.allclose(decoder_rows(free).norm(dim=-1), torch.ones(40), atol=1e-2)
    with torch.no_grad():
        assert torch.allclose(unit(acts), free(acts), atol=1e-4)


def test_the_live_line_tells_the_figures_of_the_batch():
    config = replace(SHORT, architecture="topk", scale_inputs=False)
    sae = untrained_sae(config, d_in=D_IN, mean=torch.zeros(D_IN), hook_name=HOOK)
    trainer = Trainer(sae, config, scale=1.0)
    for _ in range(10):
        trainer.step(planted_acts(0)[:128])
    line = figures_line(trainer, 0.61)
    assert f"loss {sum(trainer.losses.values()):.4g}, L0 3.0, EV " in line
    assert line.endswith("dead 0%, 61% of the matmul limit")


@pytest.mark.parametrize(
    ("factor", "message"),
    [
        (
            float("nan"),
            r"64 of 2048 rows of activations at blocks\.0\.hook_out hold NaN or infinite",
        ),
        (0.0, r"2048 of 2048 rows .* are one number in every dimension"),
    ],
)
def test_activations_that_cannot_be_learned_from_are_refused(
    store: ActivationStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    factor: float,
    message: str,
):
    step = ShuffledReader.__next__

    def broken(self: ShuffledReader) -> Any:
        batch = step(self)
        for acts in batch.values():  # NaN in four tokens of each of 16 batches, or zeros everywhere
            acts[: 4 if factor else None] *= factor
        return batch

    monkeypatch.setattr(ShuffledReader, "__next__", broken)
    with pytest.raises(StoreError, match=message):
        train_sae(store, HOOK, SHORT, tmp_path / "sae")
    with pytest.raises(ShapeError, match="no rows to train on"):
        train_sae(store, HOOK, SHORT, tmp_path / "sae", slice(0, 0))


def test_a_bad_row_beyond_the_first_batches_is_refused_in_its_step():
    sae = untrained_sae(SHORT, d_in=D_IN, mean=torch.zeros(D_IN), hook_name=HOOK)
    acts = planted_acts(0)[:128]
    acts[5, 3] = float("inf")
    with pytest.raises(StoreError, match="1 of 128 rows"):
        Trainer(sae, SHORT, scale=1.0).step(acts)


def test_a_damaged_state_is_refused(store: ActivationStore, tmp_path: Path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "clear_progress", lambda _: None)
        train_sae(store, HOOK, SHORT, tmp_path, save_seconds=0.0)
    (tmp_path / "record.json").unlink()
    state = next((tmp_path / FOLDER).glob("*/state.safetensors"))
    content = bytearray(state.read_bytes())
    content[-9] ^= 1
    state.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"damaged .* delete .* to train from the start"):
        train_sae(store, HOOK, SHORT, tmp_path)
    # The state of another run is not looked into.
    train_sae(store, HOOK, replace(SHORT, seed=1), tmp_path)


@pytest.mark.parametrize(
    "field",
    [
        {"architecture": "matryoshka_batchtopk", "levels": (512, 256, 1024)},
        {"architecture": "matryoshka_batchtopk", "levels": (256, 512)},
        {"levels": (256, 1024)},
        {"k": 20, "d_sae": 10},
        {"k_start": 2000},
        {"revive": "resample"},
        {"architecture": "standard", "revive": "auxiliary"},
        {"lr_decay": 1.5},
    ],
)
def test_settings_that_do_not_go_together_are_refused(field: dict[str, Any]):
    with pytest.raises(ConfigError):
        SaeConfig(**field)
