"""How fast a training step and an evaluation are, beside others and beside what the machine could do.

    python -m benchmarks.speed            # a few minutes
    python -m benchmarks.speed --grid     # all of runs 1, 5, 20, batch 20, 100, reference and larger

Everything is timed in one process, in blocks that take turns, and given as medians over the blocks, so that what else the
machine does falls on all alike; a ratio is the median of the ratios of blocks beside one another. Peers that are not
installed (``pip install -e .[bench]``) are left out by name.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import click
import torch

from benchmarks import peers
from repro import data, experiments, likelihood, models, program, records
from repro.__main__ import pick_device
from repro.evaluation import log_weight_sums

FIVE = ["iwae", "piwae", "miwae", "ciwae", "vae"]


def seconds(step: Callable[[], object], device: str, block: float) -> float:
    """Mean seconds a call over calls that fill ``block`` seconds."""
    begun, calls = time.perf_counter(), 0
    while calls == 0 or time.perf_counter() - begun < block:
        step()
        calls += 1
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - begun) / calls


def in_turns(candidates: dict[str, Callable[[], object]], device: str, rounds: int, block: float) -> dict[str, list[float]]:
    """Seconds a call of each candidate in each round, after one block to warm up."""
    times = {name: [] for name in candidates}
    for i in range(rounds + 1):
        for name, step in candidates.items():
            once = seconds(step, device, block)
            if i:
                times[name].append(once)
    return times


def floor(shape: models.Architecture, batch: int, device: str, dtype: torch.dtype, rounds: int) -> dict[str, float]:
    """The least a step of one run could take: its operations and bytes over what this machine reaches on large arrays."""
    a, b = (torch.randn(2048, 2048, device=device).to(dtype) for _ in range(2))
    large = torch.randn(2**24, device=device)
    copy = torch.empty_like(large)
    times = in_turns({"product": lambda: a @ b, "copy": lambda: copy.copy_(large)}, device, rounds, 0.3)
    operations_a_second, bytes_a_second = 2 * 2048**3 / median(times["product"]), 2 * large.nbytes / median(times["copy"])
    h, latent, pixels, rows = shape.hidden, shape.latent, shape.pixels, batch * experiments.T
    encoder, decoder = pixels * h + h * h + 2 * h * latent, latent * h + h * h + h * pixels
    operations = 3 * 2 * (batch * encoder + rows * decoder) - 2 * batch * pixels * h
    traffic = 4 * (7 * (encoder + decoder) + batch * pixels)  # Adam reads four arrays and writes three; each image is read
    return {
        "operations": operations,
        "bytes": traffic,
        "GFLOP/s": operations_a_second / 1e9,
        "GB/s": bytes_a_second / 1e9,
        "seconds": max(operations / operations_a_second, traffic / bytes_a_second),
    }


def ours(methods, dataset, model, batch, device, engine, precision, seeds=1, one_stack=False) -> Callable[[], None]:
    """A step of all runs: one stack on an accelerator, one after the other on the CPU, as ``training.fit`` does it."""
    plan = experiments.plan(",".join(methods), dataset="digits", profile_name="smoke", model=model, seed=",".join(map(str, range(seeds))))
    plan = [replace(e, batch_size=batch, precision=precision) for e in plan]
    stacks = [[e] for e in plan] if device == "cpu" and not one_stack else [plan]
    programs = [program.Program(stack, dataset, device, engine) for stack in stacks]

    def step() -> None:
        for p in programs:
            if steps[0] % p.steps_per_epoch == 0:
                p.start_epoch(0)
            p.step()
        steps[0] += 1

    steps = [0]
    return step


def case(dataset, model: str, batch: int, methods: list[str], runs: int, device: str, rounds: int, block: float, skip: set[str]) -> list[dict]:
    """Milliseconds a step, all runs together, of ours and of every peer; and how many times faster than the plain loop."""
    shape, images = models.MODELS[model], dataset.train
    names, seeds = (methods, runs // len(methods))
    engines = [("eager", "float32"), (fast(device), "float32"), (fast(device), "bf16")]
    engines += [("graph", "float32"), (fast(device), "tf32")] if device == "cuda" else []
    candidates = {f"ours, {e}, {p}": ours(names, dataset, model, batch, device, e, p, seeds) for e, p in engines}
    scale = {}
    if device == "cpu" and runs > 1:
        candidates["ours, compiled, float32, one stack"] = ours(names, dataset, model, batch, device, "compiled", "float32", seeds, one_stack=True)
    for peer in ("plain", "pythae"):
        if peer not in skip and not (peer == "pythae" and set(names) - {"iwae", "miwae", "ciwae", "piwae"}):
            steps = [getattr(peers, peer)(m, images, shape, batch, device) for m in names]
            candidates[peer] = lambda steps=steps: [step() for step in steps]
            scale[peer] = seeds  # one run at a time: further seeds cost the same again
    if "jax" not in skip:
        chunk = 10 if device == "cpu" else 1000
        candidates["jax"] = peers.jax(names * seeds, images, shape, batch, chunk)
        scale["jax"] = 1 / chunk
    times = {name: [t * scale.get(name, 1) for t in ts] for name, ts in in_turns(candidates, device, rounds, block).items()}
    plain = times.get("plain")
    return [
        {"model": model, "batch": batch, "methods": ",".join(names), "runs": runs, "what": name, "ms": 1e3 * median(ts), "blocks": ts}
        | ({"faster than plain": median(p / t for p, t in zip(plain, ts, strict=True))} if plain else {})
        for name, ts in times.items()
    ]


def fast(device: str) -> str:
    """The fastest engine on a device."""
    return "compiled" if device == "cpu" else "compiled-graph"


def evaluation(dataset, model: str, device: str, rounds: int) -> list[dict]:
    """Seconds that log p-hat of 10,000 images with K = 5000 takes, from 20 images; and the peak memory of a process that does it."""
    x = torch.bernoulli(dataset.test[None, :20]).to(device)
    candidates = {}
    for name in ("plain", "ours, eager", f"ours, {fast(device)}"):
        if name == "plain":
            evaluate = peers.plain_evaluation(dataset.test, models.MODELS[model], device)
            candidates[name] = lambda evaluate=evaluate: evaluate(5000)
        else:
            net = models.Autoencoder(models.MODELS[model], [0]).to(device)
            net.how = likelihood.eager if name.endswith("eager") else likelihood.compiled
            candidates[name] = lambda net=net: log_weight_sums(net, x, 5000, data.Streams([0], "benchmark", device).normal)["iwae"].cpu()
    times = in_turns(candidates, device, rounds, 0.0)
    rows = []
    for name, ts in times.items():
        ratio = median(p / t for p, t in zip(times["plain"], ts, strict=True))
        row = {"model": model, "what": name, "seconds": 500 * median(ts), "faster than plain": ratio}
        if device == "cpu" and Path("/proc/self/status").exists():
            again = [sys.executable, "-m", "benchmarks.speed", "--memory", name]
            done = subprocess.run(again, capture_output=True, text=True, check=True)
            row["peak memory, MB"] = float(done.stdout)
        rows.append(row)
    return rows


def peak_memory(what: str) -> float:
    """Peak resident memory in MB of this process after one evaluation."""
    dataset = data.load("digits")
    if what == "plain":
        peers.plain_evaluation(dataset.test, models.MODELS["reference"], "cpu")(5000)
    else:
        net = models.Autoencoder(models.MODELS["reference"], [0])
        net.how = likelihood.eager if what.endswith("eager") else likelihood.compiled
        log_weight_sums(net, torch.bernoulli(dataset.test[None, :20]), 5000, data.Streams([0], "benchmark").normal)
    (peak,) = (line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(peak) / 1024


def growth(dataset, device: str, rounds: int, block: float) -> list[dict]:
    """Milliseconds a step of ours as the number of runs, of samples K and of images in a batch grow, one at a time."""
    rows = []
    for what, values in (("runs", (1, 2, 5, 10, 20)), ("batch", (5, 10, 20, 50, 100))):
        candidates = {}
        for value in values:
            runs, batch = (value, 20) if what == "runs" else (1, value)
            candidates[str(value)] = ours(["iwae"], dataset, "reference", batch, device, fast(device), "float32", runs)
        rows += [{"grows": what, "to": int(n), "ms": 1e3 * median(ts)} for n, ts in in_turns(candidates, device, rounds, block).items()]
    candidates = {}
    for K in (16, 32, 64, 128, 256):
        model, g = models.Autoencoder(models.MODELS["reference"], [0]).to(device), torch.Generator(device).manual_seed(0)
        model.how = likelihood.compiled
        x, eps = dataset.train[None, :20].round().to(device), torch.randn(1, K, 20, 50, device=device, generator=g)
        candidates[str(K)] = lambda model=model, x=x, eps=eps: model.gradients(x, eps, lambda log_w: (-log_w.softmax(1) / 20,) * 2)
    return rows + [
        {"grows": "K, gradient only", "to": int(n), "ms": 1e3 * median(ts)} for n, ts in in_turns(candidates, device, rounds, block).items()
    ]


def draw(result: dict, path: Path) -> None:
    """A bar chart of the first case: milliseconds a step, with the floor."""
    import matplotlib.pyplot as plt

    rows = [r for r in result["steps"] if r["methods"] in ("iwae", "piwae") and r["batch"] == 20 and r["model"] == "reference" and r["runs"] == 1]
    names = list(dict.fromkeys(r["what"] for r in rows))
    figure, axis = plt.subplots(figsize=(7, 0.42 * len(names) + 1.1), layout="constrained")
    for offset, method, colour in ((-0.2, "iwae", "#0173b2"), (0.2, "piwae", "#de8f05")):
        mine = [r for r in rows if r["methods"] == method]
        bars = axis.barh([names.index(r["what"]) + offset for r in mine], [r["ms"] for r in mine], 0.38, color=colour, label=method.upper())
        axis.bar_label(bars, fmt="%.3g", padding=3, fontsize=8)
    axis.axvline(1e3 * result["floor"]["float32"]["seconds"], color="0.4", linestyle=":", label="least, float32")
    axis.set(yticks=range(len(names)), yticklabels=names, xlabel=f"milliseconds a step, batch 20, reference model; {result['provenance']['device']}")
    axis.invert_yaxis()
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


@click.command()
@click.option("--device", default="auto", show_default=True)
@click.option("--rounds", default=9, show_default=True, help="Blocks of each candidate.")
@click.option("--block", default=0.5, show_default=True, help="Seconds in a block.")
@click.option("--grid", is_flag=True, help="Every combination of runs, batch and model.")
@click.option("--without", default="", help="Peers to leave out: plain, pythae, jax.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for speed.json and speed.svg.")
@click.option("--memory", hidden=True)
def main(device, rounds, block, grid, without, out, memory) -> None:
    """Time everything and print the tables."""
    if memory:
        print(peak_memory(memory))
        return
    torch._dynamo.config.recompile_limit = 64  # growth() meets many shapes in one process
    device, dataset, skip = pick_device(device), data.load("digits"), set(filter(None, without.split(",")))
    for peer in ("pythae", "jax"):
        try:
            __import__(peer)
        except ImportError:
            skip.add(peer)
            print(f"{peer} is not installed and left out")
    reference = models.MODELS["reference"]
    result = {"provenance": records.provenance() | {"device": records.device_name(device)}}
    result["floor"] = {n: floor(reference, 20, device, d, rounds) for n, d in (("float32", torch.float32), ("bf16", torch.bfloat16))}
    for name, f in result["floor"].items():
        print(f"least time of an IWAE step, {name}: {1e3 * f['seconds']:.2f} ms = {f['operations'] / 1e9:.2f} GFLOP at {f['GFLOP/s']:.0f} GFLOP/s")
    cases = [("reference", 20, ["iwae"], 1), ("reference", 20, ["piwae"], 1), ("reference", 20, FIVE, 5)]
    if grid:
        cases += [(m, b, ["iwae"], 1) for m in ("reference", "larger") for b in (20, 100) if (m, b) != ("reference", 20)]
        cases += [(m, b, FIVE, r) for m in ("reference", "larger") for b in (20, 100) for r in (5, 20) if (m, b, r) != ("reference", 20, 5)]
    result["steps"] = []
    for model, batch, methods, runs in cases:
        print(f"\n{runs} run{'s' * (runs > 1)} of {', '.join(methods)}; {model}, batch {batch}", flush=True)
        rows = case(dataset, model, batch, methods, runs, device, rounds, block, skip)
        result["steps"] += rows
        for r in rows:
            ratio = f"   {r['faster than plain']:6.2f}x plain" if "faster than plain" in r else ""
            print(f"  {r['what']:34}{r['ms']:10.3f} ms a step{1e3 * runs / r['ms']:10.1f} steps/s in all{ratio}", flush=True)
    print("\nlog p-hat, K = 5000, 10,000 images, reference")
    result["evaluation"] = evaluation(dataset, "reference", device, max(3, rounds // 2))
    for r in result["evaluation"]:
        memory = f"   {r['peak memory, MB']:.0f} MB" if "peak memory, MB" in r else ""
        print(f"  {r['what']:34}{r['seconds']:10.1f} s   {r['faster than plain']:6.2f}x plain{memory}", flush=True)
    print("\nhow the cost of a step grows")
    result["growth"] = growth(dataset, device, rounds, block)
    for r in result["growth"]:
        print(f"  {r['grows']:18}{r['to']:6}{r['ms']:10.2f} ms")
    if out:
        out.mkdir(parents=True, exist_ok=True)
        (out / "speed.json").write_text(json.dumps(result, indent=1) + "\n")
        draw(result, out / "speed.svg")


if __name__ == "__main__":
    main()
