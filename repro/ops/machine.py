"""Whether a machine trains as it should: each engine against float64, and what to use here.

Every engine is tried at every precision in a process of its own, so that one that fails leaves no
trace in the next. On a GPU these processes compile side by side and take turns where time counts.
``tried`` gives one line for each thing that is tried.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch

from repro import ReproError, datasets, plural
from repro.catalogue import DATASETS, MODELS
from repro.datasets import Dataset
from repro.models import Autoencoder
from repro.records import Archive
from repro.records.provenance import device_name
from repro.scores import iwae_bound
from repro.training import engines
from repro.training.groups import cotangents_of, groups_of
from repro.training.loop import alone
from repro.training.program import Program, matmul_precision
from repro.words.experiments import PRECISIONS, Experiment, plan

GRADIENT_ERROR = {"float32": 2e-5, "tf32": 3e-3, "bf16": 3e-2}  # relative, against float64
LOSS_ERROR = {"float32": 1e-3, "tf32": 5e-3, "bf16": 1e-2}  # of 50 steps, relative, against eager
STEPS = 50
PRODUCT_SIZE = 2048  # of the square matrices whose product shows what the machine can do
COPIED = 64 * 2**20  # bytes
TRIAL_SECONDS = 240.0  # an engine that takes longer has failed
TURNS = "repro-check.lock"  # of the trials that run at the same time, and of other checks


@dataclass(frozen=True)
class Finding:
    """One thing that was tried: what came of it, and whether that is as it should be."""

    part: str
    what: str
    found: str
    ok: bool = True


@dataclass(frozen=True)
class Choice:
    """An engine and a precision that passed, and how long their step takes."""

    engine: str
    precision: str
    milliseconds: float

    @property
    def words(self) -> str:
        """The options of ``python -m repro train`` that make this choice."""
        return f"--engine {self.engine} --precision {self.precision}"


# The machine


def of_versions(device: str) -> Iterator[Finding]:
    """What is installed."""
    yield Finding("machine", "device", device_name(device))
    yield Finding("machine", "torch", torch.__version__)
    if device == "cuda":
        yield Finding("machine", "CUDA of torch", str(torch.version.cuda))
    compiles = engines.fastest() is engines.compiled
    yield Finding("machine", "torch.compile", "works" if compiles else "no compiler: eager only")
    for package in ("triton", "pooch"):
        there = "installed" if find_spec(package) else "not installed"
        yield Finding("machine", package, there)


def of_data(data: str | Path | None) -> Iterator[Finding]:
    """Which datasets are there and verified; one that has yet to be fetched is no fault."""
    for name in DATASETS:
        try:
            found = datasets.load(name, data)
        except ReproError as error:
            yield Finding("data", name, f"not available: {error}", ok=name != "digits")
        else:
            yield Finding("data", name, f"verified, {len(found.train):,} training images")


def of_speed(device: str) -> Iterator[Finding]:
    """How fast memory is copied, and the decoder's largest product beside a large square one."""
    source = torch.zeros(COPIED // 4, device=device)
    target = torch.empty_like(source)
    seconds = _median_seconds(lambda: target.copy_(source), device)
    yield Finding("speed", "copy", f"{2 * COPIED / seconds / 1e9:,.0f} GB/s")
    square = torch.randn(PRODUCT_SIZE, PRODUCT_SIZE, device=device)
    ceiling = 2 * PRODUCT_SIZE**3 / _median_seconds(lambda: square @ square, device)
    yield Finding("speed", "float32 product", f"{ceiling / 1e9:,.0f} GFLOP/s")
    shape = MODELS["reference"]
    rows = torch.randn(5, 64 * 20, shape.hidden, device=device)
    weights = torch.randn(5, shape.hidden, shape.pixels, device=device)
    operations = 2 * 5 * 64 * 20 * shape.hidden * shape.pixels
    reached = operations / _median_seconds(lambda: torch.bmm(rows, weights), device)
    yield Finding("speed", "the decoder's product", f"{reached / ceiling:.0%} of that")


def _median_seconds(call: Callable[[], object], device: str) -> float:
    times = []
    for _ in range(12):
        begun = time.perf_counter()
        call()
        _wait(device)
        times.append(time.perf_counter() - begun)
    return sorted(times[2:])[5]


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


# An engine at a precision, in a process of its own


def of_engine(
    engine: str, precision: str, device: str, turns: str | None = None
) -> Iterator[Finding | Choice]:
    """All that is tried of an engine; it ends with the choice, if nothing was wrong.

    ``turns`` is a file whose lock the trials that run at the same time share.
    """
    part = f"{engine}, {precision}"
    dataset = _short_epoch(datasets.load("digits"))
    runs = _runs(device, precision)
    program = Program(runs, dataset, device, engine)
    program.step()  # compiles and captures
    if precision != "float32":
        slower = _times_slower_than_eager(program, dataset)
        if slower > 1:
            text = f"a step takes {slower:.1f} times as long as eager float32's: not tried further"
            yield Finding(part, "not worth using here", text)
            return
    right = True
    with _turn(turns, alone_there=False):
        for what, text, ok in _outcomes(program, dataset):
            yield Finding(part, what, text, ok)
            right = right and ok
    with _turn(turns, alone_there=True):
        milliseconds = 1e3 * _seconds_of_step(program)
        if device == "cuda":
            yield from _kernels(part, program)
    yield Finding(part, f"step of {plural(len(runs), 'run')}", f"{milliseconds:.3f} ms")
    if right:
        yield Choice(engine, precision, milliseconds)


@contextlib.contextmanager
def _turn(turns: str | None, alone_there: bool) -> Iterator[None]:
    """Hold the device's lock, with the other trials or, if ``alone_there``, without them."""
    if turns is None:
        yield
        return
    import fcntl

    with open(turns) as file:
        fcntl.flock(file, fcntl.LOCK_EX if alone_there else fcntl.LOCK_SH)
        yield


def _seconds_of_step(program: Program) -> float:
    """The median over a few rounds of so many steps that starting them does not count."""
    device = program.device.type
    steps = 1 if device == "cpu" else STEPS

    def round_of_steps():
        program.index.zero_()
        _take_steps(program, steps)

    return _median_seconds(round_of_steps, device) / steps


def _take_steps(program: Program, count: int) -> None:
    """As training does: several at once, where a graph holds several."""
    while count:
        count -= program.advance(count)


Tried = tuple[str, str, bool]  # what was tried, what came of it, and whether that is right


def _outcomes(program: Program, dataset: Dataset) -> Iterator[Tried]:
    if program.remark:
        yield "bounds", program.remark, False
    yield _noise(program)
    yield _gradient_error(program)
    yield _steps_against_eager(program, dataset)
    yield _set_back(program)
    yield _saved_and_resumed(program, dataset)
    yield _new_epoch(program)
    yield _evaluation(program, dataset)


def _times_slower_than_eager(program: Program, dataset: Dataset) -> float:
    device = program.device.type
    eager = Program(_runs(device), dataset, program.device, "eager")
    start = program.get_state()
    seconds = _median_seconds(program.step, device)
    program.set_state(start)
    return seconds / _median_seconds(eager.step, device)


def _runs(device: str, precision: str = "float32") -> list[Experiment]:
    """Table 1's five methods, if they train as one program; else the one with two bounds."""
    runs = plan(profile="smoke", precision=precision)
    if alone(runs, device):
        return [e for e in runs if e.method == "piwae"]
    return runs


def _short_epoch(dataset: Dataset) -> Dataset:
    """The dataset with as many images as the trial takes steps, and some more."""
    images = dataset.train[: (STEPS + 10) * 20]
    return Dataset(dataset.name, dataset.variant, images, dataset.test[:100])


def _noise(program: Program) -> Tried:
    """From one start, IWAE and PIWAE have the same first loss; a second step has another."""
    first = program.losses[0].clone()
    program.step()
    by_method = {e.method: first[i] for i, e in enumerate(program.experiments)}
    if bool((program.losses[1] == first).any()):
        return "noise", "the same in two steps", False
    if "iwae" not in by_method:
        return "noise", "new in each step", True
    shared = bool((by_method["iwae"] - by_method["piwae"]).abs() < 1e-3)
    return "noise", "shared by a seed's runs" if shared else "not shared by a seed's runs", shared


def _gradient_error(program: Program) -> Tried:
    """One gradient of every run, beside the same gradient in float64 on the CPU."""
    x = program.images[None, :20].expand(len(program.seeds), -1, -1).round().contiguous()
    before = program.streams["noise"].get_state()
    with matmul_precision(program.precision):
        found = program.gradients(x)
    program.streams["noise"].set_state(before)
    eps = program.streams["noise"].normal((program.T, 20, program.model.shape.latent))
    expected = _exact_gradients(program, x, eps)
    ours = torch.cat([found.encoder, found.decoder], 1).double().cpu()
    error = float(((ours - expected).norm(dim=1) / expected.norm(dim=1)).max())
    return "gradient against float64", f"{error:.1e}", error < GRADIENT_ERROR[program.precision]


def _exact_gradients(program: Program, x: torch.Tensor, eps: torch.Tensor) -> torch.Tensor:
    """[run, parameters] in float64."""
    model = Autoencoder(program.model.shape, program.seeds).double()
    for run in range(len(program.seeds)):
        model.load_run_state(run, program.model.run_state(run))
    forward = model.forward_with_layers(x.double().cpu(), eps.double().cpu())
    fixed = program.fixed_beta.double().cpu()
    of_all = cotangents_of(groups_of(program.experiments))
    counts = of_all(forward.log_w, torch.zeros_like(fixed), program.learns.cpu(), fixed)
    return torch.cat(model.pull_back(forward, counts.theta, counts.phi), 1)


def _steps_against_eager(program: Program, dataset: Dataset) -> Tried:
    """Losses of 50 steps beside those of the eager engine in float32, from the same start."""
    eager = Program(_runs(program.device.type), dataset, program.device, "eager")
    other = Program(program.experiments, dataset, program.device, program.engine.name)
    for each in (eager, other):
        _take_steps(each, STEPS)
    ours, theirs = other.losses[:STEPS], eager.losses[:STEPS]
    error = float(((ours - theirs).abs() / theirs.abs()).mean())
    return "50 steps against eager", f"{error:.1e}", error < LOSS_ERROR[program.precision]


def _set_back(program: Program) -> Tried:
    """Three steps, set back and taken again, give the same bits."""
    saved = program.get_state()
    first = _three_losses(program)
    program.set_state(saved)
    again = _three_losses(program)
    return "set back and replayed", *_same(torch.equal(first, again))


def _three_losses(program: Program) -> torch.Tensor:
    at = int(program.index)
    for _ in range(3):
        program.step()
    return program.losses[at : at + 3].clone()


def _same(equal: bool) -> tuple[str, bool]:
    return ("bit for bit" if equal else "other numbers"), equal


def _saved_and_resumed(program: Program, dataset: Dataset) -> Tried:
    """A new program goes on from a state as the old one does."""
    saved = program.get_state()
    here = _three_losses(program)
    other = Program(program.experiments, dataset, program.device, program.engine.name)
    other.step()
    other.set_state(saved)
    return "saved and resumed", *_same(torch.equal(here, _three_losses(other)))


def _new_epoch(program: Program) -> Tried:
    """The next epoch takes other batches, and needs no new capture."""
    program.start_epoch(0)
    replays = program.replays
    first = _three_losses(program)
    program.start_epoch(1)
    second = _three_losses(program)
    same_replay = program.replays is replays
    ok = same_replay and not torch.equal(first, second)
    return "a new epoch", "no new capture" if same_replay else "captured again", ok


def _evaluation(program: Program, dataset: Dataset) -> Tried:
    """IWAE with 64 and with 1,000 samples of 100 images, and the most memory it took."""
    begun = time.perf_counter()
    program.model.prepare = engines.fastest()
    few = iwae_bound(program.model, dataset.test, program.seeds, "check", 64)
    many = iwae_bound(program.model, dataset.test, program.seeds, "check", 1000)
    seconds = time.perf_counter() - begun
    text = f"{seconds:.1f} s"
    if program.device.type == "cuda":
        text += f", {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB"
    ok = bool(few.isfinite().all() and many.mean() > few.mean())
    return "evaluation", text, ok


def _kernels(part: str, program: Program) -> Iterator[Finding]:
    """Launches of a step, and the fifteen kernels that take most of its time."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        _take_steps(program, 10)
        torch.cuda.synchronize()
    kernels = profiler.key_averages()
    busy = sum(k.device_time_total for k in kernels) / 10
    text = f"{sum(k.count for k in kernels) / 10:.0f}, which take {busy:.0f} us"
    yield Finding(part, "launches of a step", text)
    for k in sorted(kernels, key=lambda k: -k.device_time_total)[:15]:
        text = f"{k.count / 10:.1f} times, {k.device_time_total / 10:.1f} us: {k.key[:60]}"
        yield Finding(part, "kernel", text)


def of_engines(device: str) -> Iterator[Finding | Choice]:
    """Every trial that the device is worth; on a GPU some of them at the same time."""
    if device == "cpu":
        for trial in trials(device):
            yield from _in_own_process(device, trial)
        return
    turns = Path(tempfile.gettempdir(), TURNS)
    turns.touch()
    together = max(1, (os.cpu_count() or 1) - 2)
    with ThreadPoolExecutor(together) as pool:
        each = partial(_in_own_process, device, turns=str(turns))
        for found in pool.map(each, trials(device)):
            yield from found


def _in_own_process(
    device: str, trial: tuple[str, str], turns: str | None = None
) -> list[Finding | Choice]:
    """``of_engine`` in a process of its own; that it ended badly is a finding."""
    command = [sys.executable, "-m", "repro.ops.machine", *trial, device]
    environment = dict(os.environ)
    if turns is not None:
        command.append(turns)
        environment["TORCHINDUCTOR_COMPILE_THREADS"] = "3"
    part = ", ".join(trial)
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TRIAL_SECONDS, env=environment
        )
    except subprocess.TimeoutExpired:
        return [Finding(part, "trial", f"not done after {TRIAL_SECONDS:.0f} s", ok=False)]
    found: list[Finding | Choice] = []
    for line in done.stdout.splitlines():
        fields = json.loads(line)
        found.append(Choice(**fields) if "milliseconds" in fields else Finding(**fields))
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        found.append(Finding(part, "trial", f"failed: {said[-1][:200]}", ok=False))
    return found


def trials(device: str) -> list[tuple[str, str]]:
    """The engines that a device has, with the precisions that they are worth trying at."""
    found = []
    for engine in engines.ENGINES.values():
        precisions = [p for p in PRECISIONS if p == "float32" or engine.compiles]
        if device == "cpu":
            precisions = [p for p in precisions if p == "float32" or _helps_a_cpu(engine, p)]
        found += [(engine.name, precision) for precision in precisions]
    return found


def _helps_a_cpu(engine: engines.Engine, precision: str) -> bool:
    """A CPU has no TensorFloat-32, and a graph adds nothing to an engine."""
    return precision == "bf16" and not engine.graph


# The command as a user gives it


def of_command(device: str) -> Iterator[Finding]:
    """A training that is terminated goes on when its command is given again, to a whole record."""
    with tempfile.TemporaryDirectory() as folder:
        words = "train --profile smoke --method iwae --epochs 2 --engine eager"
        command = [sys.executable, "-m", "repro", *words.split(), "--device", device]
        command += ["--results", folder]
        first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for line in first.stdout:
            if "should take about" in line:
                break
        time.sleep(1)
        first.send_signal(signal.SIGTERM)
        first.stdout.read()
        stopped = first.wait()
        yield Finding("command", "SIGTERM", f"exit status {stopped}", ok=stopped == 3)
        again = subprocess.run(command, capture_output=True, text=True)
        ok = again.returncode == 0 and len(Archive(folder).records("smoke")) == 1
        text = "a whole record" if ok else (again.stderr.strip() or again.stdout.strip())[-200:]
        yield Finding("command", "resumed", text, ok)


def tried(device: str, data: str | Path | None) -> Iterator[Finding | Choice]:
    """All that is tried on this machine, in order."""
    yield from of_versions(device)
    yield from of_data(data)
    yield from of_speed(device)
    yield from of_engines(device)
    yield from of_command(device)


def advice(choices: list[Choice]) -> list[str]:
    """What to train with: the fastest in float32, as the records are, and the fastest of all."""
    exact = [c for c in choices if c.precision == "float32"]
    if not exact:
        return ["no engine passed in float32"]
    best = _fastest(exact)
    lines = [f"use {best.words}: {best.milliseconds:.2f} ms a step"]
    fastest = _fastest(choices)
    if fastest.precision != "float32":
        lines.append(f"or, faster, {fastest.words}: {fastest.milliseconds:.2f} ms a step")
    return lines


def _fastest(choices: list[Choice]) -> Choice:
    """The first, and so the simplest, of those that are within 5 % of the fastest."""
    least = min(c.milliseconds for c in choices)
    return next(c for c in choices if c.milliseconds <= 1.05 * least)


if __name__ == "__main__":
    for found in of_engine(*sys.argv[1:]):
        print(json.dumps(asdict(found)), flush=True)
