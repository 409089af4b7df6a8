"""What others report for this architecture on MNIST, beside the released weights and our runs.

The numbers of others are log p-hat(x) with 5,000 samples, in nats, as they print them. Nobody but
the paper and the report prints IWAE-64.
"""

from typing import NamedTuple

from repro.records import Archive
from repro.records.estimates import Estimate, of_metric
from repro.studies.captions import METHOD_TITLES
from repro.studies.reported import TABLE1


class Publication(NamedTuple):
    """Who printed some numbers, where, and in what the training differs from the paper's."""

    who: str
    where: str
    differs: str


class Printed(NamedTuple):
    """A printed log p-hat of a method, for comparison with the paper's method of that name."""

    source: Publication
    method: str
    log_px: Estimate


PYTHAE = Publication(
    "Pythae",
    "[examples/scripts/reproducibility](https://github.com/clementchadebec/benchmark_VAE/blob/"
    "2a782b9e87671f13778c8728d827a46fe5ceea4c/examples/scripts/reproducibility/README.md), "
    "commit 2a782b9",
    "Burda's initialisation and Adam's ε = 1e-4; the steps of the learning rate at other epochs; "
    "M and K swapped, which 8 × 8 does not show",
)
YOONHOLEE = Publication(
    "yoonholee/pytorch-vae",
    "[README](https://github.com/yoonholee/pytorch-vae)",
    "Burda's settings, by its own account",
)
NBIP = Publication(
    "nbip/IWAE",
    "[README](https://github.com/nbip/IWAE/blob/0216b45b26fe4ba0b76738fe80a5de99b30ef963/"
    "README.md), commit 0216b45",
    "50 samples, TensorFlow",
)


OTHERS = (
    Printed(PYTHAE, "PIWAE(8,8)", Estimate(-84.58)),
    Printed(PYTHAE, "MIWAE(8,8)", Estimate(-85.09)),
    Printed(PYTHAE, "CIWAE(0.05)", Estimate(-84.74)),
    Printed(YOONHOLEE, "VAE, (64,1)", Estimate(-86.07)),
    Printed(YOONHOLEE, "MIWAE(16,4)", Estimate(-84.99)),
    Printed(YOONHOLEE, "MIWAE(8,8)", Estimate(-84.69)),
    Printed(YOONHOLEE, "MIWAE(4,16)", Estimate(-84.52)),
    Printed(YOONHOLEE, "IWAE(64)", Estimate(-84.37)),
    Printed(NBIP, "IWAE(50)", Estimate(-84.59)),
    Printed(NBIP, "IWAE(50), doubly reparameterised", Estimate(-84.32)),
)

THE_PAPER = Publication("the paper", "Table 1, four runs", "")
THE_REPORT = Publication(
    "the report",
    "Table 1, as printed",
    "PIWAE, CIWAE and the VAE were trained with other numbers of samples",
)
REMEASURED = Publication("the report's weights", "measured again", THE_REPORT.differs)


def everybody(archive: Archive) -> list[Printed]:
    """All the numbers: the paper's, the report's as printed and measured again, and others'."""
    found = []
    for source, key in ((THE_PAPER, "paper"), (THE_REPORT, "report")):
        row = TABLE1[key]["reference"]["log_px"]
        found += [Printed(source, title, row[m]) for m, title in METHOD_TITLES.items()]
    for record in archive.released_of("mnist", "reference"):
        title = METHOD_TITLES[record.experiment.method]
        found.append(Printed(REMEASURED, title, of_metric(record.metrics["log_px"])))
    return [*found, *OTHERS]


def as_table(archive: Archive) -> str:
    """A Markdown table with a row for each source."""
    lines = ["| who | log p̂(x) of | differs from the paper in |", "|---|---|---|"]
    by_publication: dict[Publication, list[str]] = {}
    for printed in everybody(archive):
        by_publication.setdefault(printed.source, []).append(f"{printed.method} {printed.log_px}")
    for source, values in by_publication.items():
        who = f"{source.who} ({source.where})"
        lines.append(f"| {who} | {', '.join(values)} | {source.differs or '–'} |")
    return "\n".join(lines)
