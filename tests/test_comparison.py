"""Scores of records are shown, and two records or folders are compared with the right errors."""

import re

import numpy as np
import pytest

from repro import ReproError, cli, records
from repro.cli import main
from repro.records.archive import pairs_in
from repro.records.estimates import ErrorOf, agrees, apart
from repro.training import run as lab_run
from repro.words.experiments import plan
from tests import helpers
from tests.helpers import ROOT, write_record


def planted(folder, values, method="iwae", **words):
    """Write a record for each seed; every score of it is the value."""
    found = []
    for seed, value in enumerate(values):
        (e,) = plan(method, profile="smoke", seed=seed, **words)
        found.append(write_record(folder, e, value))
    return found


def compared(capsys, a, b):
    """The exit status of ``compare``, what is printed of IWAE-64, and the last line."""
    status = main(["compare", str(a), str(b)])
    lines = capsys.readouterr().out.splitlines()
    (bound,) = (line for line in lines if line.startswith("  iwae_64"))
    return status, bound.split(maxsplit=1)[1].replace("  ", " ").strip(), lines[-1]


def test_two_records_are_compared_image_by_image(tmp_path, capsys):
    """The images of planted records differ by the same number, so their error is 0."""
    (a,), (b,) = (planted(tmp_path / name, [value]) for name, value in (("a", -90.0), ("b", -90.5)))
    status, _, last = compared(capsys, a, b)
    assert status == 1
    assert last.startswith("they differ in iwae_64, log_px, minus_kl, elbo, ssim")
    assert last.endswith("the difference's error is of the choice of test images")
    status, _, last = compared(capsys, a, a)
    assert status == 0
    assert last.startswith("they agree within their errors")
    apart_here = apart([(records.read(a), records.read(b))], "iwae_64")
    assert (apart_here.value, apart_here.se) == (0.5, 0.0)


def test_what_was_not_kept_by_image_has_the_error_of_independent_images(tmp_path):
    (a,), (b,) = (planted(tmp_path / name, [value]) for name, value in (("a", -90.0), ("b", -90.5)))
    of_ess = apart([(records.read(a), records.read(b))], "ess")
    assert of_ess.se == pytest.approx(0.1 * 2**0.5)
    assert of_ess.error_of is ErrorOf.IMAGES
    assert not agrees(of_ess)


def test_images_that_are_no_pictures_are_paired_too(tmp_path):
    (a,), (b,) = (planted(tmp_path / name, [value]) for name, value in (("a", -90.0), ("b", -90.5)))
    pair = (records.read(a), records.read(b))
    for record in pair:
        record.__dict__["reconstructions"] = None
    assert apart([pair], "log_px").se == 0


def test_trainings_beside_a_record_say_what_another_training_changes(tmp_path, capsys):
    """By a two-way layout of methods and seeds, on paper."""
    of_iwae, of_piwae = np.array([-90.0, -91, -92, -93]), np.array([-89.0, -90.6, -91, -91.8])
    a = planted(tmp_path, of_piwae, "piwae")[0]
    b = planted(tmp_path, of_iwae, "iwae")[0]
    differences = of_piwae - of_iwae
    expected = np.std(differences, ddof=1)  # sqrt(2) times the residuals' deviation
    status, bound, last = compared(capsys, a, b)
    assert bound.endswith(f"1.00 ± {expected:.2f}")
    assert status == 0
    assert last.endswith("error is of the training")


def test_folders_are_compared_by_pairs_and_by_run(tmp_path, capsys):
    first = np.array([-90.0, -90.2, -90.1, -90.3, -90.2])
    other = np.array([0.2, -0.1, -0.2, 0.2, 0.0])  # what another training changes
    for name, values in (("a", first), ("b", first + other), ("c", first + other + 0.7)):
        planted(tmp_path / name, values)
        planted(tmp_path / name, first, "vae")
    for name in ("b", "c"):
        of_iwae = pairs_in(tmp_path / "a", tmp_path / name)[:5]
        assert apart(of_iwae, "iwae_64").se == pytest.approx(np.std(other, ddof=1) / 5**0.5)
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    said = capsys.readouterr().out
    assert said.count("they agree within their errors") == 2
    assert said.count("A: ") == 10
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "c")]) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "they agree within their errors; the difference's error is of the training"


def test_runs_of_unequal_length_are_compared_where_both_have_their_bound(tmp_path, capsys):
    (short,), (long,) = (planted(tmp_path, [-90.0], epochs=epochs) for epochs in (2, 3))
    assert main(["compare", str(short), str(long)]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"A: {short}\nB: {long}\nafter 2 epochs, the last that all have\n")
    assert "log_px" not in said
    assert records.read(long).as_of(2).experiment == records.read(short).experiment


