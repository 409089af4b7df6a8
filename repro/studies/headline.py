"""The picture on the book's first page: how far PIWAE is ahead of IWAE."""

from repro import plural
from repro.records import Archive
from repro.records.estimates import CLEAR
from repro.studies import style
from repro.studies.captions import FAMILY_TITLES
from repro.studies.evidence import Evidence
from repro.studies.frames import AnyArchive
from repro.studies.preregistered import Hypothesis, differences, family_interval, missing

LONGER = ("mnist-reference", "omniglot-reference")  # one training of each method


@style.styled()
def piwae_beside_iwae(archive: AnyArchive = None):
    """PIWAE's IWAE-64 minus IWAE's, in nats: many pairs of trainings, and longer ones.

    Bars: the interval of the test fixed in advance, and of one training what another may change.
    A bar that does not reach 0 belongs to a clear difference.
    """
    evidence = Evidence(str(Archive.of(archive).folder))
    if missing(evidence.archive):
        return style.nothing()
    figure, ((ax,),) = style.subplots(1, 1, (3.7, 2.1))
    look = style.look("piwae") | {"linestyle": "none"}
    of_seeds = differences(evidence.archive, Hypothesis("", "piwae", "iwae_64", 0.0))
    interval = family_interval(of_seeds)
    ax.plot(of_seeds, [0.3] * len(of_seeds), **look, alpha=0.5)
    half = interval.high - interval.mean
    ax.errorbar(interval.mean, 0, xerr=half, **look, markersize=8)
    there = [
        s for s in LONGER if evidence.runs(s, "piwae", "ours") and evidence.runs(s, "iwae", "ours")
    ]
    titles = [f"MNIST, 40 epochs,\n{len(of_seeds)} trainings each"]
    for place, setting in enumerate(there, 1):
        (run, *others) = evidence.runs(setting, "piwae", "ours")
        apart = evidence.apart(setting, "piwae", "iwae", "iwae_64", "ours")
        ax.errorbar(apart.value, place, xerr=apart.half_width(CLEAR), **look, markersize=8)
        title = f"{FAMILY_TITLES[setting.split('-')[0]]}, {run.experiment.epochs} epochs"
        titles.append(f"{title},\n{plural(1 + len(others), 'training')} each")
    ax.axvline(0, color=style.INK)
    ax.set(xlabel="PIWAE ahead of IWAE, nats", xlim=(-0.2, None), ylim=(2.5, -0.5))
    ax.set_yticks(range(len(titles)), titles)
    return figure
