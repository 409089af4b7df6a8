"""The signal-to-noise ratio of the gradients: closed forms, the theory's rates, and what was measured."""

import numpy as np
import pandas as pd
import pytest
import torch

from repro import ReproError, records, snr, tables
from repro.bounds import METHODS
from repro.data import Streams
from repro.models import Architecture, Autoencoder

NEAR, FAR = (offset for offset, _ in snr.LINEAR_GAUSSIAN.values())


def test_estimates_of_the_elbo_have_the_closed_forms_mean_and_variance():
    """d log w / d mu = z - mu and d log w / d b = mu + x - 2 z: means in closed form, variances sigma^2 and 4 sigma^2."""
    x, mu, mean = snr.problem(0, NEAR)
    theta, phi, ess = snr.gradients("vae", 1, 1, 20_000, 0, NEAR)
    for estimates, expected, variance in ((theta, mean - mu, snr.SIGMA**2), (phi, mu + x - 2 * mean, 4 * snr.SIGMA**2)):
        assert ((estimates.mean(0) - expected).abs() < 5 * (variance / 20_000) ** 0.5).all()
        signal, noise = snr.squares(estimates)
        assert noise == pytest.approx(snr.D * variance, rel=0.02)
        length = float(expected.norm())
        assert signal == pytest.approx(length**2, abs=5 * (2 * length * (variance / 20_000) ** 0.5 + noise / 20_000))
    torch.testing.assert_close(ess, torch.ones_like(ess))


