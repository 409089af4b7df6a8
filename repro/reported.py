"""The numbers that the report and the paper print. Values are nats unless SSIM; errors as printed.

The report: the student reproduction whose code is at github.com/madhubabuv/TightIWAE.
The paper: Rainforth et al., ICML 2018, arXiv:1802.04537, whose Table 1 is of four runs; its errors are read as standard deviations between them.
"""

from __future__ import annotations

_ORDER = ("iwae", "piwae", "miwae", "ciwae", "vae")
Value = tuple[float, float | None]  # value, standard deviation: between runs, of SSIM over images, of Figure 4 over betas


def _row(values: tuple[float, ...], errors: tuple[float, ...] = ()) -> dict[str, Value]:
    return {m: (v, errors[i] if errors else None) for i, (m, v) in enumerate(zip(_ORDER, values, strict=True))}


# source -> model -> metric -> method -> (value, error); MNIST, 3280 epochs, T = 64
TABLE1: dict[str, dict[str, dict[str, dict[str, Value]]]] = {
    "report": {
        "reference": {
            "iwae_64": _row((-84.64, -84.72, -84.98, -87.05, -87.26)),
            "log_px": _row((-84.64, -84.90, -85.04, -87.00, -87.66)),
            "minus_kl": _row((0.00, 0.19, 0.06, -0.05, 0.40)),
        },
        "larger": {
            "iwae_64": _row((-83.85, -83.86, -83.47, -84.92, -85.33)),
            "log_px": _row((-83.92, -83.84, -83.66, -84.98, -85.31)),
            "minus_kl": _row((0.06, -0.02, 0.19, 0.06, -0.02)),
        },
    },
    "paper": {
        "reference": {
            "iwae_64": _row((-86.11, -85.74, -85.69, -86.08, -86.69), (0.10, 0.07, 0.04, 0.08, 0.08)),
            "log_px": _row((-84.52, -84.46, -84.97, -85.24, -86.21), (0.02, 0.06, 0.10, 0.08, 0.19)),
            "minus_kl": _row((-1.59, -1.28, -0.72, -0.84, -0.47), (0.10, 0.09, 0.11, 0.11, 0.20)),
        }
    },
}

# trained on -> tested on -> method -> (SSIM, standard deviation over the test images); the report's Figures 5, 6 and Table 2
SSIM: dict[str, dict[str, dict[str, Value]]] = {
    "mnist": {
        "mnist": _row((0.816, 0.832, 0.833, 0.836, 0.830), (0.051, 0.047, 0.048, 0.049, 0.052)),
        "omniglot": _row((0.58, 0.60, 0.59, 0.58, 0.57), (0.11, 0.11, 0.12, 0.12, 0.12)),
    },
    "omniglot": {
        "omniglot": _row((0.724, 0.743, 0.745, 0.719, 0.717), (0.086, 0.082, 0.082, 0.098, 0.099)),
    },
}
TABLE2_OMNIGLOT = _row((0.72, 0.74, 0.75, 0.72, 0.72), (0.09, 0.08, 0.08, 0.10, 0.10))  # Figure 6's values, to two digits

# Figure 4: IWAE-64, mean and standard deviation over values of beta; text and caption differ
FIGURE4: dict[str, Value] = {"fixed": (-81.29, 2.98), "fixed, caption": (-81.99, 2.98), "learned": (-80.34, 0.49)}
