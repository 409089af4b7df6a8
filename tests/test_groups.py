"""The cotangents of all runs as one function, plain and compiled."""

from dataclasses import replace

import pytest
import torch

from repro.bounds import METHODS, both
from repro.catalogue import SECOND_ORDER
from repro.training import engines
from repro.training.bundles import bundles_of, cotangents_of, side_by_side
from repro.words.experiments import TABLE_METHODS, Experiment
from tests.helpers import BATCH, K, M, needs_compiler

COMPILED_KERNELS = 40  # at most, for the five methods and a learned beta


def runs_of(methods, layout=(M, K)):
    """Runs whose methods and betas alternate."""
    betas = (0.1, 0.7)
    return [
        Experiment(method, "digits", "reference", *layout, beta, seed, 1, "smoke")
        for seed, beta in enumerate(betas)
        for method in methods
    ]


def inputs(runs):
    """Log-weights and, for each run, b, whether beta is learned, and beta."""
    g = torch.Generator().manual_seed(0)
    log_w = 5 * torch.randn(len(runs), M * K, BATCH, generator=g, dtype=torch.float64)
    b = torch.randn(len(runs), generator=g, dtype=torch.float64)
    learns = torch.tensor([METHODS[e.method].learns_beta for e in runs])
    return log_w, b, learns, torch.tensor([e.beta for e in runs], dtype=torch.float64)


def of_one_run(e, log_w, b):
    """``Cotangents`` of one run, by plain automatic differentiation."""
    objective = METHODS[e.method]
    leaves = [log_w.clone().requires_grad_(), log_w.clone().requires_grad_(), b.clone()]
    leaves[2].requires_grad_()
    beta = leaves[2].sigmoid() if objective.learns_beta else e.beta
    theta, phi = objective(*(w.unflatten(0, (M, K)) for w in leaves[:2]), beta)
    found = torch.autograd.grad(-(theta + phi).mean(), leaves, materialize_grads=True)
    return *found, -theta.mean().detach()


@pytest.mark.parametrize(
    "prepare",
    [engines.eager, pytest.param(engines.compiled_whole, marks=[pytest.mark.slow, needs_compiler])],
)
def test_each_run_of_a_stack_gets_the_cotangents_of_its_own_bounds(prepare):
    runs = side_by_side(runs_of(METHODS))
    log_w, b, learns, fixed = inputs(runs)
    counts = prepare(cotangents_of(bundles_of(runs)))(log_w, b, learns, fixed)
    for i, e in enumerate(runs):
        for ours, expected in zip(counts, of_one_run(e, log_w[i], b[i]), strict=True):
            torch.testing.assert_close(ours[i], expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("estimator", ["drep", "rws"])
@pytest.mark.parametrize("method", ["iwae", "miwae", "ciwae"])
def test_two_runs_of_one_bound_get_what_each_gets_alone(method, estimator):
    runs = [replace(e, estimator=estimator) for e in runs_of([method])]
    log_w, b, learns, fixed = inputs(runs)
    together = cotangents_of(bundles_of(runs))(log_w, b, learns, fixed)
    for i, e in enumerate(runs):
        here = slice(i, i + 1)
        alone = cotangents_of(bundles_of([e]))(log_w[here], b[here], learns[here], fixed[here])
        torch.testing.assert_close(together.phi[here], alone.phi, rtol=1e-12, atol=1e-15)


@pytest.mark.slow
@needs_compiler
def test_second_derivatives_are_compiled_with_the_rest():
    runs = [replace(e, estimator=name) for name in SECOND_ORDER for e in runs_of(["iwae", "ciwae"])]
    runs = side_by_side(runs)
    plain = cotangents_of(bundles_of(runs))
    expected = plain(*inputs(runs))
    found = engines.compiled_whole(plain)(*inputs(runs))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)


def test_runs_of_the_same_bounds_lie_side_by_side():
    runs = runs_of(METHODS)
    together = side_by_side(runs)
    assert sorted(map(id, together)) == sorted(map(id, runs))
    assert [e.method for e in together[::2]] == list(METHODS)
    groups = bundles_of(together)
    assert [(g.first, g.count) for g in groups] == [(2 * i, 2) for i in range(len(METHODS))]
    assert side_by_side(together) == together


@pytest.mark.slow
@needs_compiler
def test_all_bounds_are_compiled_into_few_kernels():
    from torch._inductor import metrics

    runs = side_by_side(runs_of([*TABLE_METHODS, "ciwae-learned"]))
    metrics.reset()
    torch.compiler.reset()
    engines.compiled_whole(cotangents_of(bundles_of(runs)))(*inputs(runs))
    assert 0 < metrics.generated_kernel_count <= COMPILED_KERNELS


@pytest.mark.slow
@needs_compiler
def test_a_bound_that_the_compiler_cannot_take_runs_as_it_is(monkeypatch):
    def counted(log_w):
        if log_w.detach().sum().item() > 1e9:
            return log_w.sum((-3, -2))
        return log_w.mean((-3, -2))

    monkeypatch.setitem(METHODS, "counted", both(counted))
    runs = runs_of(["counted"])
    function = cotangents_of(bundles_of(runs))
    prepared, remark = engines.ENGINES["compiled"].prepared_whole(function, inputs(runs))
    assert prepared is function
    assert remark.startswith("the bounds are not compiled (")
    assert "\n" not in remark


def test_an_engine_without_a_compiler_leaves_the_bounds_alone():
    function = cotangents_of(bundles_of(runs_of(["iwae"])))
    assert engines.ENGINES["graph"].prepared_whole(function, ()) == (function, "")
