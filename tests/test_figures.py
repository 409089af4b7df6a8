"""Figures draw what the records say; the committed notebooks show what would be drawn today."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pytest
from IPython.core.pylabtools import print_figure

from repro import ReproError, figures, records
from repro.records import Archive, curves_of
from repro.records.estimates import CLEAR
from repro.studies import evidence
from repro.studies.curves import (
    WINDOWS,
    blocks_of_logs,
    leads_in_logs,
    rolling,
    with_log_px_of_same_images,
)
from repro.studies.style import COLOURS, MARKERS, STYLE
from repro.verify import looks_the_same
from repro.words import exhibits
from repro.words.experiments import plan
from tests.helpers import ROOT, copy_logs, write_record

FIGURES_OF_STUDIES = {
    "audit": [
        figures.printed_and_corrected,
        figures.logged_gaps,
        figures.leads,
        figures.logged_log_px,
    ],
    "snr": [figures.signal_to_noise],
    "likelihood": [figures.what_the_proposal_gave],
    "pictures": [figures.drawn_samples, figures.along_a_unit, figures.posteriors],
    "estimators": [
        figures.bounds_and_estimators,
        figures.samples_and_clarity,
        figures.wake_sleep_and_clarity,
        figures.snr_in_training,
        figures.by_groups,
    ],
}
BESIDE = {  # what else a figure's notebook shows
    "figure4": [figures.chosen_beta, figures.reported_betas]
}
REPORTS_FIGURES = [name for name in exhibits.EXHIBITS if name.startswith("figure")]


@pytest.fixture
def results(tmp_path):
    """A folder of results with the summary of the report's logs."""
    copy_logs(tmp_path)
    return tmp_path


def committed_images(name):
    notebook = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text())
    found = []
    for output in (o for cell in notebook["cells"] for o in cell.get("outputs", [])):
        for mime in PRINTED_AS:
            if mime in output.get("data", {}):
                found.append((mime, "".join(output["data"][mime])))
    return found


def printed(figure, mime, **how):
    """A figure as a notebook would hold it."""
    with plt.rc_context(STYLE):
        return print_figure(figure, **PRINTED_AS[mime], **how)


PRINTED_AS = {
    "image/png": {"fmt": "png", "base64": True},
    "image/svg+xml": {"fmt": "svg", "metadata": {"Date": None, "Creator": None}},
}


def curves(ax):
    """The drawn lines of several points by their colour."""
    return {line.get_color(): line for line in ax.get_lines() if len(line.get_xdata()) > 1}


# Notebooks


@pytest.mark.parametrize("name", [*REPORTS_FIGURES, *FIGURES_OF_STUDIES])
def test_the_committed_notebooks_show_what_the_records_say_now(name):
    """nbval compares text only, so images are compared here; `make notebooks` makes them anew."""
    if name in FIGURES_OF_STUDIES:
        drawn = [draw() for draw in FIGURES_OF_STUDIES[name]]
    else:
        drawn = [figures.draw(name), *[draw() for draw in BESIDE.get(name, ())]]
    there = committed_images(name)
    assert len(there) == len(drawn)
    for figure, (mime, committed) in zip(drawn, there, strict=True):
        again = printed(figure, mime, bbox_inches="tight")
        assert looks_the_same(mime, committed, again), "run `make notebooks`"


@pytest.mark.parametrize("name", figures.IN_PAGES)
def test_the_committed_pictures_of_pages_are_what_would_be_drawn_today(name, tmp_path):
    again = figures.save(figures.draw(name), tmp_path / f"{name}.svg").read_text()
    committed = (ROOT / "book" / f"{name}.svg").read_text()
    assert looks_the_same("image/svg+xml", committed, again), "run `make notebooks`"


def test_a_picture_is_the_same_whatever_its_parts_are_called():
    """Names are hashes of what parts are, to the last digit, which processors do not share."""
    one = '<clipPath id="pd5c7111560"/><g clip-path="url(#pd5c7111560)"/><g id="m00f7111561"/>'
    other = one.replace("d5c7111560", "d6f22f2080").replace("00f7111561", "e511115610")
    assert looks_the_same("image/svg+xml", one, other)
    assert not looks_the_same("image/svg+xml", one, one.replace("(#pd5c7111560)", "(#pd6f22f2080)"))


