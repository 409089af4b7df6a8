"""The released files and their audit.

Nothing in the files is run, names are ours, and logs are cut as the report cuts them.
"""

import copy
import hashlib
import io
import os
import pickle
import sys
import types
import warnings
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch

from repro import ReproError, audit, datasets, scores, tables
from repro.catalogue import MODELS
from repro.cli import main
from repro.models import Autoencoder
from repro.records import Archive
from repro.records.estimates import Estimate, number
from repro.studies import curves, remeasured, similarity
from repro.studies.audit import CellVerdict
from repro.studies.captions import METRIC_TITLES
from repro.studies.similarity import SsimVerdict
from repro.training import released_files
from repro.words.exhibits import released_runs
from tests.helpers import Attack, copy_logs, record_in_memory

HERE = os.environ.get("REPRO_DATA_DIR")
needs_files = pytest.mark.skipif(
    not HERE or not os.path.isdir(f"{HERE}/published"), reason="the released files are not here"
)


@pytest.fixture(scope="module")
def archive():
    """The committed records."""
    return Archive()


# The released weights


def torch_1_4_network(module, name, layers):
    """A network of a class that ``module`` holds, with linear layers of these sizes."""
    cls = type(name, (torch.nn.Module,), {"__module__": module.__name__})
    setattr(module, name, cls)
    network = cls()
    for layer, (inputs, outputs) in layers.items():
        setattr(network, layer, torch.nn.Linear(inputs, outputs))
    return network


def saved_as_by_torch_1_4(network):
    """The bytes of a network saved whole, in the legacy format."""
    saved = copy.deepcopy(network)
    kept = {"training", "_parameters", "_buffers", "_modules"}
    for part in saved.modules():
        for name in {*vars(part)} - kept:  # torch 1.4 did not have these
            del part.__dict__[name]
    file = io.BytesIO()
    with warnings.catch_warnings(action="ignore"):  # about source code that cannot be found
        torch.save(saved, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def as_torch_1_4(hidden, latent):
    """A model and the file of it, made as the released ones: its classes are of ``model``."""
    module = types.ModuleType("model")
    encoder = {
        "fc11": (784, hidden),
        "fc12": (hidden, hidden),
        "fc21": (hidden, latent),
        "fc22": (hidden, latent),
    }
    decoder = {"fc31": (latent, hidden), "fc32": (hidden, hidden), "fc4": (hidden, 784)}
    sys.modules["model"] = module
    try:
        vae = torch_1_4_network(module, "VAE", {})
        vae.encoder = torch_1_4_network(module, "Encoder", encoder)
        vae.decoder = torch_1_4_network(module, "Decoder", decoder)
        return vae, saved_as_by_torch_1_4(vae)
    finally:
        del sys.modules["model"]


def hostile(payload):
    """A file that starts like a released one and then names a function."""
    start = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    return b"".join(pickle.dumps(part, 2) for part in (*start, payload))


def test_a_pickle_that_names_anything_else_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"it names (posix|nt)\.system, which is refused"):
        released_files.parameters_in(hostile(Attack()))
    with pytest.raises(ValueError, match=r"it names __builtin__\.eval, which is refused"):
        released_files.parameters_in(hostile({"model": eval}))
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "damage",
    [lambda raw: raw[:-9], lambda raw: b"", lambda raw: raw[:2000], lambda raw: b"PK" + raw],
)
def test_a_damaged_file_is_one_error(damage):
    _, raw = as_torch_1_4(11, 3)
    with pytest.raises(ValueError, match=r"not a model of the report|buffer"):
        released_files.parameters_in(damage(raw))


def test_layers_get_our_names_and_the_same_numbers():
    vae, raw = as_torch_1_4(200, 50)
    model = Autoencoder(MODELS["reference"], [0])
    model.load_run_state(0, released_files.parameters_in(raw))
    x = torch.rand(7, 784)
    h = torch.tanh(vae.encoder.fc12(torch.tanh(vae.encoder.fc11(x))))
    mu, sigma = model.encoder(x[None])
    torch.testing.assert_close(mu[0], vae.encoder.fc21(h))
    torch.testing.assert_close(sigma[0], torch.nn.functional.softplus(vae.encoder.fc22(h)))
    z = torch.randn(7, 50)
    expected = vae.decoder.fc4(torch.tanh(vae.decoder.fc32(torch.tanh(vae.decoder.fc31(z)))))
    torch.testing.assert_close(model.decoder(z[None])[0], expected)


