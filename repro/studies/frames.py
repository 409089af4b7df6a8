"""The making of tables, and the places where their cells become text.

A table is a DataFrame whose cells are ``Estimate``, ``NOT_RUN`` or words. Its ``attrs`` hold a
caption that says where the numbers come from, and the commands that would make what is missing.
``as_strings`` turns cells into text; ``as_text`` and ``show`` are the edges where that happens.
"""

import html
import inspect
import re
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from repro import plural, records
from repro.records import Archive, Record, Selection
from repro.records.estimates import NOT_RUN, ErrorOf, Estimate, number
from repro.studies.captions import FAMILY_TITLES, METHOD_TITLES, conditions, labels, origin
from repro.words.experiments import TABLE_METHODS, Experiment, commands

AnyArchive = Archive | str | Path | None  # or the folder of one; None is the project's own
Rows = dict[tuple, dict[str, object]]
OF_WEIGHTS = "report's weights"  # measured again


def framed(rows: Rows, levels: Sequence[str], caption: str, missing: Sequence[str] = ()):
    """Make a DataFrame of ``rows`` by index, with caption and commands for missing runs in attrs.

    If all estimates of a row are of equally many seeds, its label says how many, not its cells.
    """
    rows = dict(_with_seeds_in_label(index, row) for index, row in rows.items())
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index = pd.MultiIndex.from_tuples(table.index, names=levels)
    table.attrs = {"caption": caption, "missing": [*missing]}
    return table


def _with_seeds_in_label(index: tuple, row: Mapping[str, object]) -> tuple[tuple, dict]:
    estimates = {name: cell for name, cell in row.items() if isinstance(cell, Estimate)}
    counts = {e.seeds for e in estimates.values()}
    kinds = {e.error_of for e in estimates.values()}
    if len(counts) != 1 or counts == {1} or kinds != {ErrorOf.SEEDS}:
        return index, dict(row)
    label = f"{index[-1]}, {plural(counts.pop(), 'seed')}"
    of_one = {name: replace(cell, seeds=1) for name, cell in estimates.items()}
    return (*index[:-1], label), dict(row) | of_one


def table_of_ours(rows: Rows, levels: Sequence[str], selection: Selection, about: str, error: str):
    """``framed`` for a table of our own runs: what it is about, and the runs' conditions."""
    used = selection.used
    caption = f"{about} Ours: {conditions(used, error)}" if used else conditions(used)
    return framed(rows, levels, caption, commands(selection.missing))


def by_method(runs: Sequence[Record]) -> dict:
    """Group records by method, in the order of Table 1; a method may have none."""
    found: dict[str, list[Record]] = {method: [] for method in TABLE_METHODS}
    for record in runs:
        if record.experiment.method in found:
            found[record.experiment.method].append(record)
    return found


def row_of(runs: Sequence[Record], cell_of: Callable[[Sequence[Record]], object]) -> dict:
    """Make a row of a table: ``cell_of`` the records of each of Table 1's methods."""
    return for_methods({m: cell_of(found) for m, found in by_method(runs).items()})


def for_methods(cells: Mapping[str, object]) -> dict[str, object]:
    """Make a row of a table from ``cells`` by method, in the columns of Table 1's methods."""
    return {title: cells[m] for m, title in METHOD_TITLES.items()}


# Where numbers become text


def from_to(values: Collection[float], digits: int = 2) -> str:
    """The lowest and the highest of several values, "1.00 to 2.50", or the only one.

    >>> from_to([2.5, 1.0, 2.0])
    '1.00 to 2.50'
    """
    if not len(values):
        return str(NOT_RUN)
    if len(values) == 1:
        return number(*values, digits)
    return f"{number(min(values), digits)} to {number(max(values), digits)}"


def rounded_up(value: float) -> str:
    """Text of a number, rounded up to one significant digit.

    >>> [rounded_up(value) for value in (0.0123, 0.07, 0.61, 0.91, 1.2)]
    ['0.02', '0.07', '0.7', '1', '2']
    """
    digit = 10.0 ** np.floor(np.log10(value))
    return f"{np.ceil(round(value / digit, 9)) * digit:.1g}"


def as_strings(table: pd.DataFrame) -> pd.DataFrame:
    """The same table with every cell as text."""
    return table.map(str)


def as_text(table: pd.DataFrame, form: str = "text", name: str = "repro") -> str:
    """The table with its caption, as text, csv, markdown or latex (booktabs)."""
    caption = table.attrs["caption"]
    flat = as_strings(table).reset_index()
    if form == "csv":
        return flat.to_csv(index=False).rstrip()
    if form == "latex":
        return _as_latex(flat, caption, name)
    grid = {"text": "presto", "markdown": "pipe"}[form]
    lines = flat.to_markdown(index=False, tablefmt=grid, disable_numparse=True)
    needed = [f"missing; make it with: {command}" for command in table.attrs["missing"]]
    return "\n".join([lines, "", caption, *needed])