def move_a_star(figure):
    star = next(line for line in figure.axes[0].get_lines() if line.get_marker() == "*")
    star.set_ydata([y + 0.5 for y in star.get_ydata()])


def change_a_digit(figure):
    title = figure.axes[1].title
    title.set_text(title.get_text().replace("0.816", "0.826"))


@pytest.mark.parametrize("mime", PRINTED_AS)
@pytest.mark.parametrize(
    ("name", "change"), [("figure1", move_a_star), ("figure5", change_a_digit)]
)
def test_a_value_that_has_moved_and_another_digit_are_seen(mime, name, change):
    figure = figures.draw(name)
    before = printed(figure, mime)
    assert looks_the_same(mime, before, before)
    change(figure)
    assert not looks_the_same(mime, before, printed(figure, mime))


# Curves


def test_curves_are_the_records_and_gaps_are_marked(results):
    for value, e in zip((-90.0, -91.0), plan("iwae,piwae", profile="short"), strict=True):
        write_record(results, e, value)
    ax = figures.draw("figure1", "short", results).axes[2]
    ours = curves(ax)
    assert ours[COLOURS["iwae"]].get_ydata().tolist() == [-90.0] * 40
    assert ours[COLOURS["piwae"]].get_ydata().tolist() == [-91.0] * 40
    assert set(ours) == {COLOURS["iwae"], COLOURS["piwae"]}
    said = [text.get_text() for text in ax.texts]
    assert any("not run: MIWAE(8,8), CIWAE(0.5), VAE" in text for text in said)


def test_logged_curves_are_the_committed_summary(results):
    figure = figures.draw("figure3", "short", results)
    blocks = blocks_of_logs(Archive(results))
    of_vae = blocks[(blocks.setting == "mnist-larger") & (blocks.method == "vae")]
    drawn = curves(figure.axes[1])[COLOURS["vae"]].get_ydata()
    assert drawn.tolist() == of_vae.log_px_mean.tolist()


def test_the_reports_rolling_window_is_used_on_runs_long_enough(results):
    (e,) = plan("vae", profile="full")
    record = records.read(write_record(results, e))
    record.curve["iwae_64"] = -100.0 + (record.curve.epoch % 10)
    drawn = rolling(curves_of([record]), "iwae_64", WINDOWS["figure1"]).iwae_64
    assert drawn[9:].tolist() == pytest.approx([-95.5] * 3271)
    assert drawn[0] == -99


def test_several_seeds_are_a_mean_and_a_band_of_its_standard_error(results):
    for e, value in zip(plan("vae", seed="0,1", profile="short"), (-90.0, -92.0), strict=True):
        write_record(results, e, value)
    ax = figures.draw("figure1", "short", results).axes[2]
    assert curves(ax)[COLOURS["vae"]].get_ydata()[0] == -91
    (band,) = ax.collections
    assert np.ptp(band.get_paths()[0].vertices[:, 1]) == pytest.approx(2.0)


def test_a_method_is_drawn_as_far_from_iwae_as_the_records_say(results):
    """One training of each; the bar is as wide as a difference must be to be clear."""
    runs = []
    for value, e in zip((-90.0, -90.5), plan("iwae,piwae", profile="short"), strict=True):
        runs.append(records.read(write_record(results, e, value)))
    ax = figures.draw("figure1", "short", results).axes[3]
    (bar,) = [c for c in ax.containers if c.lines[0].get_xdata()[0] == pytest.approx(-0.5)][:1]
    assert bar.lines[0].get_color() == COLOURS["piwae"]
    apart = evidence.difference(Archive(results), runs[1:], runs[:1], "iwae_64", runs)
    ends = bar.lines[1][0].get_xdata()[0], bar.lines[1][1].get_xdata()[0]
    assert ends == pytest.approx((-0.5 - apart.half_width(CLEAR), -0.5 + apart.half_width(CLEAR)))


