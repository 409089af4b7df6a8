"""The estimators of phi's gradient: term by term, in expectation, and what they refuse."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch

from repro import ReproError, bounds, estimators
from repro.bounds import METHODS, Objective, both, log_mean_exp
from repro.catalogue import MODELS, Architecture
from repro.estimators import cotangents
from repro.models import Autoencoder
from repro.studies.captions import label
from repro.training.program import Program
from repro.words.experiments import ESTIMATORS, plan
from tests.helpers import SMALL, few_digits

M, K, BATCH = 3, 5, 7
BETA = 0.3
ALPHA = 0.5  # of VR-IWAE
T = M * K


def weights(log_w, dims):
    return (log_w - log_w.logsumexp(dims, keepdim=True)).exp()


def tempered(log_w):
    return weights((1 - ALPHA) * log_w, (0, 1))


# b and b - h of each bound of log_w [M, K, batch], from the table in the book.
TERMS = {
    "vae": (lambda w: torch.full_like(w, 1 / T), lambda w: torch.full_like(w, 1 / T)),
    "iwae": (lambda w: weights(w, (0, 1)), lambda w: weights(w, (0, 1)) ** 2),
    "miwae": (lambda w: weights(w, 1) / M, lambda w: weights(w, 1) ** 2 / M),
    "ciwae": (
        lambda w: BETA / T + (1 - BETA) * weights(w, (0, 1)),
        lambda w: BETA / T + (1 - BETA) * weights(w, (0, 1)) ** 2,
    ),
    "vr-iwae": (tempered, lambda w: ALPHA * tempered(w) + (1 - ALPHA) * tempered(w) ** 2),
}
TERMS["piwae"] = TERMS["miwae"]
TERMS["ciwae-learned"] = TERMS["ciwae"]


def of_bounds(method, estimator, log_w, layout=(M, K)):
    """Cotangents for theta and phi without the sign and the mean of a loss."""
    found = cotangents(log_w, method, *layout, estimator, BETA)
    return -log_w.shape[-1] * found.theta, -log_w.shape[-1] * found.phi


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_cotangents_carry_the_gradients_of_a_model_of_ones_own(estimator):
    """A linear Gaussian model: theta is its mean, phi that of q and its standard deviation's log.

    Beside plain automatic differentiation of both losses; under stl and drep theta's alone.
    """
    g = torch.Generator().manual_seed(2)
    x, eps = torch.randn(1, BATCH, generator=g), torch.randn(T, BATCH, generator=g)
    theta, phi = (torch.tensor(start, requires_grad=True) for start in ([0.2], [0.1, -0.3]))
    mu, sigma = phi[0] + 0.5 * x, phi[1].exp()
    z = mu + sigma * eps
    q = (mu.detach(), sigma.detach()) if estimators.holds_q_still(estimator) else (mu, sigma)
    log_w = (
        torch.distributions.Normal(theta, 1).log_prob(z)
        + torch.distributions.Normal(z, 1).log_prob(x)
        - torch.distributions.Normal(*q).log_prob(z)
    )
    counts = cotangents(log_w, "piwae", M, K, estimator)
    assert not any(tensor.requires_grad for tensor in counts)
    ours = torch.autograd.grad(log_w, [theta], counts.theta, retain_graph=True)
    loss = -bounds.iwae(log_w.view(M, K, BATCH)).mean()
    torch.testing.assert_close(counts.loss, loss.detach())
    torch.testing.assert_close(ours, torch.autograd.grad(loss, [theta], retain_graph=True))
    if estimator == "rep":
        ours = torch.autograd.grad(log_w, [phi], counts.phi, retain_graph=True)
        loss = -bounds.miwae(log_w.view(M, K, BATCH)).mean()
        torch.testing.assert_close(ours, torch.autograd.grad(loss, [phi]))


def test_runs_and_betas_are_a_leading_axis():
    g = torch.Generator().manual_seed(0)
    log_w = torch.randn(2, T, BATCH, generator=g, dtype=torch.float64)
    betas = torch.tensor([0.2, 0.9], dtype=torch.float64)
    together = cotangents(log_w, "ciwae", M, K, "drep", betas)
    assert [tensor.shape for tensor in together] == [log_w.shape, log_w.shape, (2,), (2,)]
    for run, beta in enumerate(betas):
        alone = cotangents(log_w[run], "ciwae", M, K, "drep", beta)
        for ours, expected in zip(together, alone, strict=True):
            torch.testing.assert_close(ours[run], expected)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("piwea", M, K), "unknown method 'piwea'; did you mean 'piwae'"),
        (("piwae", M, K, "dreg"), "unknown estimator 'dreg'; did you mean 'drep'"),
        (("piwae", M, K + 1), r"log_w is \[15, 7\]; it must be \[..., M K, batch\], M K = 18"),
        (("ciwae", M, K), "the method has a beta"),
    ],
)
def test_cotangents_that_there_are_not_are_refused(words, said):
    with pytest.raises(ReproError, match=said):
        cotangents(torch.zeros(T, BATCH), *words)


@pytest.mark.parametrize("method", TERMS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_each_estimator_counts_samples_as_the_table_says(method, estimator):
    g = torch.Generator().manual_seed(0)
    log_w = 3 * torch.randn(T, BATCH, generator=g, dtype=torch.float64)
    _, ours = of_bounds(method, estimator, log_w)
    b, b_minus_h = (terms(log_w.view(M, K, BATCH)) for terms in TERMS[method])
    expected = (b_minus_h if estimator == "drep" else b).flatten(0, 1)
    assert (ours - expected).norm() <= 1e-12 * expected.norm()


@pytest.mark.parametrize("seed", range(5))
def test_any_smooth_bound_has_its_own_second_derivatives(seed):
    """A random smooth bound of a user, against the Hessian of each image."""
    g = torch.Generator().manual_seed(seed)
    mixing = torch.randn(K, K, generator=g, dtype=torch.float64)
    power = float(torch.rand((), generator=g)) + 0.5

    def bound(log_w):
        mixed = torch.einsum("kl,...mlb->...mkb", mixing, log_w).tanh()
        return log_mean_exp(power * log_w + mixed, -2).mean(-2) / power

    log_w = torch.randn(T, BATCH, generator=g, dtype=torch.float64)
    _, b = of_bounds(both(bound), "rep", log_w)
    _, b_minus_h = of_bounds(both(bound), "drep", log_w)
    for image in range(BATCH):
        hessian = torch.autograd.functional.hessian(
            lambda w: bound(w.view(M, K, 1))[0], log_w[:, image]
        )
        torch.testing.assert_close(b[:, image] - b_minus_h[:, image], hessian.diagonal())


@pytest.mark.parametrize("method", TERMS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_gradients_of_networks_are_the_estimators_sums(method, estimator):
    """sum_k c_k (d log w_k / d phi), or through z alone, by automatic differentiation."""
    g = torch.Generator().manual_seed(1)
    shape = Architecture(hidden=11, latent=2, pixels=13)
    model = Autoencoder(shape, [0]).double()
    x = torch.rand(1, BATCH, 13, generator=g, dtype=torch.float64).round()
    eps = torch.randn(1, T, BATCH, 2, generator=g, dtype=torch.float64)
    path = None if estimator == "rep" else torch.ones(1, 1, 1, 1, dtype=torch.bool)
    forward = model.forward_with_layers(x, eps)
    counts = of_bounds(method, estimator, forward.log_w)
    of_encoder, of_decoder = model.pull_back(forward, *counts, path)
    log_w, log_w_by_path = two_log_weights(model, x, eps)
    b, b_minus_h = (terms(log_w.detach().view(M, K, BATCH)) for terms in TERMS[method])
    coefficients = (b_minus_h if estimator == "drep" else b).flatten(0, 1)
    of_phi = (coefficients * (log_w if estimator == "rep" else log_w_by_path)).sum()
    expected = flat(torch.autograd.grad(of_phi, [*model.encoder.parameters()], retain_graph=True))
    assert (of_encoder - expected).norm() <= 1e-10 * expected.norm()
    theta = METHODS[method].theta
    value = theta(log_w.view(M, K, BATCH), *[BETA] * METHODS[method].takes_beta).sum()
    expected = flat(torch.autograd.grad(value, [*model.decoder.parameters()]))
    assert (of_decoder - expected).norm() <= 1e-10 * expected.norm()


def two_log_weights(model, x, eps):
    """log w [T, batch] of one run; in the second, q's density holds its mu and sigma still."""
    mu, sigma = (moment[:, None] for moment in model.encoder(x))
    z = mu + sigma * eps
    log_px_z = -torch.nn.functional.binary_cross_entropy_with_logits(
        model.decoder(z.flatten(1, 2)).view(1, T, BATCH, -1),
        x[:, None].expand(-1, T, -1, -1),
        reduction="none",
    ).sum(-1)

    def log_w(mu, sigma):
        log_q = torch.distributions.Normal(mu, sigma).log_prob(z).sum(-1)
        log_p = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
        return (log_px_z + log_p - log_q)[0]

    return log_w(mu, sigma), log_w(mu.detach(), sigma.detach())


