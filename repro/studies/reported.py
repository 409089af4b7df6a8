"""The numbers that the report and the paper print, in nats unless they are SSIM.

The report is the student reproduction whose code is at github.com/madhubabuv/TightIWAE. The paper
is Rainforth et al., ICML 2018, arXiv:1802.04537; its Table 1 is of four runs, and its errors are
read as standard deviations between them.
"""

from repro.records.estimates import ErrorOf, Estimate
from repro.words.experiments import TABLE_METHODS

Row = dict[str, Estimate]  # by method


def _row(*values: float, errors: tuple[float, ...] = ()) -> Row:
    if not errors:
        return dict(zip(TABLE_METHODS, map(Estimate, values), strict=True))
    runs = zip(values, errors, strict=True)
    spreads = [Estimate(value, sd, error_of=ErrorOf.SPREAD) for value, sd in runs]
    return dict(zip(TABLE_METHODS, spreads, strict=True))


def _ssim(digits: int, values: tuple[float, ...], deviations: tuple[float, ...]) -> Row:
    """SSIM, with its standard deviation over the test images."""
    spreads = [
        Estimate(value, sd, error_of=ErrorOf.SPREAD, digits=digits)
        for value, sd in zip(values, deviations, strict=True)
    ]
    return dict(zip(TABLE_METHODS, spreads, strict=True))


RUNS_OF_PAPER = 4  # of each method, behind its Table 1
# source -> model -> metric -> method; MNIST, 3280 epochs, T = 64
TABLE1: dict[str, dict[str, dict[str, Row]]] = {
    "report": {
        "reference": {
            "iwae_64": _row(-84.64, -84.72, -84.98, -87.05, -87.26),
            "log_px": _row(-84.64, -84.90, -85.04, -87.00, -87.66),
            "minus_kl": _row(0.00, 0.19, 0.06, -0.05, 0.40),
        },
        "larger": {
            "iwae_64": _row(-83.85, -83.86, -83.47, -84.92, -85.33),
            "log_px": _row(-83.92, -83.84, -83.66, -84.98, -85.31),
            "minus_kl": _row(0.06, -0.02, 0.19, 0.06, -0.02),
        },
    },
    "paper": {
        "reference": {
            "iwae_64": _row(
                -86.11, -85.74, -85.69, -86.08, -86.69, errors=(0.10, 0.07, 0.04, 0.08, 0.08)
            ),
            "log_px": _row(
                -84.52, -84.46, -84.97, -85.24, -86.21, errors=(0.02, 0.06, 0.10, 0.08, 0.19)
            ),
            "minus_kl": _row(
                -1.59, -1.28, -0.72, -0.84, -0.47, errors=(0.10, 0.09, 0.11, 0.11, 0.20)
            ),
        }
    },
}

# trained on -> tested on -> method; the report's Figures 5 and 6 and Table 2
SSIM: dict[str, dict[str, Row]] = {
    "mnist": {
        "mnist": _ssim(3, (0.816, 0.832, 0.833, 0.836, 0.830), (0.051, 0.047, 0.048, 0.049, 0.052)),
        "omniglot": _ssim(2, (0.58, 0.60, 0.59, 0.58, 0.57), (0.11, 0.11, 0.12, 0.12, 0.12)),
    },
    "omniglot": {
        "omniglot": _ssim(
            3, (0.724, 0.743, 0.745, 0.719, 0.717), (0.086, 0.082, 0.082, 0.098, 0.099)
        )
    },
}
# Figure 6's values, as Table 2 prints them
TABLE2_OMNIGLOT = _ssim(2, (0.72, 0.74, 0.75, 0.72, 0.72), (0.09, 0.08, 0.08, 0.10, 0.10))

# IWAE-64, mean and standard deviation over values of beta; text and caption differ
FIGURE4 = {
    "fixed": Estimate(-81.29, 2.98, error_of=ErrorOf.SPREAD),
    "fixed, caption": Estimate(-81.99, 2.98, error_of=ErrorOf.SPREAD),
    "learned": Estimate(-80.34, 0.49, error_of=ErrorOf.SPREAD),
}
