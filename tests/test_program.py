"""One step of stacked runs: its gradient, its engines and its precisions."""

import contextlib
import types
from dataclasses import replace
from itertools import product

import pytest
import torch

from benchmarks import peers
from repro import ReproError, likelihood
from repro.bounds import METHODS, usual_layout
from repro.catalogue import MODELS
from repro.estimators import cotangents
from repro.models import ADAM_EPS, Autoencoder
from repro.randomness import generator
from repro.records import Archive
from repro.training import engines, loop
from repro.training.forecast import try_engines
from repro.training.program import Program, adam, plain_step
from repro.words import experiments
from repro.words.experiments import TABLE_METHODS
from tests.helpers import (
    SMALL,
    K,
    M,
    double_precision,
    few_digits,
    in_double,
    needs_compiler,
    tiny_problem,
    twin_draws,
)

RUNS = 2


def plan(method, seed="0", **words):
    return experiments.plan(method, profile="smoke", seed=seed, **words)


@pytest.mark.parametrize("pixels", [13, pytest.param(48, marks=pytest.mark.slow)])
@pytest.mark.parametrize("init", ["default", "burda"])
@pytest.mark.parametrize(
    "prepare",
    [engines.eager, pytest.param(engines.compiled, marks=[pytest.mark.slow, needs_compiler])],
)
def test_gradients_without_autograd_are_those_with_it(prepare, init, pixels):
    model, x, eps = tiny_problem(RUNS, pixels, init)
    model.prepare = prepare
    beta = torch.full((RUNS, 1), 0.3, dtype=x.dtype)
    for objective in METHODS.values():
        forward = model.forward_with_layers(x, eps)
        two = forward.log_w.clone().requires_grad_(), forward.log_w.clone().requires_grad_()
        theta, phi = objective(*(w.unflatten(1, (M, K)) for w in two), beta)
        a, b = torch.autograd.grad((theta + phi).sum(), two)
        ours = torch.cat(model.pull_back(forward, a, b), 1)
        theta, phi = objective(*model.log_weights(x, M, K, lambda shape: eps), beta)
        gradients = torch.autograd.grad((theta + phi).sum(), list(model.parameters()))
        expected = torch.cat([g.flatten(1) for g in gradients], 1)
        assert (ours - expected).norm() <= 1e-12 * expected.norm()
        with torch.no_grad():
            torch.testing.assert_close(
                model(x, eps)[0],
                model.log_weights(x, M, K, lambda shape: eps)[0].flatten(1, 2),
                rtol=1e-12,
                atol=0,
            )


EVERY_STEP = [*product([*TABLE_METHODS, "ciwae-learned"], ["adam"]), ("ciwae-learned", "sgd")]


@pytest.mark.parametrize(("method", "optimizer"), EVERY_STEP)
def test_the_fast_step_is_the_plain_step(small, method, optimizer):
    """After five steps a program of two runs is where the step as the paper writes it gets."""
    with double_precision():
        digits = in_double(few_digits())
        fast = Program(plan(method, seed="0,1", optimizer=optimizer), digits)
        start = Autoencoder(SMALL, fast.seeds)
        plain, bounds, b = after_plain_steps(5, fast, digits)
        for _ in range(5):
            fast.step()
    torch.testing.assert_close(-fast.losses[:5], bounds, rtol=1e-9, atol=0)
    for name, p in plain.named_parameters():
        assert p.dtype == torch.float64
        assert (fast.model.get_parameter(name) - p).norm() <= 1e-9 * p.norm(), name
        assert not torch.equal(p, start.get_parameter(name)), name
    if METHODS[method].learns_beta:
        torch.testing.assert_close(fast.beta, b.sigmoid()[:, 0], rtol=1e-9, atol=0)
        torch.testing.assert_close(fast.beta_parameter, b[:, 0], rtol=1e-9, atol=0)
        assert (fast.beta < 0.5).all()


