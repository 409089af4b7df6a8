"""One step of stacked runs: its gradient, its engines and its precisions."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

from repro import ReproError, experiments, likelihood, program, training
from repro.bounds import METHODS
from repro.models import MODELS, Architecture, Autoencoder
from repro.program import Program
from repro.training import try_engines
from tests.test_training import SMALL, few_digits

M, K, BATCH, RUNS = 3, 5, 7, 2
needs_compiler = pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler here")


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setitem(MODELS, "reference", SMALL)


def plan(method, seed="0", precision="float32"):
    return experiments.plan(method, profile_name="smoke", seed=seed, precision=precision)


def problem(pixels, runs=RUNS, init="default"):
    g = torch.Generator().manual_seed(1)
    model = Autoencoder(Architecture(hidden=11, latent=2, pixels=pixels), [*range(runs)], init, torch.rand(pixels, generator=g)).double()
    x = torch.rand(runs, BATCH, pixels, generator=g, dtype=torch.float64).round()
    return model, x, torch.randn(runs, M * K, BATCH, 2, generator=g, dtype=torch.float64)


@pytest.mark.parametrize("pixels", [13, pytest.param(48, marks=pytest.mark.slow)])
@pytest.mark.parametrize("init", ["default", "burda"])
@pytest.mark.parametrize("how", [likelihood.eager, pytest.param(likelihood.compiled, marks=[pytest.mark.slow, needs_compiler])])
def test_gradients_without_autograd_are_those_with_it(how, init, pixels):
    model, x, eps = problem(pixels, init=init)
    for objective in METHODS.values():

        def weigh(log_w, objective=objective):
            with torch.enable_grad():
                two = log_w.clone().requires_grad_(), log_w.clone().requires_grad_()
                theta, phi = objective(*(w.unflatten(1, (M, K)) for w in two), torch.full((RUNS, 1), 0.3, dtype=x.dtype))
                return torch.autograd.grad((theta + phi).sum(), two)

        model.how = how
        ours = torch.cat(model.gradients(x, eps, weigh), 1)
        theta, phi = objective(*model.log_weights(x, M, K, lambda shape: eps), torch.full((RUNS, 1), 0.3, dtype=x.dtype))
        expected = torch.cat([g.flatten(1) for g in torch.autograd.grad((theta + phi).sum(), list(model.parameters()))], 1)
        assert (ours - expected).norm() <= 1e-12 * expected.norm()
        with torch.no_grad():
            torch.testing.assert_close(model(x, eps)[0], model.log_weights(x, M, K, lambda shape: eps)[0].flatten(1, 2), rtol=1e-12, atol=0)


@pytest.mark.slow
@needs_compiler
def test_compiled_log_weights_are_exact_at_extreme_logits():
    """Single precision: log(1 + exp(l)) as a product of factors neither overflows nor loses more than rounding."""
    logits = torch.linspace(-120, 120, 3 * 5 * 7 * 784).view(1, 15, 7, 784)[..., torch.randperm(784, generator=torch.Generator().manual_seed(0))]
    value, sigmoid = likelihood.compiled(likelihood._log_partition_and_sigmoid)(logits)
    torch.testing.assert_close(value.double(), torch.nn.functional.softplus(logits.double()).sum(-1), rtol=1e-6, atol=1e-3)
    torch.testing.assert_close(sigmoid.double(), logits.double().sigmoid(), rtol=1e-5, atol=1e-30)


def after(steps, engine="eager", precision="float32", method="piwae,ciwae-learned,vae"):
    stack = Program(plan(method, "0,1", precision=precision), few_digits(500), engine=engine)
    for _ in range(steps):
        stack.step()
    return stack


@pytest.mark.parametrize("done", [0, 3, 24])
def test_capturing_a_graph_leaves_no_trace_wherever_in_its_epoch_training_goes_on(small, done):
    """Elsewhere than on CUDA the step stands in for its graph, after the same steps on the side; 25 make an epoch here."""
    plain, graph = after(done), after(0, "graph")
    graph.set_state(plain.get_state())
    for stack in (plain, graph):
        stack.step()
    for a, b in zip(graph.state.values(), plain.state.values(), strict=True):
        assert torch.equal(a, b)
    assert graph.replay is not None


def test_a_program_goes_on_from_a_state_in_place(small):
    whole, half = after(7), after(4)
    state, other = half.get_state(), after(2)
    places = {name: tensor.data_ptr() for name, tensor in other.state.items()}
    other.set_state(state)
    for _ in range(3):
        other.step()
    for name, tensor in other.state.items():
        assert tensor.data_ptr() == places[name], "a captured graph would go on reading the old place"
        assert torch.equal(tensor, whole.state[name])


def test_an_engine_that_cannot_be_had_falls_back_with_its_reason(small, monkeypatch):
    def compiled(function):
        try:
            raise RuntimeError("no compiler\nand more")
        except RuntimeError:
            raise ValueError("what follows from it") from None

    monkeypatch.setattr(program, "compiled", compiled)
    engine, seconds, why = try_engines(plan("vae"), few_digits(500), engine="compiled")
    assert (engine, why) == ("eager", "compiled engine not to be had here (RuntimeError: no compiler)")
    assert seconds > 0
    with pytest.raises(ReproError, match="unknown engine 'compield'; did you mean 'compiled'"):
        try_engines(plan("vae"), few_digits(500), engine="compield")


@pytest.mark.slow
@needs_compiler
def test_the_compiled_engine_follows_the_eager_one(small):
    a, b = after(20, "compiled", method="vae").state, after(20, method="vae").state
    assert (a["decoder"] - b["decoder"]).norm() <= 1e-4 * b["decoder"].norm()
    torch.testing.assert_close(a["losses"], b["losses"], rtol=1e-4, atol=1e-2)


def test_bf16_gradients_are_near_and_parameters_stay_float32(small):
    stack = after(20, precision="bf16")
    assert {p.dtype for p in stack.model.parameters()} == {torch.float32}
    x, eps = stack.images[None, :20].expand(6, -1, -1).round(), torch.randn(6, 64, 20, 5, generator=torch.Generator().manual_seed(0))
    full, half = (torch.cat(stack.model.gradients(x, eps, stack._weigh, dtype), 1) for dtype in (None, torch.bfloat16))
    error = (half - full).norm(dim=1) / full.norm(dim=1)
    assert 1e-6 < error.min() < error.max() < 0.02


@pytest.mark.slow
def test_training_curves_of_the_precisions_agree(small):
    """IWAE-64 after 3 epochs, bf16 against float32 with the same seeds: the mean of the paired differences is below 3 standard errors."""
    ends = []
    for precision in ("float32", "bf16"):
        fit = training.fit(plan("iwae,piwae", "0,1,2,3", precision=precision), few_digits(1500, 40))
        ends.append(torch.tensor([curve[-1]["iwae_64"] for curve in fit.curves]))
    difference = ends[1] - ends[0]
    assert difference.abs().mean() > 0
    assert difference.mean().abs() < 3 * difference.std() / len(difference) ** 0.5
    assert difference.abs().max() < 2


INTERPRETED = """
import torch
from repro import kernels, likelihood