TEX = {"p̂": r"$\hat p$", "‖": r"$\|$", "−": "$-$", "±": r"$\pm$", "β": r"$\beta$"}


def _as_latex(flat: pd.DataFrame, caption: str, name: str) -> str:
    """LaTeX with mathematical signs; pandas escapes what cells hold, but not the caption."""
    escaped = caption.translate({ord(sign): f"\\{sign}" for sign in "&%$#_{}"})
    text = flat.to_latex(index=False, escape=True, caption=escaped, label=f"tab:{name}")
    for sign, tex in TEX.items():
        text = text.replace(sign, tex)
    return text.rstrip()


def show(table: pd.DataFrame) -> None:
    """Display a table in a notebook, with its caption and the commands that would fill its gaps."""
    from IPython.display import HTML, Markdown, display

    text = as_strings(table)
    grey = "color: grey; font-style: italic"
    style = text.style.map(lambda cell: grey if cell == str(NOT_RUN) else "")
    # The same name every time, and a different one for each table of a page.
    name = zlib.crc32("".join([table.attrs["caption"], *map(str, table.index)]).encode())
    markup = with_scopes(style.set_uuid(f"{name:08x}").to_html())
    display(HTML(markup), Markdown(table.attrs["caption"]))
    if table.attrs["missing"]:
        display(to_fill(table.attrs["missing"]))


def with_scopes(table: str) -> str:
    """A table's HTML with what each heading heads, for those who hear it; no heading is empty."""
    table = re.sub(r'<th class="blank[^>]*>&nbsp;</th>', "<td></td>", table)
    return re.sub(r'<th (?=[^>]*"(row|col)_heading)', r'<th scope="\1" ', table)


def to_fill(needed: Sequence[str]):
    """Markdown for a notebook: the commands that make what a table or figure lacks."""
    from IPython.display import Markdown

    return Markdown("To fill the gaps:\n```bash\n" + "\n".join(needed) + "\n```")


THE_REPORTS = "The student report's weights"


def show_origins(notebook: str, runs_by_name: Mapping[str, Sequence[Record]]) -> None:
    """Display in a notebook, folded, the records behind it with commits, dates and devices."""
    from IPython.display import HTML, display

    said = []
    for whose, runs in runs_by_name.items():
        if runs:
            text = html.escape(origin(runs), quote=False)
            links = ", ".join(map(_link, runs, labels(runs)))
            said.append(f"<p><b>{whose}</b>: {text} Records: {links}.</p>")
    link = f'<a href="../notebooks/{notebook}.ipynb">notebooks/{notebook}.ipynb</a>'
    said.append(f"<p>Made by {link}.</p>")
    summary = "<summary>Where these numbers come from</summary>"
    display(HTML(f'<details class="origin">{summary}{"".join(said)}</details>'))


def show_source(*makers: Callable) -> None:
    """Display in a notebook the source of the functions ``makers``, folded, to copy and change."""
    from IPython.display import HTML, display

    said = []
    for maker in makers:
        parts = with_helpers(maker)
        module = parts[-1].__module__
        file = Path(*module.split(".")).with_suffix(".py")
        sources = map(inspect.getsource, parts)
        source = f"from {module} import *\n\n" + "\n\n".join(sources)
        code = html.escape(source, quote=False)
        said.append(f'<p><a href="../{file}">{file}</a></p><pre>{code}</pre>')
    summary = "<summary>How this is made: copy, and change it</summary>"
    display(HTML(f'<details class="origin">{summary}{"".join(said)}</details>'))


def with_helpers(maker: Callable) -> list[Callable]:
    """Return ``maker`` after the private functions of its module that it calls."""
    maker = inspect.unwrap(getattr(maker, "func", maker))  # of a partial or a decorated one
    names = set(re.findall(r"\b_\w+", inspect.getsource(maker))) - {maker.__name__}
    helpers = [maker.__globals__[name] for name in sorted(names & {*maker.__globals__})]
    needed = [part for helper in helpers for part in with_helpers(helper)]
    return [*dict.fromkeys(needed), maker]


def _link(record: Record, name: str) -> str:
    """A link from ``notebooks``, here and in the book, if the record is kept with the project."""
    e: Experiment = record.experiment
    name = f"{name} {FAMILY_TITLES.get(e.family, e.dataset)}"
    if e.model != "reference":
        name += f", {e.model}"
    project = records.root().resolve()
    path = record.path.resolve()  # a folder of results may be a link to the project's
    if not path.is_relative_to(project / "results") or e.profile == "smoke":
        return name
    return f'<a href="../{path.relative_to(project)}/metrics.json">{name}</a>'