def test_a_file_with_other_contents_is_refused(tmp_path):
    e = released_runs()[0]
    name, blob = released_files.file_and_blob(e)
    path = tmp_path / "published" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not it")
    damaged = r"is damaged \(its contents have [0-9a-f]{40}\)"
    expected = f"git blob id {blob}"
    with pytest.raises(ReproError, match=f"{damaged}.*{expected}"):
        released_files.released_weights(e, tmp_path)


@needs_files
@pytest.mark.parametrize("e", released_runs(), ids=lambda e: f"{e.setting}-{e.method}")
def test_every_released_model_loads(e):
    model = Autoencoder(MODELS[e.model], [0])
    model.load_run_state(0, released_files.released_weights(e))


@needs_files
def test_a_released_model_is_a_trained_one():
    model = Autoencoder(MODELS["reference"], [0])
    model.load_run_state(0, released_files.released_weights(released_runs()[0]))
    images = datasets.load("mnist").test[:400]
    assert -92 < scores.iwae_bound(model, images, [0], "test").mean() < -80


# The released logs


def test_blocks_of_a_log_end_where_the_reports_plots_end(monkeypatch):
    e = released_runs()[0]
    values = np.arange(3281.0)
    log = {"iwae_64": values + 1, "log_px": values}
    monkeypatch.setattr(remeasured, "released_log", lambda e, folder: log)
    blocks = pd.DataFrame(remeasured.log_blocks(e))
    assert len(blocks) == 164
    assert blocks.last_epoch.iloc[-1] == 3280
    assert blocks.log_px_mean.iloc[-1] == values[3260:3280].mean()
    assert (blocks.gap_mean == 1).all()


@pytest.fixture
def planted_log(monkeypatch):
    """A log of 3280 epochs, which rises by 5 nats per 1000 of them and is flat for the last 80.

    The choice of epoch 1000 stands out.
    """
    epochs = np.arange(3280)
    log_px = np.minimum(-100.0 + epochs / 200, -84.0)
    choice = log_px.copy()
    choice[999] += 20.0
    log = {"iwae_64": log_px - 1, "log_px": log_px, "choice": choice}
    monkeypatch.setattr(remeasured, "released_log", lambda e, folder: log)
    return log


def checkpoint():
    """The row of the first released run."""
    (row,) = remeasured.log_checkpoint(released_runs()[0])
    return types.SimpleNamespace(**row)


def test_the_best_checkpoint_is_that_of_the_highest_choice(planted_log):
    log_px, choice = planted_log["log_px"], planted_log["choice"]
    row = checkpoint()
    assert row.best_epoch == 1000
    assert row.epochs == 3280
    assert row.batches == 64
    assert not row.continued
    assert row.highest_choice == choice[999]
    assert row.log_px_there == pytest.approx(log_px[989:1009].mean())
    assert row.highest_choice_by_40 == choice[39]
    assert row.highest_iwae_64 == log_px[3279] - 1
    assert row.choice_sd == pytest.approx(0, abs=1e-9)
    thousands = np.arange(3280)[-410:] / 1000  # the slope is that of the last eighth
    assert row.slope == pytest.approx(np.polyfit(thousands, log_px[-410:], 1)[0])


def test_the_best_checkpoint_of_a_continued_training_is_not_told(planted_log):
    """The line too many is after the end of the report's plots, and changes nothing else."""
    before = checkpoint()
    for name, values in planted_log.items():
        planted_log[name] = np.append(values, 0.0)
    again = checkpoint()
    assert again.continued
    assert pd.isna(again.best_epoch)
    assert pd.isna(again.log_px_there)
    assert again.slope == before.slope
    assert again.highest_choice == before.highest_choice


@pytest.mark.parametrize(
    ("leads", "epoch"),
    [
        ([1, 0.5, -0.1, -0.2], 60),
        ([1, -0.5, 0.1, -0.2], 80),
        ([1, -1, -1, 1], None),
        ([-1, -1, -1, -1], 20),
    ],
)
def test_a_lead_is_passed_where_it_falls_below_0_for_good(leads, epoch):
    assert curves.passed_for_good(pd.Series(leads, [20, 40, 60, 80])) == epoch


