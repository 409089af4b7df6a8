"""Sphinx extension: executed notebooks under ``book/notebooks``, and numbers for the prose.

An exhibit is taken from ``_build/notebooks`` (what ``make report`` has just executed) if it is
there and not older than the records or the notebook; otherwise from ``notebooks`` (as committed).
This machine's smoke runs come from ``_build/notebooks/smoke``; as long as there are none, the book
has no pages of them.

Prose draws its numbers from the records: ``n.value(...)`` in double braces in a page calls
``studies.prose.Numbers``. Pages are read again when records change. The records and notebooks that
exhibits link to are copied beside the pages.
"""

import base64
import html
import json
import os
import re
from importlib.metadata import files
from itertools import chain
from pathlib import Path

import yaml
from docutils import nodes

from repro.jupyter.article import NO_ARTICLE, link_article
from repro.ops.export import cited
from repro.studies.prose import Numbers
from repro.words.exhibits import EXHIBITS, NOTEBOOKS, STUDIES
from repro.words.experiments import KEPT_PROFILES

SMOKE = "notebooks/smoke/"  # pages of runs of this machine
SMOKE_PAGES = ("train", "table1")
ALSO_IN_API = (  # modules below the library that researchers import, or that pages speak of
    "words.experiments",
    "training.run",
    "training.program",
    "training.as_released",
    "training.leases",
    "records.archive",
    "records.estimates",
    "studies.gradient_runs",
    "studies.rival",
    "studies.other_networks",
)


def bring(app, config) -> None:
    """Copy the executed notebooks into the book, and set the substitutions that pages use."""
    project = Path(app.srcdir).parent
    built = project / "_build" / "notebooks"
    target = project / "book" / "notebooks"
    _bring_notebooks(project, built, target)
    config.myst_substitutions = {"n": Numbers(str(project / "results"))} | _front_matter(project)
    for name in EXHIBITS:
        config.myst_substitutions[name] = _shown_in_chapters(target / f"{name}.ipynb")
    for name in STUDIES:
        config.myst_substitutions |= _named_pictures(target / f"{name}.ipynb")
    found = [_bring_smoke(built / "smoke", target / "smoke", name) for name in SMOKE_PAGES]
    modules = _pages_of_modules(project)
    contents = Path(config.external_toc_path).absolute()  # it was named from here, not from book/
    config.external_toc_path = str(project / "_build" / contents.name)
    _write_contents(contents, Path(config.external_toc_path), all(found), modules)


def _bring_notebooks(project: Path, built: Path, target: Path) -> None:
    """Write the exhibits' and studies' notebooks into the book, with numbers for their tables."""
    records = [*(project / "results").glob("*/*.csv")]  # whose change makes exhibits stale
    for profile in KEPT_PROFILES:
        records += (project / "results" / profile).glob("*/*/metrics.json")
    pages = {}
    for name in NOTEBOOKS:
        committed = project / "notebooks" / f"{name}.ipynb"
        fresh = built / f"{name}.ipynb"
        newest = max(path.stat().st_mtime for path in (committed, *records))
        is_fresh = fresh.exists() and fresh.stat().st_mtime >= newest
        source = fresh if is_fresh else committed
        pages[name] = json.loads(source.read_text(encoding="utf-8"))
    _number_tables(pages)
    for name, page in pages.items():
        written = json.dumps(page, ensure_ascii=False, indent=1)
        _write(target / f"{name}.ipynb", written.encode())


def _front_matter(project: Path) -> dict[str, str]:
    """Who wrote this, its entry for a bibliography, and where its PDF is."""
    about = cited(project)
    version, date = about["version"], about["date-released"]
    authors = " and ".join(f"{{{name}}}" for name in about["names"])
    entry = [
        "```bibtex",
        "@software{repro,",
        f"  title = {{{about['title']}}},",
        f"  author = {{{authors}}},",
        f"  version = {{{version}}},",
        f"  date = {{{date}}}",
        "}",
        "```",
    ]
    return {
        "authors": f"{', '.join(about['names'])} · version {version}, {date}",
        "bibtex": "\n".join(entry),
        "pdf": NO_ARTICLE,
    }


PICTURES = {"image/svg+xml": "svg", "image/png": "png"}


def _shown_in_chapters(path: Path) -> str:
    """An exhibit's first picture or table, as chapters show it, with its caption."""
    outputs = _outputs_of(path)
    for at, (cell, data) in enumerate(outputs):
        if picture := _picture_in(data, path.parent / "pictures" / path.stem):
            return _as_figure(picture, cell)
        if "<table" in (table := "".join(data.get("text/html", ""))):
            caption = "".join(outputs[at + 1][1]["text/markdown"])
            return _as_table(table, path.stem, caption)
    raise ValueError(f"{path} shows neither a picture nor a table")