def after_plain_steps(steps, program, dataset):
    """The networks after so many plain steps, theta's bound [step, run], and b [run, 1].

    beta = sigmoid(b), if it is learned.

    The runs are those of ``program``, and each step has the batch and the noise that it will see.
    """
    first = program.experiments[0]
    objective = METHODS[first.method]
    model = Autoencoder(MODELS[first.model], program.seeds)
    b = torch.nn.Parameter(torch.zeros(len(program.seeds), 1))  # beta starts at 0.5
    parameters = [*model.encoder.parameters(), *model.decoder.parameters()]
    if objective.learns_beta:
        parameters.append(b)
    rate = program.learning_rate.item()
    if first.optimizer == "adam":
        optimizer = torch.optim.Adam(parameters, lr=rate, eps=ADAM_EPS[first.init])
    else:
        optimizer = torch.optim.SGD(parameters, lr=rate)
    draws = twin_draws(program, dataset)
    bounds = []
    for _ in range(steps):
        x, noise = next(draws)
        eps = noise(first.M * first.K)
        beta = b.sigmoid() if objective.learns_beta else first.beta
        bounds.append(plain_step(model, objective, optimizer, x, eps, first.M, first.K, beta))
    return model, torch.stack(bounds), b


@pytest.mark.slow
@needs_compiler
def test_compiled_log_weights_are_exact_at_extreme_logits():
    """It is so in single precision, where log(1 + exp(l)) is a product of factors.

    The product neither overflows nor loses more than rounding.
    """
    order = torch.randperm(784, generator=torch.Generator().manual_seed(0))
    logits = torch.linspace(-120, 120, 3 * 5 * 7 * 784).view(1, 15, 7, 784)[..., order]
    function = engines.compiled(likelihood._log_partition_and_sigmoid)
    value, sigmoid = function(logits)
    expected = torch.nn.functional.softplus(logits.double()).sum(-1)
    torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=1e-3)
    torch.testing.assert_close(sigmoid.double(), logits.double().sigmoid(), rtol=1e-5, atol=1e-30)


def after(steps, engine="eager", precision="float32", method="piwae,ciwae-learned,vae"):
    runs = plan(method, "0,1", precision=precision)
    stack = loop.make(runs, few_digits(500), engine=engine)
    for _ in range(steps):
        stack.step()
    return stack


STEP = """
    _log_w_and_layers
    { cotangents descents last_layer_gradients } gradients_of_each join
    { decoder_gradient } encoder_gradient encoder_gradient encoder_gradient join
"""  # in braces what a GPU does on its second stream, beside what comes up to the next join


def test_what_waits_for_nothing_runs_beside_the_bounds(small):
    """The order of a step's functions and streams; two of the gradients are to choose beta."""
    program = Program(experiments.plan("ciwae", beta="learned", profile="smoke"), few_digits())
    seen = []

    class Beside:
        def __enter__(self):
            seen.append("{")

        def __exit__(self, *error):
            seen.append("}")

        def join(self):
            seen.append("join")

    def prepare(function, name=None):
        return lambda *what: seen.append(name or function.__name__) or function(*what)

    program.beside = Beside()
    program.engine = types.SimpleNamespace(prepare=prepare)
    program.model.prepare = prepare
    program.cotangents = prepare(program.cotangents, "cotangents")
    program.gradients(program.images[None, :20].round())
    assert seen == STEP.split()


@pytest.mark.parametrize("done", [0, 3, 24])
def test_capturing_a_graph_leaves_no_trace_wherever_in_its_epoch_training_goes_on(small, done):
    """On the CPU the step stands in for its graph, after the same steps on the side.

    25 steps make an epoch here.
    """
    plain = after(done)
    graph = after(0, "graph")
    graph.set_state(plain.get_state())
    for stack in (plain, graph):
        stack.step()
    for a, b in zip(graph.state.values(), plain.state.values(), strict=True):
        assert torch.equal(a, b)
    assert graph.replays


def test_several_steps_of_one_graph_are_that_many_steps(small):
    """On the CPU a function stands in for the graph that holds three steps."""
    plain, several = after(8), after(0)

    several.replays[3] = lambda: several._take(3)
    taken = []
    while sum(taken) < 8:
        taken.append(several.advance(8 - sum(taken)))
    assert taken == [3, 3, 1, 1]
    for a, b in zip(several.state.values(), plain.state.values(), strict=True):
        assert torch.equal(a, b)


@pytest.fixture
def uncompiled(monkeypatch):
    """Engines that run operation by operation what they would compile."""
    for name in ("compiled", "compiled_whole"):
        monkeypatch.setattr(engines, name, lambda function, fuses=False: function)