def test_one_training_at_two_lengths_counts_once(tmp_path):
    paths = [p for epochs in (2, 3) for p in planted(tmp_path, [-90.0, -91.0], epochs=epochs)]
    every = [records.read(path) for path in paths]
    pairs, beside = cli._of_one_length([(every[0], every[2])], every)
    assert [r.experiment.seed for r in beside] == [0, 1]
    assert pairs[0][0].experiment == pairs[0][1].experiment


@pytest.mark.parametrize(
    ("other", "line"),
    [
        ({"binarise": "once"}, "are not scored on the same images"),
        (None, "no run is in both .*; name two records, or folders with runs of one name"),
    ],
)
def test_what_cannot_be_compared_is_one_line(tmp_path, other, line):
    (a,) = planted(tmp_path / "a", [-90.0])
    b = planted(tmp_path / "b", [-90.0], **other)[0] if other else tmp_path / "a"
    with pytest.raises(ReproError, match=line):
        pairs_in(a, b)


def test_a_metric_by_other_numbers_of_samples_is_not_compared(tmp_path, capsys, monkeypatch):
    (a,) = planted(tmp_path, [-90.0])

    def evaluated(record, samples, data, device):
        made = record.provenance.__class__(**record.provenance.as_dict() | {"log_px_samples": 7})
        return record.measured_as(record.images, provenance=made)

    monkeypatch.setattr(lab_run, "evaluate_again", evaluated)
    assert main(["evaluate", str(a)]) == 0
    said = capsys.readouterr().out
    how = "binarise fresh, seed 0, a machine, digits"
    assert said.startswith(f"now: K = 7, {how}\nrecorded: K = 256, {how}\n")
    assert "iwae_64" in said
    assert "log_px" not in said
    assert "minus_kl" not in said


def test_show_prints_every_score_and_the_command_of_every_record(tmp_path, capsys):
    paths = planted(tmp_path, [-90.0, -91.0])
    for asked in ([tmp_path], [tmp_path / "smoke"], paths):
        assert main(["show", *map(str, asked)]) == 0
        said = capsys.readouterr().out
        for path, value in zip(paths, ("−90.00", "−91.00"), strict=True):
            assert str(path) in said
            assert said.count(f"{value} ± 0.10") == len(records.METRICS) - 1
        assert "  python -m repro train --method iwae --seed 1 --profile smoke\n" in said


def test_status_says_first_what_each_exhibit_has_and_lacks(tmp_path, capsys):
    (path,) = planted(tmp_path, [-90.0])
    assert main(["status", "--profile", "smoke", "--results", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:3] == [
        "the report  15 released models to measure",
        "table1      1 run, 3 epochs; 4 missing",
    ]
    assert not [line for line in lines if line.startswith(("there", "missing"))]
    assert main(["status", "--profile", "smoke", "--results", str(tmp_path), "--all"]) == 0
    said = capsys.readouterr().out
    assert f"there    {path.relative_to(tmp_path)}  (3 epochs" in said
    assert "missing  smoke/digits-reference/piwae-M8-K8-seed0\n" in said
    words = "--method piwae,miwae,ciwae,vae,ciwae-learned --beta 0.5,0.1,0.3,0.7,0.9"
    assert f"to make  python -m repro audit --results {tmp_path}\n" in said
    assert main(["tables", "--profile", "smoke", "--results", str(tmp_path)]) == 0
    assert f"--profile smoke --results {tmp_path}\n" in capsys.readouterr().out
    assert f"to make  python -m repro train {words} --profile smoke --results {tmp_path}\n" in said


def test_the_check_in_the_book_contradicts_a_wrong_number(tmp_path, monkeypatch, capsys):
    """It is carried out as it stands there, with a planted record in place of the training."""
    page = (ROOT / "book" / "reproduce.md").read_text()
    train, compare = (
        re.search(rf"^python -m repro ({name} .*mine.*)$", page, re.M)[1].split()
        for name in ("train", "compare")
    )
    asked = []
    monkeypatch.setattr(lab_run, "train", lambda runs, *how: asked.extend(runs) or [])
    main(train)
    (e,) = asked
    assert compare[1] == f"mine/{e.folder}"
    recorded = records.read(ROOT / compare[2])
    other = records.read(ROOT / compare[2].replace("iwae-M1-K64", "piwae-M8-K8"))
    monkeypatch.setitem(helpers.PROVENANCE, "data", recorded.provenance.data)
    for record, status in ((recorded, 0), (other, 1)):
        results = tmp_path / str(status)
        write_record(results, e, record.curve.iwae_64[0])
        assert main(["compare", str(results / e.folder), str(ROOT / compare[2])]) == status
        assert "after 1 epoch, the last that all have" in capsys.readouterr().out
