"""The numbers that the report and the paper print, in nats unless they are SSIM.

The report is the student reproduction whose code is at github.com/madhubabuv/TightIWAE. The paper
is Rainforth et al., ICML 2018, arXiv:1802.04537; its Table 1 is of four runs, and its errors are
read as standard deviations between them. Those of SSIM are over the test images.
"""

import csv
from pathlib import Path
from typing import NamedTuple

from repro.records.estimates import ErrorOf, Estimate
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
