"""Sphinx extension: brings the executed notebooks under ``book/notebooks``, where the table of contents can name them.

An exhibit is taken from ``_build/notebooks`` (what ``make report`` has just executed) where it is there and not older than
the records or the notebook, else from ``notebooks`` (as committed). This machine's smoke runs come from ``_build/notebooks/smoke``; where
there are none yet, a page says how to make them.

Prose draws its numbers from the records: ``{{ n.value(...) }}`` in a page calls ``claims.Numbers``. Pages are read again
when records change. The records and notebooks that exhibits link to are copied beside the pages.
"""

from __future__ import annotations

from pathlib import Path

from repro.claims import Numbers
from repro.experiments import EXHIBITS, STUDIES

COMMITTED = (*EXHIBITS, *STUDIES)
SMOKE = ("train", "table1")
NOT_YET = "# This machine's {name}\n\nNothing has been trained here yet: `make report` trains every method on the small digits and fills this page.\n"


def bring(app, config) -> None:
    """Copy, touching only what differs, so that unchanged pages are not read again; give pages their numbers."""
    book = Path(app.srcdir)
    config.myst_substitutions = {"n": Numbers(str(book.parent / "results"))}
    built, target = book.parent / "_build" / "notebooks", book / "notebooks"
    records = [p for p in (book.parent / "results").glob("*/*/*/metrics.json") if p.parents[2].name != "smoke"]
    records += (book.parent / "results").glob("*/*.csv")
    for name in COMMITTED:
        fresh, committed = built / f"{name}.ipynb", book.parent / "notebooks" / f"{name}.ipynb"
        newest = max(p.stat().st_mtime for p in (committed, *records))
        _copy(fresh if fresh.exists() and fresh.stat().st_mtime >= newest else committed, target / f"{name}.ipynb")
    for name in SMOKE:
        source, page = built / "smoke" / f"{name}.ipynb", target / "smoke" / name
        page.with_suffix(".md" if source.exists() else ".ipynb").unlink(missing_ok=True)
        if source.exists():  # one folder further down than where its links start from
            here = source.read_bytes().replace(rb"href=\"../", rb"href=\"../../")
            _write(page.with_suffix(".ipynb"), here.replace(b'"# ', b'"# This machine: ', 1))
        else:
            _write(page.with_suffix(".md"), NOT_YET.format(name=name).encode())


def without_thebe(app, pagename, templatename, context, doctree) -> None:
    """Leave out the scripts of live code cells: jupyter-book adds them, twice, with an address on the network; nothing here uses them."""
    scripts = context.get("script_files", [])
    scripts[:] = [s for s in scripts if "thebe" not in f"{getattr(s, 'filename', s)}{getattr(s, 'attributes', '')}".lower()]


def take_along(app, error) -> None:
    """Copy what exhibits link to, where ``../results`` and ``../notebooks`` find it."""
    if error or app.builder.format != "html":
        return
    project, out = Path(app.srcdir).parent, Path(app.outdir)
    for folder in ("results/short", "results/full", "results/published"):
        for path in (project / folder).glob("*/*/*.json"):
            _copy(path, out / path.relative_to(project))
        for path in (project / folder).glob("*/*/*.csv"):
            _copy(path, out / path.relative_to(project))
    for name in COMMITTED:
        _copy(Path(app.srcdir) / "notebooks" / f"{name}.ipynb", out / "notebooks" / f"{name}.ipynb")


def _copy(source: Path, target: Path) -> None:
    _write(target, source.read_bytes())


def _write(target: Path, content: bytes) -> None:
    if not target.exists() or target.read_bytes() != content:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def setup(app):
    """Run before anything looks for source files."""
    app.connect("config-inited", bring, priority=100)
    app.connect("html-page-context", without_thebe, priority=900)
    app.connect("build-finished", take_along)
    return {"parallel_read_safe": True}