def test_gradients_are_those_of_the_density():
    """Against log-densities by torch.distributions, K = 5, M = 3, PIWAE: theta has IWAE's bound and phi MIWAE's."""
    from torch.distributions import Normal

    x, mu, mean = snr.problem(0, NEAR)
    eps = torch.randn(3, 5, 1, snr.D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    mu_, mean_ = mu.clone().requires_grad_(), mean.clone().requires_grad_()
    z = mean_ + snr.SIGMA * eps
    log_w = (Normal(mu_, 1).log_prob(z) + Normal(z, 1).log_prob(x) - Normal(mean_, snr.SIGMA).log_prob(z)).sum(-1)
    theta, phi = METHODS["piwae"](log_w, log_w)
    (at_mu,) = torch.autograd.grad(theta.sum(), mu_, retain_graph=True)
    (at_b,) = torch.autograd.grad(phi.sum(), mean_)
    ours = snr.gradients("piwae", 3, 5, 1, 0, NEAR)
    w = log_w.detach().flatten().softmax(0)
    for found, expected in zip(ours, (at_mu, at_b, 1 / (w @ w)), strict=True):
        torch.testing.assert_close(found[0], expected)


def test_known_signal_and_noise_are_recovered_without_bias():
    """A signal of a tenth of what the noise leaves in the mean of so few estimates."""
    g = torch.Generator().manual_seed(0)
    n, signal = 500, 0.1 / 500**0.5
    found = np.array([snr.squares(signal + torch.randn(n, 20, generator=g, dtype=torch.float64)) for _ in range(4000)])
    expected, errors = np.array([20 * signal**2, 20]), found.std(0) / 4000**0.5
    assert (np.abs(found.mean(0) - expected) < 4 * errors).all()
    assert 5 * errors[0] < 20 / n, "a bias of noise / n would be seen"


def planted(power, draws=10):
    """Rows whose ratios follow a power law in K, each draw its own size."""
    g = np.random.default_rng(0)
    layouts = [(m, M, K) for m, M, K in snr.LAYOUTS]
    return pd.DataFrame(
        [
            {"method": m, "M": M, "K": K, "draw": d, "ess": 1.0}
            | {f"{net}_signal": size * K ** (2 * power[net]) for net in power}
            | {f"{net}_noise": 1.0 for net in power}
            for d in range(draws)
            for size in [g.uniform(1, 2)]
            for m, M, K in layouts
        ]
    )


def test_planted_exponents_are_found_and_errors_are_those_of_the_draws():
    rows = planted({"theta": 0.5, "phi": -0.25})
    for net, power in (("theta", 0.5), ("phi", -0.25)):
        value, error = snr.with_jackknife(rows, lambda r, net=net: snr.exponent(r, net, (4, 64)))
        assert (value, error) == (pytest.approx(power), pytest.approx(0, abs=1e-12))
    sizes = snr.select(rows, ("iwae", 1, 1)).theta_signal
    assert snr.ratio(rows, ("iwae", 1, 1), "theta") == pytest.approx(sizes.mean() ** 0.5)
    value, error = snr.with_jackknife(rows, lambda r: snr.select(r, ("iwae", 1, 1)).theta_signal.mean())
    assert (value, error) == (pytest.approx(sizes.mean()), pytest.approx(sizes.sem()))


def test_near_the_optimum_the_rates_are_the_theorys():
    """From K = 16 to 256 in one problem, 10,000 estimates; and the root of M for independent groups."""
    rows = pd.DataFrame([snr.row("here", ("iwae", 1, K), 0, *snr.gradients("iwae", 1, K, 10_000, 0, NEAR)) for K in (16, 256)])
    assert snr.exponent(rows, "theta", (16, 256)) == pytest.approx(0.5, abs=0.02)
    assert snr.exponent(rows, "phi", (16, 256)) == pytest.approx(-0.5, abs=0.15)
    one, sixteen = (snr.row("here", ("miwae", M, 8), 0, *snr.gradients("miwae", M, 8, 10_000, 0, NEAR)) for M in (1, 16))
    for net in ("theta", "phi"):
        ratios = [(r[f"{net}_signal"] / r[f"{net}_noise"]) ** 0.5 for r in (one, sixteen)]
        assert ratios[1] / ratios[0] == pytest.approx(4, rel=0.1)


@pytest.fixture
def tiny():
    """A model of one run, in double precision."""
    return Autoencoder(Architecture(hidden=4, latent=2, pixels=6), [0]).double()


def test_gradients_in_a_network_are_those_of_the_density(tiny):
    """Against log-densities by torch.distributions, M, K, batch = 3, 5, 7, PIWAE."""
    from torch.distributions import Bernoulli, Normal

    x = torch.rand(1, 7, 6, dtype=torch.float64).round()
    *ours, ess = snr.network_gradients(tiny, x, METHODS["piwae"], 3, 5, lambda shape: Streams([1], "test", "cpu").normal(shape).double())
    eps = Streams([1], "test", "cpu").normal((15, 7, 2)).double()
    mu, sigma = (s[:, None] for s in tiny.encoder(x))
    z = mu + sigma * eps
    logits = tiny.decoder(z.flatten(1, 2)).view(1, 15, 7, 6)
    log_w = (Normal(0, 1).log_prob(z) - Normal(mu, sigma).log_prob(z)).sum(-1) + Bernoulli(logits=logits).log_prob(x[:, None]).sum(-1)
    w = log_w.exp().view(3, 5, 7)
    for found, bound, net in zip(ours, (w.mean((0, 1)).log(), w.mean(1).log().mean(0)), (tiny.decoder, tiny.encoder), strict=True):
        expected = torch.autograd.grad(bound.mean(), [*net.parameters()], retain_graph=True)
        torch.testing.assert_close(found, torch.cat([g.flatten() for g in expected]))
    torch.testing.assert_close(ess, (w.sum((0, 1)) ** 2 / (w**2).sum((0, 1))).mean())


def test_in_a_network_only_the_samples_of_z_differ_between_replicates(tiny, monkeypatch):
    """The rows are those of a plain loop over replicates, with one binarised batch for each draw."""
    seen, real = [], snr.network_gradients

    def spy(model, x, *rest):
        seen.append((x, *real(model, x, *rest)))
        return seen[-1][1:]

    monkeypatch.setattr(snr, "network_gradients", spy)
    images = torch.rand(9, 6, generator=torch.Generator().manual_seed(0))
    rows = [*snr.in_network("here", tiny.float(), images, batches=2, replicates=4, batch_size=3)]
    assert [(r["draw"], r["method"], r["M"], r["K"]) for r in rows] == [(d, *layout) for d in range(2) for layout in snr.LAYOUTS]
    half = len(seen) // 2
    for part in (seen[:half], seen[half:]):
        assert all(torch.equal(x, part[0][0]) for x, *_ in part)
    assert not torch.equal(seen[0][0], seen[half][0])
    theta = torch.stack([s[1] for s in seen[:4]]).double()  # the first layout's four replicates
    assert len({tuple(t.tolist()) for t in theta}) == 4
    noise = ((theta - theta.mean(0)) ** 2).sum() / 3
    assert rows[0]["theta_noise"] == pytest.approx(float(noise))
    assert rows[0]["theta_signal"] == pytest.approx(float((theta.mean(0) ** 2).sum() - noise / 4))
    assert rows == [*snr.in_network("here", tiny, images, batches=2, replicates=4, batch_size=3)]


@pytest.mark.parametrize("where", snr.PLACES)
def test_measured_ratios_have_what_must_hold_and_what_the_pages_say(where):
    """64 independent estimates have 8 times the ratio of one; IWAE's gradient is the least clear of all, for both networks."""
    rows = records.read_table("gradients")[0]
    rows = rows[rows["where"] == where]
    assert len(rows) == len(snr.LAYOUTS) * rows.draw.nunique()
    for net in ("theta", "phi"):
        assert snr.ratio(rows, ("vae", 64, 1), net) / snr.ratio(rows, ("iwae", 1, 1), net) == pytest.approx(8, rel=0.08)
        assert min(snr.AT_T, key=lambda layout, net=net: snr.ratio(rows, layout, net)) == ("iwae", 1, 64)


def test_a_changed_table_is_refused(tmp_path):
    with pytest.raises(ReproError, match="make it with: python -m repro gradients"):
        records.read_table("gradients", tmp_path)
    path = records.write_table("gradients", pd.DataFrame({"theta": [1.0]}), {"commit": "c"}, tmp_path)
    assert records.read_table("gradients", tmp_path)[1]["commit"] == "c"
    path.write_text(path.read_text().replace("1.0", "2.0"))
    with pytest.raises(ReproError, match="is not as it was written"):
        records.read_table("gradients", tmp_path)


def test_the_command_writes_the_table_once(tmp_path, monkeypatch, capsys):
    """With the measurements replaced by planted ones."""
    from repro import __main__ as command

    monkeypatch.setattr(command.published, "weights", lambda e, data: Autoencoder(command.MODELS[e.model], [0]).run_state(0))
    monkeypatch.setattr(command.datasets, "load", lambda name, data: command.datasets.Dataset(name, "planted", *torch.zeros(2, 1, 784)))
    rows = [{"where": "here"} | r for r in planted({"theta": 0.5, "phi": -0.5}).to_dict("records")]
    monkeypatch.setattr(command.snr, "in_linear_gaussian", lambda where: ({**r, "where": where} for r in rows))
    monkeypatch.setattr(command.snr, "in_network", lambda where, model, images: ({**r, "where": where} for r in rows))
    assert command.main(["gradients", "--results", str(tmp_path)]) == 0
    table, origin = records.read_table("gradients", tmp_path)
    assert [*table["where"].unique()] == [*snr.PLACES]
    assert origin["weights"]["blob"] == command.published.BLOBS[origin["weights"]["file"]]
    shown = tables.snr_exponents(tmp_path)
    assert shown.loc[(snr.PLACES[0], "inference"), "K 4 to 16"] == "−0.500 ± 0.000"
    assert command.main(["gradients", "--results", str(tmp_path)]) == 0
    assert "is there already" in capsys.readouterr().out
