"""The estimators of phi's gradient: term by term, in expectation, and what they refuse."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch

from repro import ReproError, bounds
from repro.bounds import METHODS, Objective, both, log_mean_exp
from repro.estimators import cotangents
from repro.studies.captions import label
from repro.training.program import Program
from repro.words.experiments import ESTIMATORS, plan
from tests.helpers import BATCH, K, M, few_digits, paper_log_w, random_log_w, tiny_problem

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
COMBINED = [pair for pair in itertools.product(TERMS, ESTIMATORS) if pair != ("vae", "rws")]


def counted(method, estimator, log_w):
    """What a sample counts under an estimator, from the table: [T, batch] of log_w [T, batch]."""
    b, b_minus_h = (terms(log_w.view(M, K, BATCH)).flatten(0, 1) for terms in TERMS[method])
    return {"drep": b_minus_h, "rws": b - b_minus_h}.get(estimator, b)


def of_bounds(method, estimator, log_w, layout=(M, K)):
    """Cotangents for theta and phi without the sign and the mean of a loss."""
    found = cotangents(log_w, method, *layout, estimator, BETA)
    return -log_w.shape[-1] * found.theta, -log_w.shape[-1] * found.phi


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("piwea", M, K), "unknown method 'piwea'; did you mean 'piwae'"),
        (("piwae", M, K, "dreg"), "unknown estimator 'dreg'; did you mean 'drep'"),
        (("piwae", M, K + 1), r"log_w is \[15, 7\]; it must be \[..., M K, batch\], M K = 18"),
        (("ciwae", M, K), "the method has a beta"),
        (("ciwae", M, K, "rws", 1.0), "linear in log w for M = 3, K = 5"),
    ],
)
def test_cotangents_that_there_are_not_are_refused(words, said):
    with pytest.raises(ReproError, match=said):
        cotangents(torch.zeros(T, BATCH), *words)


@pytest.mark.parametrize(("method", "estimator"), COMBINED)
def test_each_estimator_counts_samples_as_the_table_says(method, estimator):
    log_w = 3 * random_log_w(T, BATCH)
    _, ours = of_bounds(method, estimator, log_w)
    expected = counted(method, estimator, log_w)
    assert (ours - expected).norm() <= 1e-12 * expected.norm()


def random_bound(seed):
    """A smooth bound of a user."""
    g = torch.Generator().manual_seed(seed)
    mixing = torch.randn(K, K, generator=g, dtype=torch.float64)
    power = float(torch.rand((), generator=g)) + 0.5

    def bound(log_w):
        mixed = torch.einsum("kl,...mlb->...mkb", mixing, log_w).tanh()
        return log_mean_exp(power * log_w + mixed, -2).mean(-2) / power

    return both(bound)


BENT = {name: objective for name, objective in METHODS.items() if name != "vae"}
BENT |= {f"random {seed}": random_bound(seed) for seed in range(5)}


@pytest.mark.parametrize("name", BENT)
def test_what_drep_subtracts_and_rws_keeps_is_the_diagonal_of_the_hessian_of_each_image(name):
    """So stl - drep - rws is zero; by automatic differentiation of one image at a time."""
    log_w = 2 * random_log_w(T, BATCH, seed=3)
    objective = BENT[name]
    stl, drep, rws = (of_bounds(objective, e, log_w)[1] for e in ("stl", "drep", "rws"))

    def bound(log_w):
        return bounds.applied(objective.phi, log_w.view(M, K, 1), BETA)[0]

    hessians = [torch.autograd.functional.hessian(bound, column) for column in log_w.T]
    h = torch.stack([hessian.diagonal() for hessian in hessians], 1)
    assert h.abs().max() > 1e-3
    assert (rws - h).abs().max() < 1e-12
    assert (stl - drep - h).abs().max() < 1e-12
    assert (stl - drep - rws).abs().max() < 1e-12


@pytest.mark.parametrize(("method", "estimator"), COMBINED)
def test_gradients_of_networks_are_the_estimators_sums(method, estimator):
    """sum_k c_k (d log w_k / d phi), or through z alone, by automatic differentiation."""
    model, x, eps = tiny_problem(runs=1)
    path = None if estimator == "rep" else torch.ones(1, 1, 1, 1, dtype=torch.bool)
    forward = model.forward_with_layers(x, eps)
    counts = of_bounds(method, estimator, forward.log_w)
    of_encoder, of_decoder = model.pull_back(forward, *counts, path)
    log_w = paper_log_w(model, 0, x[0], eps[0], still=estimator != "rep")
    of_phi = (counted(method, estimator, log_w.detach()) * log_w).sum()
    expected = flat(torch.autograd.grad(of_phi, [*model.encoder.parameters()], retain_graph=True))
    assert (of_encoder - expected).norm() <= 1e-10 * expected.norm()
    theta = METHODS[method].theta
    value = theta(log_w.view(M, K, BATCH), *[BETA] * METHODS[method].takes_beta).sum()
    expected = flat(torch.autograd.grad(value, [*model.decoder.parameters()]))
    assert (of_decoder - expected).norm() <= 1e-10 * expected.norm()


def flat(gradients):
    return torch.cat([g.flatten(1) for g in gradients], 1)


NODES = 28
SAMPLES = 4


def slope_and_log_w(x, mu, sigma, eps):
    """d log p(x, z) / dz and log w up to a constant, for samples of q = N(mu, sigma).

    The model is z ~ N(0, 1), x = z + 0.2 sin z + noise of standard deviation 1.
    """
    z = mu + sigma * eps
    residual = x - z - 0.2 * z.sin()
    log_w = -(residual**2) / 2 - z**2 / 2 + eps**2 / 2 + np.log(sigma)
    return residual * (1 + 0.2 * z.cos()) - z, log_w


def by_score(eps, sigma):
    """d log q(z) / d mu and d sigma where z stays."""
    return torch.stack([eps / sigma, (eps**2 - 1) / sigma])


def by_path(slope, eps, sigma):
    """Through z alone, the gradient of log w at mu and sigma."""
    at_mu = slope + eps / sigma
    return torch.stack([at_mu, at_mu * eps])


def expected_gradients(objective, estimator):
    """E of the gradient at mu and sigma, by quadrature over four samples.

    ``score`` is the wake phase by its definition, sum of b_k d log q(z_k).
    """
    nodes, node_weights = np.polynomial.hermite_e.hermegauss(NODES)
    grid = [np.array(p) for p in zip(*itertools.product(nodes, repeat=SAMPLES), strict=True)]
    eps = torch.tensor(np.stack(grid))  # [sample, point]
    density = np.prod(
        np.stack(np.meshgrid(*[node_weights / node_weights.sum()] * SAMPLES, indexing="ij")), 0
    )
    sigma = 0.65
    slope, log_w = slope_and_log_w(1.0, 0.3, sigma, eps)
    _, c = of_bounds(objective, "rep" if estimator == "score" else estimator, log_w, (2, 2))
    of_log_w = by_path(slope, eps, sigma)
    if estimator == "rep":
        of_log_w = of_log_w - by_score(eps, sigma)
    if estimator == "score":
        of_log_w = by_score(eps, sigma)
    return (c * of_log_w).sum(1) @ torch.tensor(density.flatten())


@pytest.mark.slow
@pytest.mark.parametrize("method", ["vae", "iwae", "miwae", "ciwae", "vr-iwae", "u-miwae"])
def test_drep_has_the_expectation_of_rep_and_stl_has_not(method):
    rep = expected_gradients(METHODS[method], "rep")
    assert (expected_gradients(METHODS[method], "drep") - rep).abs().max() < 1e-8
    bias = (expected_gradients(METHODS[method], "stl") - rep).abs().max()
    assert bias < 1e-8 if method == "vae" else bias > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("method", ["iwae", "miwae", "ciwae", "vr-iwae", "u-miwae"])
def test_rws_has_the_expectation_of_the_wake_phase_by_its_score(method):
    score = expected_gradients(METHODS[method], "score")
    assert score.abs().max() > 0.1
    assert (expected_gradients(METHODS[method], "rws") - score).abs().max() < 1e-8


REPLICATES = 40_000


@pytest.mark.parametrize("method", ["iwae", "miwae", "ciwae", "vr-iwae"])
def test_rws_is_in_the_mean_the_weighted_score_of_seven_images(method):
    """sum_k b_k d log q(z_k), of the same samples: within 4.5 standard errors of 14 means.

    For IWAE b is a normalised weight: phi ascends E log q(z|x) under the posterior. An error is at
    most a twentieth of the largest mean, so that half or minus the gradient would be seen.
    """
    g = torch.Generator().manual_seed(4)
    eps = torch.randn(REPLICATES, T, BATCH, generator=g, dtype=torch.float64)
    x = torch.linspace(-2, 2, BATCH, dtype=torch.float64)
    mu, sigma = 0.3 * x + 0.2, 0.65
    slope, log_w = slope_and_log_w(x, mu, sigma, eps)
    _, b = of_bounds(method, "rep", log_w)
    _, h = of_bounds(method, "rws", log_w)
    scores = (b * by_score(eps, sigma)).sum(-2)  # [parameter, replicate, image]
    ours = (h * by_path(slope, eps, sigma)).sum(-2)
    apart = ours - scores
    errors = apart.std(1) / REPLICATES**0.5
    assert (apart.mean(1).abs() < 4.5 * errors).all()
    assert errors.max() < 0.05 * scores.mean(1).abs().max()
    assert (ours.var(1) < scores.var(1)).all()


def test_cotangents_have_no_gradient_of_their_own():
    log_w = random_log_w(T, BATCH).requires_grad_()
    counts = cotangents(log_w, "piwae", M, K, "rws")
    assert not any(tensor.requires_grad for tensor in counts)


LINEAR = [{"method": "vae"}, {"method": "piwae", "M": 64, "K": 1}, {"method": "ciwae", "beta": 1}]


@pytest.mark.parametrize("words", LINEAR)
def test_rws_refuses_a_bound_that_is_linear_in_log_w(words):
    with pytest.raises(ReproError, match="linear in log w for M ="):
        plan(**words, profile="smoke", estimator="rws")
    assert plan(**words, profile="smoke", estimator="drep")


def test_rws_refuses_a_bound_of_ones_own_only_if_it_is_linear(monkeypatch):
    monkeypatch.setitem(METHODS, "weighed", both(lambda w: w[..., 0, 0, :] / 2 + w.mean((-3, -2))))
    monkeypatch.setitem(METHODS, "all-of-them", both(lambda w: log_mean_exp(w, (-3, -2))))
    with pytest.raises(ReproError, match="linear in log w"):
        plan("weighed", profile="smoke", estimator="rws")
    assert plan("all-of-them", M=64, K=1, profile="smoke", estimator="rws")


def test_runs_of_different_estimators_can_be_stacked(small):
    """In a stack each run goes where it goes alone; theta's first step is the same for all."""
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
    for one, other in itertools.combinations(encoders, 2):
        assert not torch.equal(one, other)


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
    log_w = random_log_w(2, M, K, BATCH)
    flat_w = log_w.flatten(1, 2)
    partitions = torch.tensor(bounds.partitions_of(M, K))
    assert partitions.shape == (9, M, K)
    values = [bounds.miwae(flat_w[:, partition]) for partition in partitions]
    torch.testing.assert_close(bounds.u_miwae(log_w), torch.stack(values).mean(0))


def test_vr_iwae_leads_from_iwae_to_the_vae():
    log_w = random_log_w(M, K, BATCH)
    torch.testing.assert_close(bounds.vr_iwae(log_w, 0.0), bounds.iwae(log_w))
    almost = bounds.vr_iwae(log_w, 1 - 1e-9)
    torch.testing.assert_close(almost, bounds.vae(log_w), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("estimator", ["drep", "rws"])
def test_drep_and_rws_refuse_a_bound_that_is_not_smooth(monkeypatch, estimator):
    kinked = Objective(theta=bounds.iwae, phi=lambda w: w.amax((-3, -2)))
    monkeypatch.setitem(METHODS, "kinked", kinked)
    assert plan("kinked", profile="smoke", estimator="stl")
    with pytest.raises(ReproError, match="bound of 'kinked' is not twice differentiable"):
        plan("kinked", profile="smoke", estimator=estimator)


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