def flat(gradients):
    return torch.cat([g.flatten(1) for g in gradients], 1)


NODES = 28
SAMPLES = 4


def expected_gradients(objective, estimator):
    """E of the gradient at mu and sigma of q = N(mu, sigma), by quadrature over four samples.

    The model is z ~ N(0, 1), x = z + 0.2 sin z + noise of standard deviation 1.
    """
    nodes, node_weights = np.polynomial.hermite_e.hermegauss(NODES)
    grid = [np.array(p) for p in zip(*itertools.product(nodes, repeat=SAMPLES), strict=True)]
    eps = torch.tensor(np.stack(grid))  # [sample, point]
    density = np.prod(
        np.stack(np.meshgrid(*[node_weights / node_weights.sum()] * SAMPLES, indexing="ij")), 0
    )
    x, mu, sigma = 1.0, 0.3, 0.65
    z = mu + sigma * eps
    residual = x - z - 0.2 * z.sin()
    log_w = -(residual**2) / 2 - z**2 / 2 + eps**2 / 2 + np.log(sigma)
    _, c = of_bounds(objective, estimator, log_w, (2, 2))
    slope = residual * (1 + 0.2 * z.cos()) - z  # d log p(x, z) / dz
    if estimator == "rep":
        at_mu, at_sigma = slope, slope * eps + 1 / sigma
    else:
        at_mu = slope + eps / sigma
        at_sigma = at_mu * eps
    means = [(c * at).sum(0) @ torch.tensor(density.flatten()) for at in (at_mu, at_sigma)]
    return torch.stack(means)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["vae", "iwae", "miwae", "ciwae", "vr-iwae", "u-miwae"])