# The audit of Table 1


def test_the_printed_table_is_the_logs(archive):
    """All 30 cells of the report's Table 1, to the digit, from the committed summary of logs."""
    cells = audit.cells_of_table1(archive)
    assert len(cells) == 30
    for c in cells:
        column = "gap_mean" if c.metric == "minus_kl" else f"{c.metric}_mean"
        assert abs(c.printed - c.block[column]) < 0.0051
    assert audit.findings(archive)[0].startswith("**30 of 30**")


def test_what_a_printed_cell_may_differ_by_is_the_logs_noise_and_the_subsets():
    """Of one evaluation and a mean of 20, and of 1,280 images of 10,000 in 20 epochs."""
    values = np.random.default_rng(0).normal(-86, 6, 10_000)
    record = record_in_memory(metrics={"log_px": {"value": -86.0}}, images={"log_px": values})
    block = pd.Series({"log_px_sd": 0.2})
    whole = 0.2 * (1 + 1 / 20) ** 0.5
    variance = values.var(ddof=1)
    subset = ((variance / 1280 - variance / 10_000) / 20) ** 0.5
    expected = {"log_px": whole, "iwae_64": (whole**2 + subset**2) ** 0.5, "minus_kl": subset}
    for metric, error in expected.items():
        cell = audit.Cell("reference", metric, "iwae", record, block)
        assert cell.error == pytest.approx(error, rel=1e-9)
        centre = 0.0 if metric == "minus_kl" else -86.0
        ends = (centre - 1.96 * error, centre + 1.96 * error)
        assert cell.interval == pytest.approx(ends, rel=1e-9)


@pytest.fixture(scope="module")
def as_released():
    """Cells made as the released code makes them from known values of log p-hat.

    150 pairs of the cells by metric and a record of the weights evaluated once more, each with the
    noise of its own evaluation; and the log's last block.
    """
    g = np.random.default_rng(1)
    values = g.gamma(2.0, 10.0, 4000)
    noise = 0.05

    def cell():
        in_epochs = [g.permutation(values)[: audit.SUBSET].mean() for _ in range(20)]
        shared_noise = g.normal(0, noise, 20).mean()
        subset = np.mean(in_epochs) + shared_noise
        everything = values.mean() + shared_noise
        return {"iwae_64": subset, "log_px": everything, "minus_kl": subset - everything}

    def record():
        measured = values.mean() + g.normal(0, noise)
        return record_in_memory(None, {"log_px": {"value": measured}}, {"log_px": values})

    return [(cell(), record()) for _ in range(150)], pd.Series({"log_px_sd": noise})


@pytest.mark.parametrize("metric", METRIC_TITLES)
def test_the_interval_of_the_released_procedure_holds_what_it_gives(as_released, metric):
    """In about 95 % of cases."""
    pairs, block = as_released
    inside = []
    for cell, record in pairs:
        low, high = audit.Cell("reference", metric, "iwae", record, block).interval
        inside.append(low <= cell[metric] <= high)
    assert 0.88 <= np.mean(inside) < 1


@pytest.mark.parametrize(
    ("metric", "z", "inside", "verdict"),
    [
        ("log_px", 0.5, True, CellVerdict.CONFIRMED),
        ("log_px", -4.0, True, CellVerdict.DIFFERS),
        ("iwae_64", 10.0, True, CellVerdict.NOT_IWAE_64),
        ("iwae_64", 1.0, True, CellVerdict.NOT_SHOWN_WRONG),
        ("minus_kl", 8.0, True, CellVerdict.NOISE),
        ("minus_kl", 8.0, False, CellVerdict.NOT_THE_GAP),
    ],
)
def test_verdicts_follow_from_z(metric, z, inside, verdict):
    cell = types.SimpleNamespace(metric=metric, z=z, inside=inside)
    assert audit.Cell.verdict.fget(cell) is verdict


