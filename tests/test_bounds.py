"""The bounds, and the gradient that each network receives, against the paper's equations in float64."""

import pytest
import torch

from repro.bounds import METHODS, Objective, both, ciwae, iwae, log_mean_exp, miwae, vae
from repro.models import Architecture, Autoencoder

M, K, BATCH, RUNS = 3, 5, 7, 2
PAPER = {  # theta's and phi's bound for one image, from w[m][k] alone: Rainforth et al., sec. 4; the report, eq. 5 to 15
    "vae": ("vae", "vae"),
    "iwae": ("iwae", "iwae"),
    "miwae": ("miwae", "miwae"),
    "piwae": ("iwae", "miwae"),
    "ciwae": ("ciwae", "ciwae"),
    "ciwae-learned": ("ciwae", "ciwae"),
}


def paper_bound(name, w, beta):
    """One image's bound from its weights w[m][k], a list of lists of scalars, term by term."""
    flat = [value for row in w for value in row]
    if name == "vae":
        return sum(v.log() for v in flat) / len(flat)
    if name == "iwae":
        return (sum(flat) / len(flat)).log()
    if name == "miwae":
        return sum((sum(row) / len(row)).log() for row in w) / len(w)
    return beta * paper_bound("vae", w, beta) + (1 - beta) * paper_bound("iwae", w, beta)


def paper_log_w(model, run, x, eps):
    """log p(x|z) + log p(z) - log q(z|x) for one run, by torch.distributions; eps [T, batch, latent] -> [T, batch]."""
    from torch.distributions import Bernoulli, Normal

    p = {name: value[run] for name, value in model.named_parameters()}

    def layer(name, h):
        return h @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    h = torch.tanh(layer("encoder.hidden2", torch.tanh(layer("encoder.hidden1", x))))
    q = Normal(layer("encoder.mu", h), torch.nn.functional.softplus(layer("encoder.sigma", h)))
    z = q.loc + q.scale * eps
    h = torch.tanh(layer("decoder.hidden2", torch.tanh(layer("decoder.hidden1", z))))
    log_px_z = Bernoulli(logits=layer("decoder.logits", h)).log_prob(x).sum(-1)
    return log_px_z + Normal(0.0, 1.0).log_prob(z).sum(-1) - q.log_prob(z).sum(-1)


@pytest.fixture
def problem():
    g = torch.Generator().manual_seed(1)
    model = Autoencoder(Architecture(hidden=11, latent=2, pixels=13), seeds=[1, 2]).double()
    x = torch.rand(RUNS, BATCH, 13, generator=g, dtype=torch.float64).round()
    eps = torch.randn(RUNS, M * K, BATCH, 2, generator=g, dtype=torch.float64)
    return model, x, eps


@pytest.mark.parametrize("method", PAPER)
def test_gradients_are_the_papers(problem, method):
    model, x, eps = problem
    beta = torch.tensor([0.3, 0.8], dtype=torch.float64, requires_grad=True)
    log_w = model.log_weights(x, M, K, lambda shape: eps)
    theta, phi = METHODS[method](*log_w, beta[:, None])
    ours = torch.autograd.grad((theta + phi).mean(-1).sum(), [*model.parameters(), beta], allow_unused=True)
    for network, index in (("decoder", 0), ("encoder", 1)):
        expected = {}
        for run in range(RUNS):
            w = paper_log_w(model, run, x[run], eps[run]).exp().view(M, K, BATCH)
            images = [[[w[m, k, i] for k in range(K)] for m in range(M)] for i in range(BATCH)]
            value = sum(paper_bound(PAPER[method][index], image, beta[run]) for image in images) / BATCH
            torch.testing.assert_close((theta, phi)[index][run].mean(), value, rtol=1e-12, atol=0)
            for name, p in zip(dict(model.named_parameters()), torch.autograd.grad(value, list(model.parameters())), strict=True):
                expected[name] = expected.get(name, 0) + p
        for (name, _), gradient in zip(model.named_parameters(), ours[:-1], strict=True):
            if name.startswith(network):
                error = (gradient - expected[name]).norm() / expected[name].norm()
                assert error < 1e-10, f"{name}: {error:.1e}"


def test_piwae_encoder_gradient_is_miwaes_and_decoder_gradient_is_iwaes(problem):
    model, x, eps = problem
    gradients = {}
    for method in ("piwae", "miwae", "iwae"):
        theta, phi = METHODS[method](*model.log_weights(x, M, K, lambda shape: eps))
        values = torch.autograd.grad((theta + phi).sum(), list(model.parameters()))
        gradients[method] = dict(zip(dict(model.named_parameters()), values, strict=True))
    for name, value in gradients["piwae"].items():
        same, other = ("miwae", "iwae") if name.startswith("encoder") else ("iwae", "miwae")
        assert torch.equal(value, gradients[same][name])
        assert not torch.allclose(value, gradients[other][name])


