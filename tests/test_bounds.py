"""The bounds, and the gradient that each network receives, against the paper's equations."""

import numpy as np
import pytest
import torch
from torch.distributions import Normal

from repro import ReproError
from repro.bound_trial import check, check_smooth
from repro.bounds import METHODS, Objective, both, ciwae, iwae, log_mean_exp, miwae, vae
from repro.words import experiments
from tests.helpers import BATCH, K, M, paper_log_w, random_log_w, tiny_problem

RUNS = 2

# The bounds of theta and phi: Rainforth et al., section 5; the report, eq. 5 to 15.
PAPER = {
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


def paper_value(name, model, run, x, eps, beta):
    """The mean over the batch of one run's bound."""
    w = paper_log_w(model, run, x[run], eps[run]).exp().view(M, K, BATCH)
    values = []
    for i in range(BATCH):
        image = [[w[m, k, i] for k in range(K)] for m in range(M)]
        values.append(paper_bound(name, image, beta[run]))
    return sum(values) / BATCH


def gradients_by_name(model, value):
    """The gradient of a value at each parameter of a model."""
    names = dict(model.named_parameters())
    gradients = torch.autograd.grad(value, list(model.parameters()))
    return dict(zip(names, gradients, strict=True))


@pytest.mark.parametrize("method", PAPER)
def test_gradients_are_the_papers(method):
    model, x, eps = tiny_problem(RUNS)
    beta = torch.tensor([0.3, 0.8], dtype=torch.float64, requires_grad=True)
    log_w = model.log_weights(x, M, K, lambda shape: eps)
    theta, phi = METHODS[method](*log_w, beta[:, None])
    ours = gradients_by_name(model, (theta + phi).mean(-1).sum())
    name_of_theta, name_of_phi = PAPER[method]
    for network, bound, name in (("decoder", theta, name_of_theta), ("encoder", phi, name_of_phi)):
        expected = {parameter: torch.zeros_like(value) for parameter, value in ours.items()}
        for run in range(RUNS):
            value = paper_value(name, model, run, x, eps, beta)
            torch.testing.assert_close(bound[run].mean(), value, rtol=1e-12, atol=0)
            for parameter, gradient in gradients_by_name(model, value).items():
                expected[parameter] += gradient
        for parameter, gradient in ours.items():
            if parameter.startswith(network):
                error = (gradient - expected[parameter]).norm() / expected[parameter].norm()
                assert error < 1e-10, f"{parameter}: {error:.1e}"


def test_learned_beta_receives_the_difference_of_the_bounds():
    log_w = random_log_w(M, K, BATCH)
    beta = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    theta, phi = METHODS["ciwae-learned"](log_w, log_w, beta)
    (gradient,) = torch.autograd.grad((theta + phi).sum(), beta)
    torch.testing.assert_close(gradient, (vae(log_w) - iwae(log_w)).sum())
    assert gradient < 0  # it keeps one sign, so ascent of the mixture takes beta to 0


@pytest.mark.parametrize("method", METHODS)
def test_all_bounds_equal_log_px_when_q_is_the_posterior(method):
    """Of z ~ N(0, 1) and x | z ~ N(a z, s^2)."""
    zero, one, a, s = torch.tensor([0.0, 1.0, 1.7, 0.6], dtype=torch.float64)
    x = torch.tensor([-0.4, 0.0, 2.5], dtype=torch.float64)
    variance = 1 / (1 + a**2 / s**2)
    q = Normal(variance * a * x / s**2, variance**0.5)
    z = q.loc + q.scale * random_log_w(M, K, len(x))
    log_w = Normal(zero, one).log_prob(z) + Normal(a * z, s).log_prob(x) - q.log_prob(z)
    log_px = Normal(zero, (a**2 + s**2) ** 0.5).log_prob(x)
    for value in METHODS[method](log_w, log_w, 0.3):
        torch.testing.assert_close(value, log_px, rtol=0, atol=1e-10)


def test_identities_at_one_group_and_one_sample():
    def assert_equal(a, b):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-13)

    log_w = 9 * random_log_w(RUNS, M, K, BATCH)
    one_group = log_w.reshape(RUNS, 1, M * K, BATCH)
    one_sample = log_w.reshape(RUNS, M * K, 1, BATCH)
    assert_equal(miwae(one_group), iwae(log_w))
    assert_equal(miwae(one_sample), vae(log_w))
    assert_equal(ciwae(log_w, 0.0), iwae(log_w))
    assert_equal(ciwae(log_w, 1.0), vae(log_w))
    single = log_w[:, :1, :1]
    for bound in (vae, iwae, miwae):
        assert_equal(bound(single), single[:, 0, 0])


