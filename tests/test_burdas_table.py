"""The table of the paper that introduced IWAE, beside planted runs."""

from repro.records import Archive
from repro.studies.burdas_table import PRINTED_BY_BURDA, printed_and_ours, run_behind
from repro.words.experiments import plan
from tests.helpers import write_record


def cells_of(said: str) -> dict[tuple[str, str], list[str]]:
    """The cells after the first two of each row of a table."""
    rows = [line.strip("| ").split(" | ") for line in said.splitlines()]
    return {tuple(row[:2]): row[2:] for row in rows}


def test_rows_are_of_runs_with_burdas_settings_and_as_many_samples():
    for method, K in PRINTED_BY_BURDA:
        e = run_behind((method, K), "full")
        assert (e.method, e.M * e.K, e.init, e.epochs) == (method, K, "burda", 3280)


def test_values_and_leads_stand_beside_the_printed_ones(tmp_path):
    for seed, spread in ((3, -0.2), (4, 0.0), (5, 0.1), (6, 0.1)):
        for method in ("iwae", "vae"):
            (e,) = plan(method, "mnist", profile="short", seed=seed)
            write_record(tmp_path, e, value=-88 + spread)
    write_record(tmp_path, run_behind(("iwae", 1), "full"), value=-86.5)
    write_record(tmp_path, run_behind(("iwae", 1), "short"), value=-90.0)
    write_record(tmp_path, run_behind(("iwae", 5), "short"), value=-88.25)
    rows = cells_of(printed_and_ours(Archive(tmp_path)))
    assert rows["IWAE", "1"][:2] == ["−86.76", "−86.50 ± 0.14, agrees"]
    assert rows["IWAE", "1"][2:] == ["−90.00 ± 0.14", "0.00", "–"]
    assert rows["IWAE", "5"] == ["−85.54", "–", "−88.25 ± 0.14", "1.22", "1.75 ± 0.20, agrees"]
    assert rows["VAE", "50"] == ["−86.35", "–", "–", "0.41", "–"]