def test_learned_beta_receives_the_difference_of_the_bounds():
    log_w = torch.randn(M, K, BATCH, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    beta = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    theta, phi = METHODS["ciwae-learned"](log_w, log_w, beta)
    (gradient,) = torch.autograd.grad((theta + phi).sum(), beta)
    torch.testing.assert_close(gradient, (vae(log_w) - iwae(log_w)).sum())
    assert gradient < 0  # it keeps one sign, so ascent of the mixture takes beta to 0


def linear_gaussian(sigma_scale, samples, g):
    """log w for z ~ N(0, 1), x | z ~ N(a z, s^2) and q = posterior with its scale multiplied; and log p(x)."""
    from torch.distributions import Normal

    zero, one, a, s = (torch.tensor(v, dtype=torch.float64) for v in (0.0, 1.0, 1.7, 0.6))
    x = torch.tensor([-0.4, 0.0, 2.5], dtype=torch.float64)
    precision = 1 + a * a / s**2
    q = Normal(a * x / s**2 / precision, sigma_scale * precision**-0.5)
    z = q.loc + q.scale * torch.randn(*samples, len(x), generator=g, dtype=torch.float64)
    log_w = Normal(zero, one).log_prob(z) + Normal(a * z, s).log_prob(x) - q.log_prob(z)
    return log_w, Normal(zero, (a * a + s * s).sqrt()).log_prob(x)


@pytest.mark.parametrize("method", METHODS)
def test_all_bounds_equal_log_px_when_q_is_the_posterior(method):
    log_w, log_px = linear_gaussian(1.0, (M, K), torch.Generator().manual_seed(0))
    for value in METHODS[method](log_w, log_w, 0.3):
        torch.testing.assert_close(value, log_px, rtol=0, atol=1e-10)


def test_bounds_are_ordered_in_expectation_and_below_log_px():
    log_w, log_px = linear_gaussian(1.6, (20_000, M, K), torch.Generator().manual_seed(0))
    values = {name: bound(log_w) for name, bound in (("vae", vae), ("miwae", miwae), ("iwae", iwae))}
    for lower, upper in (("vae", "miwae"), ("miwae", "iwae")):
        gap = values[upper] - values[lower]
        assert (gap.mean(0) > 10 * gap.std(0) / len(gap) ** 0.5).all(), (lower, upper)
    error = values["iwae"].std(0) / len(log_w) ** 0.5
    assert (values["iwae"].mean(0) < log_px + 3 * error).all()


def test_identities_at_one_group_and_one_sample():
    log_w = 9 * torch.randn(RUNS, M, K, BATCH, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    one_group, one_sample = log_w.reshape(RUNS, 1, M * K, BATCH), log_w.reshape(RUNS, M * K, 1, BATCH)
    close = lambda a, b: torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-13)  # noqa: E731
    close(miwae(one_group), iwae(log_w))
    close(miwae(one_sample), vae(log_w))
    close(ciwae(log_w, 0.0), iwae(log_w))
    close(ciwae(log_w, 1.0), vae(log_w))
    single = log_w[:, :1, :1]
    for bound in (vae, iwae, miwae):
        close(bound(single), single[:, 0, 0])


def test_log_mean_exp_neither_overflows_nor_mixes_images():
    log_w = torch.full((M, K, BATCH), 1e4) + torch.arange(BATCH)
    torch.testing.assert_close(iwae(log_w), 1e4 + torch.arange(BATCH, dtype=torch.float32))
    assert torch.equal(log_mean_exp(torch.zeros(M, K, BATCH), (0, 1)), torch.zeros(BATCH))


def test_beta_is_a_number_to_a_bound_whatever_else_is_trained():
    """So that an author may multiply it with log_w or with the result: here Rényi's bound with alpha = beta."""

    def renyi(log_w, beta):
        return log_mean_exp(log_w * (1 - beta), (-3, -2)) / (1 - beta)

    log_w = torch.randn(RUNS, M, K, BATCH, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    beta = torch.tensor([[0.3], [0.8]], dtype=torch.float64, requires_grad=True)
    together = both(renyi)(log_w, log_w, beta)[1]
    (gradient,) = torch.autograd.grad(together.sum(), beta)
    for run in range(RUNS):
        alone = renyi(log_w[run], b := beta[run].detach().requires_grad_())
        torch.testing.assert_close(together[run], alone)
        torch.testing.assert_close(gradient[run], torch.autograd.grad(alone.sum(), b)[0])


@pytest.mark.parametrize(
    ("objective", "line"),
    [
        (vae, "METHODS['mine'] is no Objective; write METHODS['mine'] = both(...)"),
        (both(lambda log_w, alpha: log_w), "fails (TypeError: "),
        (both(lambda log_w: log_w), r"gives [2, 16, 4, 7]; it must map [..., M, K, batch] to [..., batch], here [2, 16, 4, 7] to [2, 7]"),
        (both(lambda log_w: log_w.mean((0, 1))), "gives [4, 7]"),
        (both(lambda log_w: log_w.mean()), "gives []"),
        (both(lambda log_w: 3), "gives int"),
        (Objective(iwae, lambda log_w: iwae(log_w).detach()), "the inference network's bound of 'mine' has no gradient"),
        (both(lambda log_w: iwae(log_w) - iwae(log_w).mean(0)), "mixes runs that are trained together"),
    ],
)
def test_a_bound_that_is_none_is_one_line(monkeypatch, objective, line):
    from repro import ReproError, experiments

    monkeypatch.setitem(METHODS, "mine", objective)
    with pytest.raises(ReproError) as error:
        experiments.plan("mine", profile_name="smoke")
    assert line in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_bound_of_ones_own_takes_a_function_and_a_line(monkeypatch):
    """As CONTRIBUTING says: a function, its maths, and a line in METHODS; then it trains like any other."""
    from repro import data, experiments, training

    def renyi(log_w):
        return 2 * log_mean_exp(log_w / 2, (-3, -2))

    monkeypatch.setitem(METHODS, "renyi", both(renyi))  # fmt: skip

    (experiment,) = experiments.plan("renyi", profile_name="smoke", epochs=1)
    digits = data.load("digits")
    digits = data.Dataset("digits", "a few", digits.train[:200], digits.test[:20])
    run = training.fit([experiment], digits)
    assert run.finished
    assert len(run.curves[0]) == 1
    assert Objective(theta=renyi, phi=renyi) == METHODS["renyi"]
