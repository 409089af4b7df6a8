# Many runs, as jobs of a scheduler. The file of runs, and what a job may have, are given on the command line:
#   snakemake -s workflow/sweep.smk --profile workflow/profiles/slurm --config sweep=my.yaml device=cuda slot=60 memory=70
#   snakemake -s workflow/sweep.smk --profile workflow/profiles/local --config sweep=my.yaml -n      what it would take
# A job that reaches its time limit, is cancelled or loses its machine leaves its state; it is submitted again.
import sys
from hashlib import sha256
from pathlib import Path

from repro.ops import sweep

FILE = config.get("sweep", "workflow/sweeps/smoke.yaml")
DEVICE = config.get("device", "cpu")
SLOT = float(config.get("slot", 60))  # minutes
MEMORY = float(config.get("memory", 16))  # GB
LIMIT = float(config.get("limit", max(42 * SLOT, 60 * SLOT - 90)))  # seconds after which a job saves and ends
RESULTS = config.get("results", "results")
RUNS = sweep.listed_runs(FILE)
JOBS = {job.name: job for job in sweep.jobs_of(RUNS, DEVICE, SLOT, MEMORY)}
GPU = {"gpu": 1} if DEVICE == "cuda" else {}
STEM = Path(FILE).stem.replace("{", "(").replace("}", ")")  # braces are Snakemake's wildcards
PACKED = f"--device {DEVICE} --slot {SLOT:g} --memory {MEMORY:g}"
MEANT = sha256(f"{RUNS} {PACKED} {Path(RESULTS).absolute()}".encode()).hexdigest()[:16]
DONE = f"_build/sweeps/{STEM}-{MEANT}"  # other runs, or records elsewhere, are not done with these


def memory_of(job):
    """Megabytes of the machine: half as much again as a stack should take, or what goes with a GPU."""
    return 16_000 if DEVICE == "cuda" else int(1500 * job.cost.memory)


if workflow.is_main_process:  # and not a job's own
    print(sweep.jobs_as_text([*JOBS.values()], DEVICE, SLOT), file=sys.stderr)


localrules:
    whole,


rule whole:
    input:
        expand(f"{DONE}/{{name}}.done", name=JOBS),


# Records are no outputs here: Snakemake would remove those of a job that ends before its end.
rule job:
    output:
        touch(f"{DONE}/{{name}}.done"),
    retries: int(config.get("retries", 20))
    threads: 1
    resources:
        runtime=f"{SLOT:g}m",
        mem_mb=lambda wildcards: memory_of(JOBS[wildcards.name]),
        **GPU,
    shell:
        "OMP_NUM_THREADS={threads} python -m repro sweep {FILE:q} --job {wildcards.name:q} {PACKED} "
        "--time-limit {LIMIT:g} --results {RESULTS:q}"