@pytest.mark.parametrize(
    "made", [audit.table, similarity.ssim_table, audit.paired, audit.closeness]
)
def test_tables_of_nothing_measured_say_so(tmp_path, made):
    copy_logs(tmp_path)
    table = made(tmp_path)
    assert "not run" in tables.as_strings(table).to_string()
    assert table.attrs["missing"] == ["python -m repro audit"]


def test_a_printed_cell_is_inside_its_interval_if_it_is_near_the_centre(archive):
    """The centre is log p-hat of the weights, or 0 for the gap; near is 1.96 standard errors."""
    outcomes = set()
    for c in audit.cells_of_table1(archive):
        centre = 0 if c.metric == "minus_kl" else c.record.metrics["log_px"]["value"]
        assert c.inside == (abs(c.printed - centre) <= 1.96 * c.error)
        outcomes.add(c.inside)
    assert outcomes == {True, False}


def test_measured_differences_are_paired_and_closeness_is_that_of_the_images(archive):
    """Against the images of committed records."""
    piwae, iwae = (archive.released["mnist", "reference", m].images for m in ("piwae", "iwae"))
    cells = tables.as_strings(audit.paired(archive))
    said = number(np.mean(piwae["iwae_64"] - iwae["iwae_64"]))
    assert said in cells.loc[("mnist, reference", "IWAE-64"), "PIWAE − IWAE"]
    cells = tables.as_strings(audit.closeness(archive))
    shown = cells.loc[("mnist, reference", "ELBO − log p̂(x)"), "IWAE(64)"]
    assert shown.startswith(f"{number(np.mean(iwae['elbo'] - iwae['log_px']))} ± ")


# Drawers


def test_drawers_are_told_apart(tmp_path, monkeypatch):
    """Drawings of drawer d are all d / 20 grey: the means of drawers, and of groups of them."""
    grey = []
    for drawers in datasets.DRAWERS.values():
        shades = torch.tensor([d / 20 for d in drawers]).repeat(6)
        grey.append(shades[:, None].expand(-1, 784))

    def load(name, folder):
        return datasets.Dataset(name, "planted", *grey)

    def iwae_bound(model, images, seeds, purpose):
        return images.mean(1)[None] * -100

    def summary(e, *given):
        return [{"a": 1}]

    monkeypatch.setattr(remeasured, "model_of", mock.MagicMock())
    monkeypatch.setattr(released_files, "released_weights", lambda e, data: None)
    monkeypatch.setattr(scores, "iwae_bound", iwae_bound)
    monkeypatch.setattr(datasets, "load", load)
    for name in remeasured.MEASURED.keys() - {"drawers"}:
        monkeypatch.setitem(remeasured.MEASURED, name, (summary, "model"))
    monkeypatch.setattr(remeasured, "remeasure", lambda *given: None)
    assert main(["audit", "--results", str(tmp_path)]) == 0

    rows = Archive(tmp_path).table("drawers")[0]
    assert np.allclose(rows.iwae_64, -5.0 * rows.drawer, atol=1e-4)
    assert set(rows.images) == {2}
    cells = tables.as_strings(audit.drawers(tmp_path))
    assert cells.loc[("IWAE-64", "drawers 1 to 15"), "VAE"].startswith("−40.00 ± ")
    assert cells.loc[("IWAE-64", "difference"), "VAE"].startswith("−50.00 ± ")
    assert cells.loc[("minus IWAE's", "drawers 16 to 20"), "MIWAE(8,8)"] == "0.00 ± 0.00"


# SSIM of other checkpoints


@pytest.mark.parametrize(
    ("printed", "again", "checkpoint", "verdict"),
    [
        (0.736, 0.74, 0.728, SsimVerdict.CONFIRMED),
        (0.7325, 0.74, 0.728, SsimVerdict.CHECKPOINT),
        (0.722, 0.74, 0.728, SsimVerdict.DIFFERS),
        (0.7325, 0.74, None, SsimVerdict.DIFFERS),
        (0.7, None, 0.7, None),
    ],
)
def test_a_printed_ssim_may_be_that_of_the_best_checkpoint(printed, again, checkpoint, verdict):
    measured = [None if value is None else Estimate(value) for value in (again, checkpoint)]
    assert similarity.Comparison(Estimate(printed, digits=3), *measured).verdict is verdict