def test_drep_has_the_expectation_of_rep_and_stl_has_not(method):
    rep = expected_gradients(METHODS[method], "rep")
    assert (expected_gradients(METHODS[method], "drep") - rep).abs().max() < 1e-8
    bias = (expected_gradients(METHODS[method], "stl") - rep).abs().max()
    assert bias < 1e-8 if method == "vae" else bias > 0.1


def test_runs_of_different_estimators_can_be_stacked(monkeypatch):
    """In a stack each run goes where it goes alone; theta's first step is the same for all."""
    monkeypatch.setitem(MODELS, "reference", SMALL)
    runs = [e for name in ESTIMATORS for e in plan("iwae", profile="smoke", estimator=name)]
    stacked = Program(runs, few_digits())
    stacked.step()
    for i, e in enumerate(stacked.experiments):
        alone = Program([e], few_digits())
        alone.step()
        for network in range(2):
            ours, theirs = stacked.parameters[network][i], alone.parameters[network][0]
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    decoders = stacked.parameters[1].detach()
    assert torch.equal(decoders[0], decoders[1])
    encoders = stacked.parameters[0].detach()
    assert not torch.equal(encoders[0], encoders[1])
    assert not torch.equal(encoders[1], encoders[2])


def test_every_two_samples_share_a_group_of_the_affine_plane_once():
    bounds._affine_plane.cache_clear()
    together = Counter()
    for partition in bounds.partitions_of(8, 8):
        assert sorted(itertools.chain(*partition)) == list(range(64))
        for group in partition:
            together.update(itertools.combinations(sorted(group), 2))
    assert len(together) == 64 * 63 / 2
    assert set(together.values()) == {1}


def test_u_miwae_is_the_mean_of_miwae_over_partitions():
    log_w = torch.randn(2, M, K, BATCH, generator=torch.Generator().manual_seed(0)).double()
    flat_w = log_w.flatten(1, 2)
    partitions = torch.tensor(bounds.partitions_of(M, K))
    assert partitions.shape == (9, M, K)
    values = [bounds.miwae(flat_w[:, partition]) for partition in partitions]
    torch.testing.assert_close(bounds.u_miwae(log_w), torch.stack(values).mean(0))


def test_vr_iwae_leads_from_iwae_to_the_vae():
    log_w = torch.randn(M, K, BATCH, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(bounds.vr_iwae(log_w, 0.0), bounds.iwae(log_w))
    almost = bounds.vr_iwae(log_w, 1 - 1e-9)
    torch.testing.assert_close(almost, bounds.vae(log_w), rtol=1e-5, atol=1e-5)


UNFIT = {
    "max": lambda w: w.amax((-3, -2)),
    "clamp": lambda w: log_mean_exp(w.clamp(min=-2), (-3, -2)),
    "detach": lambda w: log_mean_exp(w, (-3, -2)) + (w.detach() * w).mean((-3, -2)),
}


@pytest.mark.parametrize("name", UNFIT)
def test_drep_refuses_a_bound_that_is_not_smooth(monkeypatch, name):
    monkeypatch.setitem(METHODS, name, Objective(theta=bounds.iwae, phi=UNFIT[name]))
    assert plan(name, profile="smoke", estimator="stl")
    with pytest.raises(ReproError, match=f"bound of '{name}' is not twice differentiable"):
        plan(name, profile="smoke", estimator="drep")


def test_an_estimator_is_in_the_name_and_the_command_unless_it_is_rep():
    (usual,) = plan("iwae", profile="short")
    assert usual.name == "iwae-M1-K64-seed0"
    assert "estimator" not in usual.as_dict()
    (e,) = plan("iwae", profile="short", estimator="drep", epochs=13)
    assert e.name == "iwae-M1-K64-seed0-epochs13-drep"
    assert e.as_dict()["estimator"] == "drep"
    assert "--estimator drep" in e.command
    assert label(e) == "IWAE(64) drep"
    assert e.shared == plan("vae", profile="short", epochs=13)[0].shared
    with pytest.raises(ReproError, match="unknown estimator 'dreg'; did you mean 'drep'"):
        plan("iwae", profile="short", estimator="dreg")
    with pytest.raises(ReproError, match="the released code has no estimator but rep"):
        plan("piwae", profile="short", estimator="stl", protocol="released")


def test_every_estimator_but_the_usual_holds_q_still():
    still = {name for name in ESTIMATORS if estimators.holds_q_still(name)}
    assert still == {"stl", "drep"}
