"""The signal-to-noise ratio of the gradients: closed forms, and the theory's rates."""

import pytest
import torch

from repro import ReproError, audit, records, snr
from repro.bounds import METHODS
from repro.data import Streams
from repro.models import Architecture, Autoencoder


def test_estimates_of_the_elbo_have_the_closed_forms_mean_and_variance():
    """d log w / d mu = z - mu and d log w / d b = mu + x - 2 z: means in closed form, variances sigma^2 and 4 sigma^2."""
    x, mu, mean = snr.problem()
    theta, phi = snr.gradients(METHODS["vae"], 1, 1, 20_000)
    for estimates, expected, variance in ((theta, mean - mu, snr.SIGMA**2), (phi, mu + x - 2 * mean, 4 * snr.SIGMA**2)):
        assert ((estimates.mean(0) - expected).abs() < 5 * (variance / 20_000) ** 0.5).all()
        assert estimates.var(0).mean() == pytest.approx(variance, rel=0.02)


def test_gradients_are_those_of_the_density():
    """Against log-densities by torch.distributions, K = 5, M = 3, PIWAE: theta has IWAE's bound and phi MIWAE's."""
    from torch.distributions import Normal

    x, mu, mean = snr.problem()
    eps = torch.randn(3, 5, 1, snr.D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    mu_, mean_ = mu.clone().requires_grad_(), mean.clone().requires_grad_()
    z = mean_ + snr.SIGMA * eps
    log_w = (Normal(mu_, 1).log_prob(z) + Normal(z, 1).log_prob(x) - Normal(mean_, snr.SIGMA).log_prob(z)).sum(-1)
    theta, phi = METHODS["piwae"](log_w, log_w)
    (at_mu,) = torch.autograd.grad(theta.sum(), mu_, retain_graph=True)
    (at_b,) = torch.autograd.grad(phi.sum(), mean_)
    ours = snr.gradients(METHODS["piwae"], 3, 5, 1)
    torch.testing.assert_close(ours[0][0], at_mu)
    torch.testing.assert_close(ours[1][0], at_b)


def test_the_ratio_of_known_normals_is_recovered_without_bias():
    g = torch.Generator().manual_seed(0)
    signal = 0.02
    samples = [signal + torch.randn(2000, 20, generator=g, dtype=torch.float64) for _ in range(40)]
    ratios = torch.tensor([snr.ratio(s) for s in samples])
    assert (ratios**2).mean() ** 0.5 == pytest.approx(signal, rel=0.1)
    assert torch.tensor([snr.jackknife(s) for s in samples]).mean() == pytest.approx(ratios.std().item(), rel=0.4)


def test_snr_theta_grows_as_the_root_of_the_samples_and_phi_falls_as_the_inverse_root_of_those_inside():
    rates = snr.rates()
    value, error, theory = rates["K, IWAE"]["theta"]
    assert value == pytest.approx(theory, abs=0.02)
    value, error, theory = rates["K, IWAE"]["phi"]
    assert value == pytest.approx(theory, abs=0.1)
    assert error < 0.05
    for net in ("theta", "phi"):
        value, error, theory = rates["M, MIWAE with K = 8"][net]
        assert value == pytest.approx(theory, abs=0.06)


def test_piwae_has_iwaes_ratio_for_theta_and_miwaes_for_phi():
    iwae, piwae, miwae = (snr.measure(*layout) for layout in snr.AT_T[:3])
    assert piwae["theta"] == iwae["theta"]
    assert piwae["phi"] == miwae["phi"]
    assert piwae["phi"][0] > 3 * iwae["phi"][0]


@pytest.fixture
def tiny():
    """A model of one run, in double precision."""
    return Autoencoder(Architecture(hidden=4, latent=2, pixels=6), [0]).double()


def test_gradients_in_a_network_are_those_of_the_density(tiny):
    """Against log-densities by torch.distributions, M, K, batch = 3, 5, 7, PIWAE."""
    from torch.distributions import Bernoulli, Normal

    x = torch.rand(1, 7, 6, dtype=torch.float64).round()
    ours = snr.network_gradients(tiny, x, METHODS["piwae"], 3, 5, None, lambda shape: Streams([1], "test", "cpu").normal(shape).double())
    eps = Streams([1], "test", "cpu").normal((15, 7, 2)).double()
    mu, sigma = (s[:, None] for s in tiny.encoder(x))
    z = mu + sigma * eps
    logits = tiny.decoder(z.flatten(1, 2)).view(1, 15, 7, 6)
    log_w = (Normal(0, 1).log_prob(z) - Normal(mu, sigma).log_prob(z)).sum(-1) + Bernoulli(logits=logits).log_prob(x[:, None]).sum(-1)
    w = log_w.exp().view(3, 5, 7)
    for found, bound, net in zip(ours, (w.mean((0, 1)).log(), w.mean(1).log().mean(0)), (tiny.decoder, tiny.encoder), strict=True):
        expected = torch.autograd.grad(bound.mean(), [*net.parameters()], retain_graph=True)
        torch.testing.assert_close(found, torch.cat([g.flatten() for g in expected]))


def test_ratios_in_a_network_are_the_same_each_time_and_one_for_each_layout_and_batch(tiny):
    images = torch.rand(9, 6, generator=torch.Generator().manual_seed(0))
    rows = [[*snr.network(tiny.float(), images, batches=2, replicates=5, batch_size=3)] for _ in range(2)]
    assert rows[0] == rows[1]
    assert [(r["batch"], r["method"], r["M"], r["K"]) for r in rows[0]] == [(b, *layout) for b in range(2) for layout in snr.LAYOUTS]
    assert all(r[net] >= 0 for r in rows[0] for net in ("theta", "phi"))


@pytest.mark.parametrize("weights", ["untrained", "report's IWAE"])
def test_measured_ratios_have_what_must_hold(weights):
    """64 independent estimates have 8 times the ratio of one; PIWAE has IWAE's for theta and MIWAE's for phi."""
    found = audit.gradients()[weights]
    assert found["piwae", 8, 8]["theta"] == found["iwae", 1, 64]["theta"]
    assert found["piwae", 8, 8]["phi"] == found["miwae", 8, 8]["phi"]
    for net in ("theta", "phi"):
        assert found["vae", 64, 1][net][0] / found["iwae", 1, 1][net][0] == pytest.approx(8, rel=0.05)


def test_a_changed_table_is_refused(tmp_path):
    import pandas as pd

    with pytest.raises(ReproError, match="make it with: python -m repro gradients"):
        records.read_table("gradients", tmp_path)
    path = records.write_table("gradients", pd.DataFrame({"theta": [1.0]}), {"commit": "c"}, tmp_path)
    assert records.read_table("gradients", tmp_path)[1]["commit"] == "c"
    path.write_text(path.read_text().replace("1.0", "2.0"))
    with pytest.raises(ReproError, match="is not as it was written"):
        records.read_table("gradients", tmp_path)