@pytest.mark.parametrize(
    ("words", "decoder"),
    [
        ({"method": "piwae,ciwae-learned,vae", "seed": "0,1"}, "own"),
        ({"method": "iwae,miwae", "optimizer": "sgd"}, "own"),
        ({"method": "piwae", "estimator": "drep"}, "vae"),
        ({"method": "ciwae", "beta": "learned"}, "own"),
    ],
)
def test_the_fused_step_gives_the_bits_of_the_graph_s(small, uncompiled, words, decoder):
    """After nine steps, of which six are taken by threes; what it would draw next is the same."""
    runs = [replace(e, decoder=decoder) for e in plan(**words)]
    made = [loop.make(runs, few_digits(), engine=f"{name}-graph") for name in ("compiled", "fused")]
    plain, fused = made
    plain.take_steps(9)
    fused.step()
    fused.replays[3] = lambda: fused._take(3)
    fused.take_steps(8)
    for a, b in zip(plain.state.values(), fused.state.values(), strict=True):
        assert torch.equal(a, b)
    for purpose, streams in plain.streams.items():
        assert all(map(torch.equal, streams.get_state(), fused.streams[purpose].get_state()))


@pytest.mark.parametrize("eps", [1e-8, 1e-4])
def test_the_compiled_step_of_adam_is_that_of_the_library(eps):
    """Three steps, of which the second leaves a parameter out."""
    g = generator(0, "adam")
    start = [torch.randn(3, 5, generator=g), torch.randn(7, generator=g)]
    theirs = [torch.nn.Parameter(p.clone()) for p in start]
    ours = [p.clone() for p in start]
    rate = torch.tensor(0.01)
    optimizer = torch.optim.Adam(theirs, lr=rate, eps=eps, fused=True)
    moments = [[p, torch.zeros(()), torch.zeros_like(p), torch.zeros_like(p)] for p in ours]
    for moving in ([0, 1], [1], [0, 1]):
        gradients = [torch.randn(start[i].shape, generator=g) for i in moving]
        optimizer.zero_grad()
        for i, gradient in zip(moving, gradients, strict=True):
            theirs[i].grad = gradient
        optimizer.step()
        adam([moments[i] for i in moving], gradients, rate, eps)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b.detach(), rtol=1e-6, atol=1e-7)


def test_numbers_that_are_taken_as_zero_change_no_bit_and_are_numbers_elsewhere(small, monkeypatch):
    """Early in training some normalised weights are below 1e-38, which processors are slow at."""
    log_w = 50 * torch.randn(2, 64, 20, generator=generator(0, "test"))
    ends = []
    for context in (contextlib.nullcontext, engines.tiny_numbers_as_zero):
        monkeypatch.setattr("repro.training.program.tiny_numbers_as_zero", context)
        program = Program(plan("iwae,piwae"), few_digits())
        of_beta = program.fixed_beta, program.learns, program.fixed_beta
        with context():
            weights = program.cotangents(log_w, *of_beta)
        tiny = (weights.phi < 0) & (weights.phi > -1e-38)
        assert tiny.any() == (context is contextlib.nullcontext)
        for _ in range(8):
            program.step()
        assert torch.tensor([1e-40]).mul(1).item() > 0
        ends.append(program.get_state()["tensors"])
    for name, tensor in ends[0].items():
        assert torch.equal(tensor, ends[1][name]), name


def test_a_program_goes_on_from_a_state_in_place(small):
    whole = after(7)
    state = after(4).get_state()
    other = after(2)
    places = {name: tensor.data_ptr() for name, tensor in other.state.items()}
    other.set_state(state)
    for _ in range(3):
        other.step()
    for name, tensor in other.state.items():
        assert tensor.data_ptr() == places[name], "a captured graph would read the old place"
        assert torch.equal(tensor, whole.state[name])


def test_an_engine_that_cannot_be_had_falls_back_with_its_reason(small, monkeypatch):
    def compiled(function, fuses):
        try:
            raise RuntimeError("no compiler\nand more")
        except RuntimeError:
            raise ValueError("what follows from it") from None

    monkeypatch.setattr(engines, "compiled", compiled)
    trial = try_engines(plan("vae"), few_digits(500), engine="compiled")
    assert trial.engine == "eager"
    cause = "the compiled engine is not available here (RuntimeError: no compiler\nand more)"
    assert trial.why == cause
    assert trial.remark == ""
    assert trial.seconds > 0
    with pytest.raises(ReproError, match="compiled engine is not available here"):
        try_engines(plan("vae"), few_digits(500), engine="compiled", fallback=False)
    with pytest.raises(ReproError, match="unknown engine 'compield'; did you mean 'compiled'"):
        try_engines(plan("vae"), few_digits(500), engine="compield")


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("engine", ["compiled", "fused-graph"])
def test_the_compiled_engine_follows_the_eager_one(small, engine):
    a = after(20, engine, method="vae").state
    b = after(20, method="vae").state
    assert (a["decoder"] - b["decoder"]).norm() <= 1e-4 * b["decoder"].norm()
    torch.testing.assert_close(a["losses"], b["losses"], rtol=1e-4, atol=1e-2)


