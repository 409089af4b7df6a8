"""The numbers that the report and the paper print, in nats unless they are SSIM.

The report is the student reproduction whose code is at github.com/madhubabuv/TightIWAE. The paper
is Rainforth et al., ICML 2018, arXiv:1802.04537; its Table 1 is of four runs, and its errors are
read as standard deviations between them. Those of SSIM are over the test images.
"""

import csv
from pathlib import Path
from typing import NamedTuple

from repro.records import Archive
from repro.records.estimates import ErrorOf, Estimate, estimate_of
from repro.studies.captions import METHOD_TITLES
from repro.studies.frames import for_methods
from repro.words.experiments import TABLE_METHODS

Row = dict[str, Estimate]  # by method
RUNS_OF_PAPER = 4  # of each method, behind its Table 1


class PrintedSsim(NamedTuple):
    """A row of SSIM values that the report prints."""

    exhibit: str
    trained: str
    tested: str
    row: Row


def _estimate(printed: str) -> Estimate:
    """A number as it is printed, alone or with its standard deviation: "-86.11 ± 0.10"."""
    value, _, sd = printed.partition(" ± ")
    digits = len(value.split(".")[1])
    if not sd:
        return Estimate(float(value), digits=digits)
    return Estimate(float(value), float(sd), error_of=ErrorOf.SPREAD, digits=digits)


# source -> model -> metric -> method; MNIST, 3280 epochs, T = 64
TABLE1: dict[str, dict[str, dict[str, Row]]] = {}
SSIM: list[PrintedSsim] = []  # Figure 6's values are in Table 2, too, to fewer digits


def _read(table: Path) -> None:
    """Fill both from a table whose cells are as printed."""
    with table.open(encoding="utf-8") as file:
        for line in csv.DictReader(file):
            row = {method: _estimate(line[method]) for method in TABLE_METHODS}
            of, what = line["of"], line["what"]  # model and metric; or trained on, tested on
            if line["exhibit"] == "Table 1":
                TABLE1.setdefault(line["who"], {}).setdefault(of, {})[what] = row
            else:
                SSIM.append(PrintedSsim(line["exhibit"], of, what, row))


_read(Path(__file__).with_suffix(".csv"))

# IWAE-64, mean and standard deviation over values of beta; text and caption differ
FIGURE4 = {
    "fixed": Estimate(-81.29, 2.98, error_of=ErrorOf.SPREAD),
    "fixed, caption": Estimate(-81.99, 2.98, error_of=ErrorOf.SPREAD),
    "learned": Estimate(-80.34, 0.49, error_of=ErrorOf.SPREAD),
}


class Publication(NamedTuple):
    """Who printed some numbers, where, and in what the training differs from the paper's."""

    who: str
    where: str
    differs: str = "–"


OTHERS = {  # log p-hat of a method, for comparison with the paper's method of that name
    Publication(
        "Pythae",
        "[examples/scripts/reproducibility](https://github.com/clementchadebec/benchmark_VAE/blob/"
        "2a782b9e87671f13778c8728d827a46fe5ceea4c/examples/scripts/reproducibility/README.md), "
        "commit 2a782b9",
        "Burda's initialisation and Adam's ε = 1e-4; the steps of the learning rate at other "
        "epochs; M and K swapped, which 8 × 8 does not show; PIWAE's encoder follows both bounds",
    ): {"PIWAE(8,8)": -84.58, "MIWAE(8,8)": -85.09, "CIWAE(0.05)": -84.74},
    Publication(
        "yoonholee/pytorch-vae",
        "[README](https://github.com/yoonholee/pytorch-vae)",
        "Burda's settings, by its own account",
    ): {
        "VAE, (64,1)": -86.07,
        "MIWAE(16,4)": -84.99,
        "MIWAE(8,8)": -84.69,
        "MIWAE(4,16)": -84.52,
        "IWAE(64)": -84.37,
    },
    Publication(
        "nbip/IWAE",
        "[README](https://github.com/nbip/IWAE/blob/0216b45b26fe4ba0b76738fe80a5de99b30ef963/"
        "README.md), commit 0216b45",
        "50 samples, TensorFlow",
    ): {"IWAE(50)": -84.59, "IWAE(50), doubly reparameterised": -84.32},
}
THE_PAPER = Publication("the paper", "Table 1, four runs")
THE_REPORT = Publication(
    "the report",
    "Table 1, as printed",
    "PIWAE, CIWAE and the VAE were trained with other numbers of samples",
)
REMEASURED = THE_REPORT._replace(who="the report's weights", where="measured again")


def everybody(archive: Archive) -> dict[Publication, dict[str, Estimate]]:
    """Values of log p-hat on MNIST by publication, and of the report's weights measured again."""
    found = {
        THE_PAPER: for_methods(TABLE1["paper"]["reference"]["log_px"]),
        THE_REPORT: for_methods(TABLE1["report"]["reference"]["log_px"]),
    }
    for record in archive.released_of("mnist", "reference"):
        title = METHOD_TITLES[record.experiment.method]
        found.setdefault(REMEASURED, {})[title] = estimate_of(record.metrics["log_px"])
    for publication, printed in OTHERS.items():
        found[publication] = {method: Estimate(value) for method, value in printed.items()}
    return found


def table_of_others(archive: Archive) -> str:
    """A Markdown table of published values of log p-hat on MNIST, a row for each publication."""
    lines = ["| who | log p̂(x) of | differs from the paper in |", "|---|---|---|"]
    for source, values in everybody(archive).items():
        shown = ", ".join(f"{method} {log_px}" for method, log_px in values.items())
        lines.append(f"| {source.who} ({source.where}) | {shown} | {source.differs} |")
    return "\n".join(lines)
