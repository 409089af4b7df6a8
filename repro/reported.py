"""The numbers that the report and the paper print. Values are nats unless SSIM; errors are standard errors where given.

The report: the student reproduction whose code is at github.com/madhubabuv/TightIWAE.
The paper: Rainforth et al., ICML 2018, arXiv:1802.04537, whose Table 1 is of four runs.
"""

from __future__ import annotations

_ORDER = ("iwae", "piwae", "miwae", "ciwae", "vae")
Value = tuple[float, float | None]  # value, standard error


def _row(values: tuple[float, ...], errors: tuple[float, ...] = ()) -> dict[str, Value]:
    return {m: (v, errors[i] if errors else None) for i, (m, v) in enumerate(zip(_ORDER, values, strict=True))}


# source -> model -> metric -> method -> (value, standard error); MNIST, 3280 epochs, T = 64
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
