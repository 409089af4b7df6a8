"""The signal-to-noise ratio of the gradients: closed forms, and the theory's rates."""

import pytest
import torch

from repro import snr
from repro.bounds import METHODS


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
    found = [snr.ratio(signal + torch.randn(2000, 20, generator=g, dtype=torch.float64)) for _ in range(40)]
    ratios = torch.tensor([r for r, _ in found])
    assert (ratios**2).mean() ** 0.5 == pytest.approx(signal, rel=0.1)
    assert torch.tensor([e for _, e in found]).mean() == pytest.approx(ratios.std().item(), rel=0.4)


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
    methods = snr.methods()
    assert methods["piwae"]["theta"] == methods["iwae"]["theta"]
    assert methods["piwae"]["phi"] == methods["miwae"]["phi"]
    assert methods["piwae"]["phi"][0] > 3 * methods["iwae"]["phi"][0]