g = torch.Generator().manual_seed(0)
for runs, T, batch, hidden, pixels in ((2, 5, 7, 11, 37), (3, 13, 5, 200, 64)):
    x = torch.rand(1, batch, pixels, generator=g).round().expand(runs, -1, -1)
    h2 = torch.randn(runs, T * batch, hidden, generator=g).tanh()
    flat = torch.randn(runs, pixels * (hidden + 1), generator=g) * 0.3
    w3, b3 = flat[:, : pixels * hidden].view(runs, pixels, hidden), flat[:, pixels * hidden :]
    plain = likelihood.last_layer(x.double(), h2.double(), w3.double(), b3.double())
    for a, b in zip(kernels.last_layer(x, h2, w3, b3), plain, strict=True):
        assert (a.double() - b).norm() <= 1e-6 * b.norm()
"""


@pytest.mark.skipif(not find_spec("triton"), reason="triton is not installed")
def test_the_kernel_of_the_last_layer_gives_what_the_plain_one_gives():
    """On Triton's interpreter, which has no bfloat16 products, with runs, rows, units and pixels that fill no tile."""
    done = subprocess.run([sys.executable, "-c", INTERPRETED], env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("method", ["iwae", "piwae", "miwae", "ciwae", "vae"])
def test_the_plain_loop_of_the_benchmark_starts_from_the_same_loss(method):
    """What ours is timed against does the same work: its first loss is ours but for weights and noise."""
    from benchmarks import peers

    torch.manual_seed(0)
    plain = peers.plain(method, few_digits(500).train, MODELS["reference"], 20, "cpu")()
    ours = after(1, method=method).losses[0].mean().item()
    assert abs(plain / ours - 1) < 0.03