def test_bf16_gradients_are_near_and_parameters_stay_float32(small):
    stack = after(20, precision="bf16")
    assert {p.dtype for p in stack.model.parameters()} == {torch.float32}
    x = stack.images[None, :20].expand(6, -1, -1).round()
    eps = torch.randn(6, 64, 20, 5, generator=torch.Generator().manual_seed(0))
    of_beta = (stack.beta_parameter.detach(), stack.learns, stack.fixed_beta)
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        forward = stack.model.forward_with_layers(x, eps, dtype)
        counts = stack.cotangents(forward.log_w, *of_beta)
        found.append(torch.cat(stack.model.pull_back(forward, counts.theta, counts.phi), 1))
    full, half = found
    error = (half - full).norm(dim=1) / full.norm(dim=1)
    assert 1e-6 < error.min() < error.max() < 0.02


def rounded_to_tf32(a):
    """The nearest number with ten bits after the leading one, as a GPU rounds a factor."""
    return ((a.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


def gradients_of(model, method, x, eps, dtype=None):
    """Those of the encoder and of the decoder."""
    forward = model.forward_with_layers(x.to(eps.dtype), eps, dtype)
    _, M, K = usual_layout(method)
    counts = cotangents(forward.log_w, METHODS[method], M, K)
    return model.pull_back(forward, counts.theta, counts.phi)


@pytest.mark.slow
@pytest.mark.parametrize(("trained", "most"), [(False, 1.5), (True, 1.3)])
def test_float16_errs_as_tensorfloat32_does_and_bfloat16_far_more(monkeypatch, trained, most):
    """As a GPU computes, emulated, against float64: over 8 images, initial and trained weights."""
    g = generator(0, "test")
    model = Autoencoder(MODELS["reference"], [0])
    if trained:
        (e,) = experiments.plan("iwae", "mnist", profile="short", seed=2)
        model.load_run_state(0, Archive().get(e).weights())
    exact = Autoencoder(MODELS["reference"], [0]).double()
    exact.load_run_state(0, model.run_state(0))
    x = model.decoder(torch.randn(1, 8, 50, generator=g)).sigmoid().bernoulli(generator=g).detach()
    eps = torch.randn(1, 64, 8, 50, generator=g)

    def product(a, b):
        if a.dtype == torch.float32:
            a, b = rounded_to_tf32(a), rounded_to_tf32(b)
        return torch.bmm(a, b)

    dtypes = {"tf32": None, "fp16": torch.float16, "bf16": torch.bfloat16}
    for method in ("iwae", "miwae", "vae"):
        expected = gradients_of(exact, method, x, eps.double())
        monkeypatch.setattr(likelihood, "_is_compiled_for_gpu", lambda x: x.dtype == torch.float32)
        monkeypatch.setattr(likelihood, "product", product)
        found = {name: gradients_of(model, method, x, eps, d) for name, d in dtypes.items()}
        monkeypatch.undo()
        for network, exactly in enumerate(expected):
            error = {name: (both[network] - exactly).norm() for name, both in found.items()}
            assert 0.5 * error["tf32"] < error["fp16"] < most * error["tf32"], (method, network)
            assert error["bf16"] > 3 * error["tf32"], (method, network)


@pytest.mark.parametrize("method", TABLE_METHODS)
def test_the_plain_loop_of_the_benchmark_starts_from_the_same_loss(method):
    """What ours is timed against does the same work.

    Its first loss is ours but for weights and noise.
    """
    torch.manual_seed(0)
    plain = peers.plain(method, few_digits(500).train, MODELS["reference"], 20, "cpu")()
    ours = after(1, method=method).losses[0].mean().item()
    assert abs(plain / ours - 1) < 0.03