def _number_tables(pages: dict[str, dict]) -> None:
    """Begin each table's caption with its number; a table that is shown twice has one number.

    The first tables of the notebooks table1 and table2 are Tables 1 and 2; the others follow.
    """
    found = {name: _tables_in(page) for name, page in pages.items()}
    tables = [*chain.from_iterable(found.values())]
    names = [name for name, _ in (found["table1"][0], found["table2"][0], *tables)]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names), 1)}
    for name, caption in tables:
        said = "".join(caption["text/markdown"])
        caption["text/markdown"] = f"**Table {numbers[name]}.** {said}"


def _tables_in(page: dict) -> list[tuple[str, dict]]:
    """The tables of a notebook: their ids, which their contents make, and their captions."""
    shown = [o.get("data", {}) for cell in page["cells"] for o in cell.get("outputs", [])]
    ids = [re.search(r'<table id="(\w+)"', "".join(data.get("text/html", ""))) for data in shown]
    return [(found[1], after) for found, after in zip(ids, shown[1:], strict=False) if found]


def _named_pictures(path: Path) -> dict[str, str]:
    """A study's pictures, as chapters show them: ``fig_beta`` is the figure fig-beta."""
    found = {}
    for cell, data in _outputs_of(path):
        name = cell["metadata"].get("mystnb", {}).get("figure", {}).get("name")
        if name and (picture := _picture_in(data, path.parent / "pictures" / name)):
            found[name.replace("-", "_")] = _as_figure(picture, cell)
    return found


def _outputs_of(path: Path) -> list[tuple[dict, dict]]:
    """Each cell of a notebook with each of its outputs, by the kinds in which it can be shown."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [(cell, o.get("data", {})) for cell in cells for o in cell.get("outputs", [])]


def _picture_in(data: dict, place: Path) -> Path | None:
    """The picture in an output, written to ``place`` with its ending; None if there is none."""
    for mime, ending in PICTURES.items():
        if mime in data:
            picture = place.with_name(f"{place.name}.{ending}")
            said = "".join(data[mime])
            _write(picture, base64.b64decode(said) if ending == "png" else said.encode())
            return picture
    return None


# Printed, the chapters are followed by the exhibits, so there they are left out.
IN_A_CHAPTER = """:::{{container}} on-screen in-place
{shown}

{caption} {link}
:::"""


def _as_figure(picture: Path, cell: dict) -> str:
    """A picture with the number and caption of its figure, and a link to where it is made."""
    about = cell["metadata"]["mystnb"]
    name = about["figure"]["name"]
    image = f"```{{image}} notebooks/pictures/{picture.name}\n:alt: {about['image']['alt']}\n```"
    caption = f"{{numref}}`{name}`. {about['figure']['caption']}"
    link = f"{{ref}}`Where these numbers come from <{name}>`"
    return IN_A_CHAPTER.format(shown=image, caption=caption, link=link)


def _as_table(table: str, name: str, caption: str) -> str:
    """A table with its caption, and a link to where it is made."""
    inside = f'<div class="cell_output"><div class="text_html">{table}</div></div>'
    shown = f"```{{raw}} html\n{inside}\n```"
    link = f"{{doc}}`Where these numbers come from <notebooks/{name}>`"
    return IN_A_CHAPTER.format(shown=shown, caption=caption, link=link)


def _bring_smoke(built: Path, target: Path, name: str) -> bool:
    """This machine's notebook as a page, if there is one."""
    source, page = (folder / f"{name}.ipynb" for folder in (built, target))
    if not source.exists():
        page.unlink(missing_ok=True)
        return False
    import nbformat

    notebook = nbformat.read(source, as_version=4)
    title = notebook.cells[0]
    title.source = title.source.replace("# ", "# This machine: ", 1)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            html = output.get("data", {}).get("text/html")
            if html:  # the page lies one folder further down than where links start from
                output["data"]["text/html"] = html.replace('href="../', 'href="../../')
    _write(page, nbformat.writes(notebook).encode())
    return True


PAGE_OF_MODULE = """# {name}

```{{eval-rst}}
.. automodule:: {name}
   :members:
   :ignore-module-all:
```
"""


def _pages_of_modules(project: Path) -> list[str]:
    """Write a page of the API for each of its modules, from docstrings; returns their names."""
    library = sorted(f.stem for f in (project / "repro").glob("*.py") if f.stem[:2] != "__")
    pages = []
    for name in (*library, *ALSO_IN_API):
        pages.append(f"api/repro.{name}")
        page = PAGE_OF_MODULE.format(name=f"repro.{name}")
        _write(project / "book" / f"{pages[-1]}.md", page.encode())
    return pages


def _write_contents(contents: Path, target: Path, smoke: bool, modules: list[str]) -> None:
    """The book's contents with the pages of modules, and of this machine if it has run any."""
    kept = yaml.safe_load(contents.read_text(encoding="utf-8"))
    for part in kept["parts"]:
        part["chapters"] = [c for c in part["chapters"] if smoke or not c["file"].startswith(SMOKE)]
        for chapter in part["chapters"]:
            if chapter["file"] == "api":
                chapter["sections"] = [{"file": page} for page in modules]
    _write(target, yaml.safe_dump(kept, sort_keys=False, allow_unicode=True).encode())