def test_beta_is_a_number_to_a_bound_whatever_else_is_trained():
    """An author may multiply it with log_w or with the result.

    The example is Rényi's bound with alpha = beta.
    """

    def renyi(log_w, beta):
        return log_mean_exp(log_w * (1 - beta), (-3, -2)) / (1 - beta)

    log_w = random_log_w(RUNS, M, K, BATCH)
    beta = torch.tensor([[0.3], [0.8]], dtype=torch.float64, requires_grad=True)
    together = both(renyi)(log_w, log_w, beta)[1]
    (gradient,) = torch.autograd.grad(together.sum(), beta)
    for run in range(RUNS):
        beta_of_run = beta[run].detach().requires_grad_()
        alone = renyi(log_w[run], beta_of_run)
        (gradient_alone,) = torch.autograd.grad(alone.sum(), beta_of_run)
        torch.testing.assert_close(together[run], alone)
        torch.testing.assert_close(gradient[run], gradient_alone)


class Undifferentiable(torch.autograd.Function):
    """The VAE's bound, without the way back."""

    @staticmethod
    def forward(context, log_w):
        return log_w.mean((-3, -2))

    @staticmethod
    def backward(context, slope):
        raise NotImplementedError("no gradient here")


FAR = torch.full((20,), -400.0).index_fill(0, torch.tensor(3), -600.0)  # of image 3 beyond -500


def slope_of(other):
    """IWAE with the gradient of another bound added."""

    def bound(log_w):
        more = other(log_w)
        return iwae(log_w) + (more - more.detach())

    return both(bound)


@pytest.mark.parametrize(
    ("objective", "line"),
    [
        (vae, "is not an Objective; write METHODS['mine'] = both(...)"),
        (both(lambda log_w, alpha: log_w), "fails (TypeError: "),
        (
            both(lambda log_w: log_w),
            "gives [2, 8, 8, 20] for 2 runs; it must map [..., M, K, batch] to [..., batch], "
            "here [2, 8, 8, 20] to [2, 20]",
        ),
        (both(lambda log_w: log_w.mean((0, 1))), "gives [8, 20]"),
        (both(lambda log_w: log_w.mean()), "gives []"),
        (both(lambda log_w: 3), "gives int"),
        (
            Objective(iwae, lambda log_w: iwae(log_w).detach()),
            "inference network's bound of 'mine' has no gradient",
        ),
        (
            both(lambda log_w: iwae(log_w) - iwae(log_w).mean(0)),
            "mixes runs that are trained together; reduce the dimensions -3 and -2 (M and K), no "
            "others",
        ),
        (both(lambda log_w: iwae(log_w) - iwae(log_w).mean()), "mixes runs"),
        (
            both(lambda log_w: iwae(log_w) - iwae(log_w).mean(-1, keepdim=True)),
            "'mine' mixes images; reduce the dimensions -3 and -2 (M and K), no others",
        ),
        (both(lambda log_w: iwae(log_w.double())), "gives torch.float64 for float32"),
        (both(lambda log_w: iwae(log_w).half()), "gives torch.float16 for float32"),
        (both(lambda log_w: iwae(log_w * np.ones(20))), "fails (RuntimeError: Can't call numpy()"),
        (
            Objective(theta=lambda log_w: iwae(log_w.add_(1)), phi=iwae),
            "the generative network's bound of 'mine' changes log_w in place; make a new tensor "
            "instead",
        ),
        (
            Objective(theta=iwae, phi=lambda log_w: iwae(log_w) * 0),
            "the inference network's bound of 'mine' does not depend on log_w",
        ),
        (both(lambda log_w: torch.ones(2, 20, requires_grad=True) * 2), "does not depend on log_w"),
        (
            both(Undifferentiable.apply),
            "the generative network's bound of 'mine' has no gradient that can be computed "
            "(NotImplementedError: no gradient here)",
        ),
        (
            both(lambda log_w: iwae(log_w) + torch.rand(20)),
            "the generative network's bound of 'mine' gives another value each time; a bound "
            "draws no random numbers",
        ),
        (slope_of(lambda log_w: vae(log_w * torch.rand_like(log_w))), "gives another gradient"),
        (slope_of(lambda log_w: vae(log_w).mean(-1, keepdim=True)), "mixes images"),
        (slope_of(lambda log_w: vae(log_w).square().mean(0)), "mixes runs"),
        (both(lambda log_w: iwae(log_w) * (torch.arange(20) > 3)), "does not depend on log_w"),
        (both(lambda log_w: log_w.clamp(min=FAR).mean((-3, -2))), "has no finite gradient at"),
        (both(lambda log_w: (iwae(log_w) - 100).log()), "has values that are not finite"),
        (both(lambda log_w: (iwae(log_w) * 0).sqrt() + iwae(log_w)), "has gradients that are not"),
        (both(iwae, M=0), "has M = 0; M is a whole number that divides 64"),
        (both(iwae, M=-1), "has M = -1"),
        (
            both(iwae, M=3),
            "METHODS['mine'] has M = 3; M is a whole number that divides 64, or None to leave the "
            "choice open",
        ),
        (both(iwae, M=128), "has M = 128"),
        (both(iwae, M="8"), "has M = '8'"),
        (both(iwae, M=8.0), "has M = 8.0"),
        (both(iwae, M=True), "has M = True"),
        (
            both(iwae, learns_beta=True),
            "METHODS['mine'] is to find beta, but no bound of it has a parameter called beta",
        ),
    ],
)
def test_a_bound_that_is_none_is_one_line(monkeypatch, objective, line):
    monkeypatch.setitem(METHODS, "mine", objective)
    with pytest.raises(ReproError) as error:
        experiments.plan("mine", profile="smoke")
    said = str(error.value)
    assert line in said
    whole = line.startswith(("the ", "METHODS"))
    assert said == line or not whole


