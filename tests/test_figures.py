"""Figures draw what the records say; the committed notebooks show what would be drawn today."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from repro import ReproError, audit, experiments, figures, records, verify
from repro.experiments import EXHIBITS, plan
from tests.test_records import write

ROOT = Path(__file__).parents[1]


def committed_images(name):
    notebook = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text())
    outputs = [o for c in notebook["cells"] for o in c.get("outputs", [])]
    return [o["data"]["image/png"] for o in outputs if "image/png" in o.get("data", {})]


@pytest.mark.parametrize("name", [*(n for n in EXHIBITS if n.startswith("figure")), "snr", "audit"])
def test_the_committed_notebooks_show_what_the_records_say_now(name):
    """nbval compares text only, so the images are compared here; `make notebooks` brings them into step."""
    from IPython.core.pylabtools import print_figure

    audit = [figures.printed_and_corrected, figures.logged_gaps, figures.leads, figures.logged_log_px]
    studies = {"audit": audit, "snr": [figures.signal_to_noise]}
    drawn = [f() for f in studies[name]] if name in studies else [figures.draw(name)]
    there = committed_images(name)
    assert len(there) == len(drawn)
    for figure, committed in zip(drawn, there, strict=True):
        assert verify.same("image/png", committed, print_figure(figure, fmt="png", bbox_inches="tight", base64=True)), "run `make notebooks`"


def test_a_value_that_has_moved_is_seen():
    """One star of Figure 1 by half a nat, one printed SSIM of Figure 5."""
    from IPython.core.pylabtools import print_figure

    figure = figures.draw("figure1")
    before = print_figure(figure, fmt="png", base64=True)
    star = next(line for line in figure.axes[0].get_lines() if line.get_marker() == "*")
    star.set_ydata([y + 0.5 for y in star.get_ydata()])
    assert not verify.same("image/png", before, print_figure(figure, fmt="png", base64=True))
    figure = figures.draw("figure5")
    before = print_figure(figure, fmt="png", base64=True)
    title = figure.axes[1].title
    title.set_text(title.get_text().replace("0.816", "0.826"))
    assert not verify.same("image/png", before, print_figure(figure, fmt="png", base64=True))
    assert verify.same("image/png", before, before)


def lines(ax):
    """The drawn lines by their colour."""
    return {line.get_color(): line for line in ax.get_lines() if len(line.get_xdata()) > 1}


@pytest.fixture
def results(tmp_path):
    (tmp_path / "published").mkdir()
    for name in ("logs.csv", "logs.json"):
        shutil.copy(ROOT / "results" / "published" / name, tmp_path / "published")
    return tmp_path


def test_curves_are_the_records_and_gaps_are_marked(results):
    for value, e in zip((-90.0, -91.0), plan("iwae,piwae", profile_name="short"), strict=True):
        write(results, e, value)
    figure = figures.draw("figure1", "short", results)
    ours = lines(figure.axes[2])
    assert ours[figures.COLOURS["iwae"]].get_ydata().tolist() == [-90.0] * 40
    assert ours[figures.COLOURS["piwae"]].get_ydata().tolist() == [-91.0] * 40
    assert set(ours) == {figures.COLOURS["iwae"], figures.COLOURS["piwae"]}
    assert any("not run: MIWAE(8,8), CIWAE(0.5), VAE" in t.get_text() for t in figure.axes[2].texts)


def test_logged_curves_are_the_committed_summary(results):
    from repro import audit

    figure = figures.draw("figure3", "short", results)
    blocks = audit.logs(results)
    mine = blocks[(blocks.group == "mnist-larger") & (blocks.method == "vae")]
    assert lines(figure.axes[1])[figures.COLOURS["vae"]].get_ydata().tolist() == mine.log_px_mean.tolist()


def test_the_reports_rolling_window_is_used_on_runs_long_enough(results):
    (e,) = plan("vae", profile_name="full")
    path = write(results, e)
    curve = records.read(path).curve
    curve["iwae_64"] = -100.0 + (curve.epoch % 10)
    record = records.read(path)
    record.__dict__["curve"] = curve
    ax = figures.plt.figure().subplots()
    figures._by_epoch(ax, [record], "iwae_64", figures.WINDOWS["figure1"], figures._look("vae"))
    drawn = ax.get_lines()[0].get_ydata()
    assert drawn[9:] == pytest.approx(-95.5)
    assert drawn[0] == -99


def test_several_seeds_are_a_mean_and_a_band_of_its_standard_error(results):
    for seed, value in ((0, -90.0), (1, -92.0)):
        write(results, plan("vae", seed=seed, profile_name="short")[0], value)
    figure = figures.draw("figure1", "short", results)
    assert lines(figure.axes[2])[figures.COLOURS["vae"]].get_ydata()[0] == -91
    (band,) = figure.axes[2].collections
    assert np.ptp(band.get_paths()[0].vertices[:, 1]) == pytest.approx(2.0)


def test_leads_are_the_logs_and_beside_them_ours_in_pairs(results):
    for method, values in (("iwae", (-90.0, -95.0)), ("piwae", (-89.0, -91.0))):
        for seed, value in enumerate(values):
            write(results, plan(method, seed=seed, profile_name="short")[0], value)
    mnist, _, larger = figures.leads("short", results).axes
    logged, ours = (line for line in mnist.get_lines() if line.get_color() == figures.COLOURS["piwae"])
    assert logged.get_ydata()[-1] == audit.lead(results)["piwae"]["mnist-reference", 3280]
    assert ours.get_ydata()[-1] == pytest.approx(2.5)  # 1 with one seed, 4 with the other
    assert [len(line.get_xdata()) for line in larger.get_lines() if line.get_linestyle() == "None"] == [0, 0]


def test_fixed_and_learned_betas_are_told_apart(results):
    for e in experiments.exhibit("figure4", "short"):
        write(results, e, -90.0 if e.method == "ciwae" else -89.0)
    figure = figures.draw("figure4", "short", results)
    assert all(line.get_ydata()[-1] == -90 for line in figure.axes[0].get_lines())
    assert all(line.get_ydata()[-1] == -89 for line in figure.axes[1].get_lines())
    assert len(figure.axes[0].get_lines()) == len(experiments.BETAS)


@pytest.mark.parametrize("name", [*figures.FIGURES])
def test_every_figure_can_be_drawn_of_nothing_and_saved_twice_alike(name, results, tmp_path):
    figure = figures.draw(name, "short", results)
    first, second = (figures.save(figures.draw(name, "short", results), tmp_path / f"{i}.svg").read_bytes() for i in (1, 2))
    assert first == second
    assert figure.get_size_inches().min() > 0
    assert figure.axes


def test_an_unknown_figure_is_one_line():
    with pytest.raises(ReproError, match="unknown figure 'figure9'"):
        figures.draw("figure9")
    with pytest.raises(ReproError, match="figure2 needs more than the smoke profile has; give profile short or full"):
        figures.draw("figure2", "smoke")


def test_colours_are_one_for_each_method():
    assert len(set(figures.COLOURS.values())) == len(figures.COLOURS) == len(set(figures.MARKERS.values()))