@pytest.fixture
def leads(results):
    """The axes of the figure of leads, with records of two seeds on MNIST, and its records."""
    for method, values in (("iwae", (-90.0, -95.0)), ("piwae", (-89.0, -91.0))):
        for seed, value in enumerate(values):
            write_record(results, plan(method, seed=seed, profile="short")[0], value)
    return figures.leads("short", results).axes, Archive(results)


def test_leads_are_the_logs_and_beside_them_ours_in_pairs(leads):
    (mnist, _, larger), archive = leads
    logged, ours = (line for line in mnist.get_lines() if line.get_color() == COLOURS["piwae"])
    at_the_end = leads_in_logs(archive)["piwae"]["mnist-reference", 3280]
    assert logged.get_ydata()[-1] == at_the_end
    assert ours.get_ydata()[-1] == pytest.approx(2.5)  # 1 with one seed, 4 with the other
    assert [line for line in larger.get_lines() if line.get_linestyle() == "None"] == []


def test_fixed_and_learned_betas_are_told_apart(results):
    for e in exhibits.runs_of("figure4", "short"):
        write_record(results, e, -90.0 if e.method == "ciwae" else -89.0)
    fixed, learned = figures.draw("figure4", "short", results).axes[:2]
    assert all(line.get_ydata()[-1] == -90 for line in fixed.get_lines())
    assert all(line.get_ydata()[-1] == -89 for line in learned.get_lines())
    assert len(fixed.get_lines()) == len(exhibits.BETAS)


# Every figure


@pytest.mark.parametrize("name", figures.FIGURES)
def test_every_figure_can_be_drawn_of_nothing_and_is_saved_twice_alike(name, results, tmp_path):
    saved = []
    for copy in ("1.svg", "2.svg"):
        figure = figures.draw(name, "short", results)
        assert figure.axes
        saved.append(figures.save(figure, tmp_path / copy).read_bytes())
    assert saved[0] == saved[1]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("figure9",), "unknown figure 'figure9'"),
        (("figure2", "smoke"), "figure2 needs more than the smoke profile has; give profile short"),
    ],
)
def test_a_figure_that_cannot_be_drawn_is_one_line(asked, said):
    with pytest.raises(ReproError, match=said):
        figures.draw(*asked)


def test_colours_and_markers_are_one_for_each_method():
    assert len(set(COLOURS.values())) == len(COLOURS)
    assert len(set(MARKERS.values())) == len(COLOURS)


def with_curve(record, **columns):
    """A record in memory whose curve has other columns, given by epoch."""
    curve = record.curve.copy()
    for name, by_epoch in columns.items():
        curve[name] = curve.epoch.map(by_epoch).astype(float)
    vars(record)["curve"] = curve
    return record


def test_a_rolling_window_counts_epochs_and_not_rows(results):
    """IWAE-64 is not measured after each epoch late in training."""
    (e,) = plan("vae", profile="short", seed=3, epochs=30)
    record = Archive(results).read(write_record(results, e))
    with_curve(record, iwae_64={10: -90.0, 18: -88.0, 26: -84.0})
    means = rolling(curves_of([record]), "iwae_64", 10)
    assert means.epoch.tolist() == [10, 18, 26]
    assert means.iwae_64.tolist() == [-90, -89, -86]


def test_no_epoch_mixes_log_px_of_different_numbers_of_images(results):
    """Most records say which number; of two numbers as usual it is that of all images."""
    archive = Archive(results)
    runs = plan("vae", profile="short", seed="4,5,6", epochs=5)
    old, *new = [archive.read(write_record(results, e)) for e in runs]
    for record in new:
        with_curve(record, log_px_images={1: 1000, 4: 1000}, log_px={1: -90, 4: -89, 5: -88})
    measured = [1, 2, 3, 4, 5]
    assert epochs_of(with_log_px_of_same_images(curves_of([old, *new]))) == [
        [2, 3, 5],
        [1, 4, 5],
        [1, 4, 5],
    ]
    assert epochs_of(with_log_px_of_same_images(curves_of([old, new[0]]))) == [measured, [5]]
    assert with_log_px_of_same_images(curves_of([])).empty


def epochs_of(curves):
    """The epochs with log p-hat of each seed."""
    return [run.epoch.tolist() for _, run in curves.dropna(subset=["log_px"]).groupby("seed")]
