"""The table of the paper that introduced IWAE, from runs as it describes them.

Burda, Grosse and Salakhutdinov (2016), Table 1: MNIST, one stochastic layer, 3,280 epochs, with
their initial weights and Adam's epsilon (``--init burda``). They print -log p-hat with 5,000
samples. Their VAE averages K of its bounds, so that with one sample it is IWAE. IWAE's values were
compared with how others quote them; the VAE's two were not, and no page shows the table yet.
"""

from repro.records import Archive
from repro.records.estimates import Estimate, over_seeds
from repro.studies.evidence import training_noise
from repro.words.experiments import Experiment, plan

PRINTED_BY_BURDA = {  # log p-hat in nats, of a method and K
    ("vae", 5): -86.47,
    ("vae", 50): -86.35,
    ("iwae", 1): -86.76,
    ("iwae", 5): -85.54,
    ("iwae", 50): -84.78,
}
PROFILES_BESIDE = ("short", "full")  # 40 epochs, and as many as theirs


def run_behind(method: str, K: int, profile: str) -> Experiment:
    """Our run of a row of the table.

    >>> run_behind("vae", 5, "full").folder
    'full/mnist-reference-burda/vae-M5-K1-seed2'
    """
    layout = {"M": K, "K": 1} if method == "vae" else {"M": 1, "K": K}
    words = {"dataset": "mnist", "init": "burda", "seed": 2, "profile": profile}
    (e,) = plan(method, **layout, **words)
    return e


def printed_and_ours(archive: Archive) -> str:
    """The table beside our runs, and whether those of full length agree within their errors.

    The error of a difference is that of two trainings, as our own of 40 epochs differ.
    """
    lines = [
        "| method | samples | printed | 40 epochs | 3,280 epochs | printed minus ours |",
        "|---|---|---|---|---|---|",
    ]
    for (method, K), printed in PRINTED_BY_BURDA.items():
        runs = [run_behind(method, K, profile) for profile in PROFILES_BESIDE]
        short, full = (
            over_seeds([archive.get(e)], "log_px") if archive.holds(e) else "–" for e in runs
        )
        apart = "–"
        if full != "–":
            noise = training_noise(archive, method, method, "log_px")
            apart = Estimate(printed - full.value, noise.sd, noise.dof)
        cells = (method.upper(), K, Estimate(printed), short, full, apart)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)