def keep_errors_beside_values(app, doctree) -> None:
    """Replace the spaces around ± and before % in prose, so that no line ends in between."""
    for text in list(doctree.findall(nodes.Text)):
        as_it_is = isinstance(text.parent, nodes.FixedTextElement | nodes.literal)
        together = text.replace(" ± ", "\u00a0±\u00a0").replace(" %", "\u00a0%")
        if together != text and not as_it_is:
            text.parent.replace(text, nodes.Text(together))


def without_scripts_of_no_use(app, pagename, templatename, context, doctree) -> None:
    """Remove thebe's scripts, which load from the network, and MathJax where no formula is."""
    useless = "thebe"
    of_pages = app.env.get_domain("math").data["has_equations"]  # its method counts pages below
    if app.builder.name == "html" and not of_pages.get(pagename):
        useless += "|mathjax"
    scripts = context.get("script_files", [])
    scripts[:] = [script for script in scripts if not re.search(useless, str(script).lower())]


def described(app, pagename, templatename, context, doctree) -> None:
    """Say in a page's head what it is, for whoever shows a link to it (Open Graph)."""
    paragraph = doctree.next_node(nodes.paragraph) if doctree else None
    if paragraph:
        title = re.sub(r"<[^>]*>", "", context["title"])
        first = paragraph.astext()[:200].replace("\n", " ")
        for name, text in (("type", "article"), ("title", title), ("description", first)):
            line = f'<meta property="og:{name}" content="{html.escape(text)}" />\n'
            context["metatags"] += line


def write_side_by_side(app, env) -> None:
    """Let every processor write pages; reading is not safe so with all of the extensions."""
    app.parallel = os.cpu_count()


def take_along(app, error) -> None:
    """Copy MathJax and the files that notebooks link to into the built book."""
    if error or app.builder.format != "html":
        return
    project = Path(app.srcdir).parent
    out = Path(app.outdir)
    for profile in KEPT_PROFILES:
        for pattern in ("*/*/*.json", "*/*/*.csv"):
            for path in (project / "results" / profile).glob(pattern):
                _copy(path, out / path.relative_to(project))
    for path in (project / "repro" / "studies").glob("*.py"):
        _copy(path, out / path.relative_to(project))
    for name in NOTEBOOKS:
        notebook = Path("notebooks") / f"{name}.ipynb"
        _copy(Path(app.srcdir) / notebook, out / notebook)
    article = project / "_build" / "report.pdf"
    if article.exists() and (out / "index.html").exists():
        link_article(article, out)
    script = app.config.mathjax_path
    for file in files("sphinx-mathjax-offline"):
        if file.match(f"*/{script}"):
            _copy(Path(file.locate()), out / "_static" / script)
    _leave_icons_of_pages(out)


ICON = re.compile(
    r"""
    "?(?P<name>[a-z0-9-]+)"?:
    \[\d+,\d+,                                   # width and height
    \[(?P<aliases>[^\]]*)\],
    "[0-9a-f]+",(?:"[^"]*"|\[[^\]]*\])\],?        # place in a font, and one or two shapes
    """,
    re.VERBOSE,
)


def _leave_icons_of_pages(out: Path) -> None:
    """Take out of the theme's script of two thousand icons those that no page shows."""
    used = set()
    for path in [*out.rglob("*.html"), *out.glob("_static/**/*theme*.js")]:
        used |= {*re.findall(r"\bfa-([a-z0-9-]+)", path.read_text(encoding="utf-8"))}

    def kept(icon: re.Match) -> str:
        names = {icon["name"], *re.findall(r'"([^"]+)"', icon["aliases"])}
        return icon[0] if names & used else ""

    for script in out.glob("_static/vendor/fontawesome/*/js/all.min.js"):
        fewer = ICON.sub(kept, script.read_text(encoding="utf-8")).replace(",}", "}")
        _write(script, fewer.encode())


def _copy(source: Path, target: Path) -> None:
    _write(target, source.read_bytes())


def _write(target: Path, content: bytes) -> None:
    if not target.exists() or target.read_bytes() != content:
        target.parent.mkdir(parents=True, exist_ok=True)
        whole = target.with_name(f"{target.name}.{os.getpid()}")  # pages and article may both read
        whole.write_bytes(content)
        os.replace(whole, target)


def setup(app):
    """Connect this extension's functions to Sphinx; ``bring`` runs before pages are found."""
    app.connect("config-inited", bring, priority=100)
    app.connect("doctree-read", keep_errors_beside_values)
    app.connect("env-updated", write_side_by_side)
    app.connect("html-page-context", without_scripts_of_no_use, priority=900)
    app.connect("html-page-context", described)
    app.connect("build-finished", take_along)
    return {"parallel_read_safe": True}
