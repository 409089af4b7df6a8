"""The table of the paper that introduced IWAE, beside planted runs."""

from repro.records import Archive
from repro.studies import burdas_table
from repro.studies.burdas_table import PRINTED_BY_BURDA, run_behind
from tests.helpers import write_record


def test_rows_are_of_runs_with_burdas_settings_and_as_many_samples():
    for method, K in PRINTED_BY_BURDA:
        e = run_behind(method, K, "full")
        assert (e.method, e.M * e.K, e.init, e.epochs) == (method, K, "burda", 3280)


def test_a_run_of_full_length_is_compared_and_a_shorter_one_is_shown(tmp_path):
    write_record(tmp_path, run_behind("iwae", 1, "full"), value=-86.5)
    write_record(tmp_path, run_behind("iwae", 5, "short"), value=-88.25)
    said = burdas_table.printed_and_ours(Archive(tmp_path))
    rows = {tuple(line.split(" | ")[:2]): line.split(" | ") for line in said.splitlines()}
    assert rows["| IWAE", "1"][4].startswith("−86.50")
    assert rows["| IWAE", "1"][5].startswith("−0.26")
    assert rows["| IWAE", "5"][3].startswith("−88.25")
    assert rows["| IWAE", "5"][4:] == ["–", "– |"]