@pytest.mark.parametrize(
    "name", ["", "a/b", "../up", "a,b", "all", "Mine", "a--b", "-a", "learned"]
)
def test_a_method_s_name_is_that_of_a_folder(name):
    with pytest.raises(ReproError) as error:
        check(name, both(iwae))
    assert str(error.value) == (
        f"a method cannot be called '{name}'; its name is that of a folder: lower-case letters, "
        "digits and single hyphens, and not a word with another meaning"
    )


@pytest.mark.parametrize("method", METHODS)
def test_every_bound_of_the_project_stands_its_trial_and_is_smooth_enough_for_drep(method):
    check(method, METHODS[method])
    check_smooth(method, METHODS[method])


def test_another_bound_under_a_name_of_the_project_is_tried_before_it_is_planned(monkeypatch):
    monkeypatch.setitem(METHODS, "iwae", both(lambda log_w: log_w))
    with pytest.raises(ReproError, match="bound of 'iwae' gives "):
        experiments.plan("iwae", profile="smoke")


@pytest.mark.parametrize(
    "bound",
    [
        lambda log_w: log_w.amax((-3, -2)),
        lambda log_w: log_w.clamp(max=1).mean((-3, -2)),
        lambda log_w: (log_w * log_w.detach().softmax(-2)).sum((-3, -2)),
        lambda log_w: log_w.abs().mean((-3, -2)),
        lambda log_w: iwae(log_w) + 0.01 * log_w.abs().mean((-3, -2)),
        lambda log_w: iwae(log_w) + (log_w > 0).double().mean((-3, -2)),
        lambda log_w: iwae(log_w) + 0.01 * (log_w > 0).double().mean((-3, -2)),
        lambda log_w: iwae(log_w) + 0.01 * log_w.detach().square().mean((-3, -2)),
    ],
)
def test_drep_refuses_a_bound_with_a_kink_or_a_jump_or_something_hidden(bound):
    with pytest.raises(ReproError) as error:
        check_smooth("mine", both(bound))
    assert str(error.value) == (
        "the inference network's bound of 'mine' is not twice differentiable "
        "(is there a max, a clamp or a detach?), which drep and rws need; take rep"
    )


def test_a_bound_is_tried_to_be_smooth_in_its_own_layout_and_its_errors_are_one_line():
    def one_group(log_w):
        (only,) = log_w.unbind(-3)
        return log_mean_exp(only, -2)

    check_smooth("mine", both(one_group, M=1))
    with pytest.raises(ReproError, match=r"bound of 'mine' fails \(ValueError: too many values"):
        check_smooth("mine", both(one_group))


def test_a_bound_is_tried_with_another_layout_than_the_one_asked_for_too(monkeypatch):
    """At M = K = 8 nobody sees which of the two dimensions a bound takes for the other."""
    offsets = torch.linspace(0, 1, 8)

    def swapped(log_w):
        return iwae(log_w + offsets[:, None, None])

    monkeypatch.setitem(METHODS, "mine", both(swapped))
    with pytest.raises(ReproError, match=r"here \[2, 16, 4, 20\] to \[2, 20\]"):
        experiments.plan("mine", profile="smoke", M=8, K=8)
    monkeypatch.setitem(METHODS, "mine", both(swapped, M=8))
    assert experiments.plan("mine", profile="smoke", M=8, K=8)