@pytest.mark.parametrize(
    ("title", "dataset", "metric"),
    [
        ("Figure 5: mnist to mnist", "mnist", "ssim"),
        ("Figure 6: omniglot to omniglot", "omniglot", "ssim"),
        ("Table 2: mnist to omniglot", "mnist", "ssim_on_omniglot-lake"),
        ("Table 2: omniglot to omniglot", "omniglot", "ssim"),
    ],
)
def test_a_printed_ssim_stands_beside_that_of_its_weights(archive, title, dataset, metric):
    for method, c in similarity.comparisons(archive)[title].items():
        measured = archive.released[dataset, "reference", method].metrics[metric]
        assert (c.again.value, c.again.se) == (measured["value"], measured["sd"])


def test_every_printed_ssim_is_the_best_checkpoints(archive):
    """To within 0.002 where three digits are printed, and half of the last where two are."""
    for title, row in similarity.comparisons(archive).items():
        near = 0.0021 if title.startswith("Figure") else 0.0055
        for c in row.values():
            assert abs(c.printed.value - c.checkpoint.value) < near


def test_the_best_checkpoint_is_the_last_epochs_just_where_training_was_continued(archive):
    best = archive.table("best")[0].set_index(["setting", "method"])
    chosen = archive.table("checkpoints")[0].set_index(["setting", "method"])
    assert best.is_the_last.sum() == 4
    assert (best.is_the_last == chosen.continued.loc[best.index]).all()


def test_the_best_checkpoint_is_measured_as_the_last_epoch_is():
    """Of the same weights, SSIM of either is the same to the last bit."""
    model = Autoencoder(MODELS["reference"], [0])
    images = datasets.load("digits").test[:20]
    (here,) = scores.mean_ssim(model, images, [0], "evaluate")
    (values,) = scores.measure(model, images, [0], log_px_samples=64)
    assert here["value"] == values["ssim"].mean()


def test_figure_4_is_summed_up_as_the_parabolas_nearest_to_its_curves(tmp_path, monkeypatch):
    """Planted curves: one a parabola, one with a point moved by 0.03."""
    beta = np.linspace(0.1, 0.9, 81).round(2)
    fixed = 2 * beta**2 - beta - 80
    learned = fixed + 1
    learned[40] += 0.03
    table = pd.DataFrame({"beta": beta, "iwae_64_fixed": fixed, "iwae_64_learned": learned})
    path = tmp_path / "published" / "figure4.csv"
    path.parent.mkdir()
    table.to_csv(path, index=False)
    with pytest.raises(ReproError, match="its contents have"):
        remeasured.figure4_parabolas(tmp_path)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(remeasured, "FIGURE4_SHA256", found)
    rows = remeasured.figure4_parabolas(tmp_path).set_index("curve")
    assert rows.loc["fixed", "at_0.5"] == pytest.approx(-80)
    assert rows.loc["fixed", "furthest"] < 1e-9
    assert rows.loc["learned", "furthest"] == pytest.approx(0.03, abs=0.001)
    assert rows.points.tolist() == [81, 81]


def test_without_the_file_the_command_says_so(tmp_path, capsys):
    remeasured.sum_up_figure4(Archive(tmp_path / "results"), tmp_path)
    assert "Figure 4 will be left out" in capsys.readouterr().out


def test_how_far_log_px_can_be_trusted_is_shown_for_each_model(tmp_path):
    rows = []
    for place, e in enumerate(released_runs()[:5]):
        measured = {"images": 1000, "khat_median": 0.5, "khat_above": place / 10}
        deep = {"deep_images": 200, "rise": 0.125, "rise_se": 0.01, "predicted": 0.1}
        rows.append({"setting": e.setting, "method": e.method} | measured | deep)
    about = {"commit": "c0ffee", "device": "a machine"}
    Archive(tmp_path).write_table("proposals", pd.DataFrame(rows), about)
    cells = tables.as_strings(audit.proposals(tmp_path))
    setting = rows[0]["setting"].replace("-", " ")
    shares = cells.loc[(setting, "k̂ above 0.7, share of images")]
    assert sorted(shares) == ["0.00", "0.10", "0.20", "0.30", "0.40"]
    rise = cells.loc[(setting, "log p̂ rises with ten times the samples"), "IWAE(64)"]
    assert rise == "0.125 ± 0.010"
