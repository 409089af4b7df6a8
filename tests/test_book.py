"""The book builds without a warning and needs no network, and the graph of work is whole."""

import functools
import hashlib
import html as escapes
import http.server
import importlib.resources
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from pybtex.database import parse_file

from repro.jupyter import sphinx_ext
from repro.jupyter.article import BROWSER
from repro.records import Archive
from repro.studies import captions, claims, gradients
from repro.studies.prose import Numbers
from repro.words.exhibits import EXHIBITS
from tests.helpers import ROOT

BIN = Path(sys.executable).parent
ENV = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
PAGES = sorted((ROOT / "book").glob("*.md"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TWO_DECIMALS = r"[-−]?\d+\.\d{2,}"


def run_in(folder, *words):
    """Run a program of this environment, and fail with what it said if it fails."""
    command = [BIN / words[0], *words[1:]]
    done = subprocess.run(command, cwd=folder, env=ENV, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def build(project):
    """Build the book as a user does; warnings are errors."""
    run_in(project, "jupyter-book", "build", "book/", "-W", "--keep-going")
    return project / "_build" / "html"


def plant_smoke_pages(project):
    """Put pages of this machine where `make report` leaves them."""
    smoke = project / "_build" / "notebooks" / "smoke"
    smoke.mkdir(parents=True)
    for name in sphinx_ext.SMOKE_PAGES:
        shutil.copy(ROOT / "notebooks" / f"{name}.ipynb", smoke)


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    """The book, built in a copy of what is committed."""
    here = tmp_path_factory.mktemp("copy")
    left_out = shutil.ignore_patterns("smoke", "unfinished-*", "*.safetensors", "__pycache__")
    for name in ("book", "notebooks", "results", "repro", "examples", "tests"):  # pages quote code
        shutil.copytree(ROOT / name, here / name, ignore=left_out)
    shutil.copytree(ROOT / "benchmarks" / "results", here / "benchmarks" / "results")
    shutil.rmtree(here / "book" / "notebooks", ignore_errors=True)
    for name in ("_config.yml", "CITATION.cff"):
        shutil.copy(ROOT / name, here)
    plant_smoke_pages(here)
    return build(here)


# Pages and links


@pytest.mark.slow
def test_every_page_of_the_contents_is_there(html):
    contents = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    pages = [contents["root"]]
    for part in contents["parts"]:
        for chapter in part["chapters"]:
            sections = chapter.get("sections", ())
            pages += [page["file"] for page in (chapter, *sections)]
    for page in pages:
        assert (html / f"{page}.html").is_file(), page
    assert {f"notebooks/{name}" for name in EXHIBITS} < set(pages)


@pytest.mark.slow
def test_every_link_within_the_book_leads_somewhere(html):
    pages = {p: p.read_text() for p in html.rglob("*.html") if "_static" not in p.parts}
    named = {p: set(re.findall(r'\bid="([^"]+)"', text)) for p, text in pages.items()}
    assert sum(text.count("<a ") for text in pages.values()) > 500
    for page, text in pages.items():
        for address in re.findall(r'<a\b[^>]*\bhref="([^"]+)"', text):
            if re.match("[a-z]+:", address):
                continue
            file, _, anchor = escapes.unescape(address).partition("#")
            target = (page.parent / file.split("?")[0]).resolve() if file else page
            where = f"{page.name}: {address}"
            assert target.exists(), where
            if anchor and target in named:
                assert anchor in named[target], where


def test_a_report_that_cannot_begin_says_why(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    words = ["make", "report", "READY=", "GRAPH=-s nowhere/Snakefile --cores 1"]
    done = subprocess.run(words, cwd=tmp_path, env=ENV, capture_output=True, text=True)
    assert done.returncode == 2
    assert "nowhere/Snakefile" in done.stdout
    assert "the report is at" not in done.stdout


# Exhibits


@pytest.mark.slow
@pytest.mark.parametrize("number", range(1, 8))
def test_figures_have_the_reports_numbers_a_caption_and_their_origin(html, number):
    text = (html / "notebooks" / f"figure{number}.html").read_text()
    assert re.search(rf'<figure[^>]* id="fig-{number}">', text)
    assert f'<span class="caption-number">Figure {number} </span>' in text
    archive = Archive(ROOT / "results")
    ours = archive.select(f"figure{number}").used
    released = archive.released_in(f"figure{number}")
    for used in (ours, released):
        if used:
            assert captions.origin(used) in text
    assert f'href="../notebooks/figure{number}.ipynb"' in text


@pytest.mark.slow
def test_every_table_of_the_notebooks_has_one_number(html):
    found = []
    for page in (html / "notebooks").glob("*.html"):
        text = page.read_text()
        found += re.findall(r'<table id="(\w+)".*?<strong>Table (\d+)\.</strong>', text, re.DOTALL)
        assert text.count('<table id="') == len(re.findall(r"<strong>Table \d+\.<", text)), page
    number_of = dict(found)
    assert {*found} == {*number_of.items()}
    assert sorted(map(int, number_of.values())) == [*range(1, len(number_of) + 1)]


SHOWN = {
    "table1": "MIWAE(8,8); ours; report; paper; −86.11 ± 0.10; profile; commit",
    "audit": "30 of 30; corrected; not IWAE-64; noise about 0; confirmed; −86.14 ± 0.23; commit",
}


@pytest.mark.slow
@pytest.mark.parametrize("page", SHOWN)
def test_tables_show_our_numbers_the_printed_ones_and_their_origin(html, page):
    text = (html / "notebooks" / f"{page}.html").read_text()
    for said in SHOWN[page].split("; "):
        assert said in text


# On paper


@pytest.mark.parametrize("with_smoke", [True, False])
def test_contents_named_from_the_projects_folder_are_found_from_the_books(
    with_smoke, tmp_path, monkeypatch
):
    for name in ("results", "notebooks", "CITATION.cff"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "book").mkdir()
    shutil.copy(ROOT / "book" / "_paper.yml", tmp_path / "book")
    if with_smoke:
        plant_smoke_pages(tmp_path)
    monkeypatch.chdir(tmp_path)
    config = SimpleNamespace(external_toc_path="book/_paper.yml")
    sphinx_ext.bring(SimpleNamespace(srcdir=tmp_path / "book"), config)
    contents = Path(config.external_toc_path)
    assert contents.is_absolute()
    assert yaml.safe_load(contents.read_text())["root"] == "abstract"
    assert (tmp_path / "book" / "notebooks" / "smoke" / "train.ipynb").exists() == with_smoke


PRINTER = """#!/bin/sh
for word; do
  case $word in --print-to-pdf=*) echo "${*##* }" > "${word#*=}";; esac
done
"""


@pytest.mark.slow
def test_the_article_is_printed_after_the_report(html, tmp_path):
    """In the folder where this machine's pages are; a stand-in says which page it would print."""
    here = tmp_path / "copy"
    shutil.copytree(html.parents[1], here)
    browser = tmp_path / "chromium"
    browser.write_text(PRINTER)
    browser.chmod(0o755)
    env = {**ENV, "PATH": f"{tmp_path}{os.pathsep}{ENV['PATH']}"}
    words = [sys.executable, "-m", "repro.jupyter.article"]
    done = subprocess.run(words, cwd=here, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (here / "book" / "notebooks" / "smoke" / "train.ipynb").exists()
    page = here / "_build" / "article" / "_build" / "singlehtml" / "abstract.html"
    assert (here / "_build" / "report.pdf").read_text().strip() == page.as_uri()
    assert "details open" in page.read_text()
    built = here / "_build" / "html"
    assert (built / "report.pdf").exists()
    assert '<a href="report.pdf">' in (built / "index.html").read_text()


# Where numbers come from


@pytest.mark.slow
def test_no_number_of_the_prose_is_left_out(html):
    for page in html.glob("*.html"):
        assert "{{ " not in page.read_text(), page.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_result_is_typed_by_hand_into_the_book(page):
    """Numbers with two decimals or more are results; in prose they stand only inside {{ }}.

    What is in there comes from records.
    """
    not_prose = r"\{\{.*?\}\}|```.*?```|`[^`]*`|\$[^$]*\$|Python 3[.]\d+[.]\d+|https:\S+"
    prose = re.sub(not_prose, "", page.read_text(), flags=re.S)
    assert not re.findall(TWO_DECIMALS, prose)
    assert not re.findall(r"\d\s*±|±\s*\d", prose)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_result_is_typed_by_hand_into_a_notebook(path):
    cells = json.loads(path.read_text())["cells"]
    text = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    prose = re.sub(r"\$[^$]*\$", "", text)
    assert not re.findall(TWO_DECIMALS, prose)


def test_the_tests_that_the_book_names_exist():
    there = "".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    named = set()
    for page in PAGES:
        named |= set(re.findall(r"`(test_\w+)`", page.read_text()))
    assert named
    for name in named:
        assert f"def {name}(" in there, name


def test_references_are_whole_and_each_is_cited():
    entries = parse_file(ROOT / "book" / "references.bib").entries
    for name, entry in entries.items():
        assert {"title", "year"} < {*entry.fields}, name
        if entry.type == "article" and "Transactions" not in entry.fields["journal"][:12]:
            assert {"volume", "pages"} < {*entry.fields}, name
    assert entries["chadebec2022pythae"].fields["title"].endswith("A Benchmarking Use Case")
    cited = set()
    for path in (*PAGES, *NOTEBOOKS, *(ROOT / "repro" / "studies").glob("*.py")):
        for names in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", path.read_text()):
            cited |= set(names.split(","))
    assert cited == {*entries}
    assert {"li2016renyi", "domke2018importance", "le2019revisiting"} < cited


@pytest.mark.slow
def test_changed_results_show_in_the_next_build(html, tmp_path):
    """The pages built before are kept, and only the records change."""
    here = tmp_path / "copy"
    shutil.copytree(html.parents[1], here)
    record = here / "results" / "published" / "omniglot-lake-reference" / "iwae-M1-K64-seed0"
    metrics = record / "metrics.json"
    before = metrics.read_text()
    changed = re.sub(r'("log_px": \{\s*"value": )-[0-9.]+', r"\g<1>-77.77", before)
    metrics.write_text(changed)
    provenance = record / "provenance.json"
    old, new = (hashlib.sha256(text.encode()).hexdigest() for text in (before, changed))
    provenance.write_text(provenance.read_text().replace(old, new))
    again = build(here)
    unbroken = "−77.77\u00a0±\u00a0"  # no line ends in between
    assert unbroken in escapes.unescape((again / "omniglot.html").read_text())


# In a browser


@pytest.fixture(scope="module")
def server(html):
    """The book on this machine, as a browser likes it."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *given):
            pass

    handler = functools.partial(Quiet, directory=html)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()


def shown_in_browser(address, folder):
    """A page as it stands once its scripts have run, and what the console said."""
    words = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--no-first-run",
        f"--user-data-dir={folder}",
        "--enable-logging=stderr",
        "--virtual-time-budget=5000",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        "--dump-dom",
        address,
    ]
    done = subprocess.run([BROWSER, *words], capture_output=True, text=True, timeout=120)
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    trouble = "Error|error|Failed|Refused|blocked|NOT_RESOLVED"
    assert not [line for line in said if re.search(trouble, line)]
    return done.stdout, said


in_browser = pytest.mark.skipif(not BROWSER, reason="needs Chromium or Chrome")


@pytest.mark.slow
@in_browser
@pytest.mark.parametrize(
    "page", ["index", "background", "notebooks/table1", "notebooks/figure1", "notebooks/audit"]
)
def test_a_browser_without_a_network_shows_pages_and_complains_of_nothing(server, page, tmp_path):
    shown, said = shown_in_browser(f"{server}/{page}.html", tmp_path)
    assert said, "the console was not heard"
    assert "</html>" in shown
    if page == "background":
        assert "<mjx-container" in shown  # set in the page, by its own script


AXE = """<script src="/axe.min.js"></script><script>
window.addEventListener("load", () => setTimeout(async () => {
  const found = await axe.run(document, { resultTypes: ["violations"] });
  const told = found.violations.map((v) => `${v.id}: ${v.nodes[0].html.slice(0, 200)}`);
  document.body.dataset.axe = told.join(" ") || "nothing";
}, 1000));
</script></body>"""


@pytest.mark.slow
@in_browser
@pytest.mark.parametrize(
    "page",
    [
        "index", "explore", "lecture", "findings", "claims", "preregistered", "mnist", "methods",
        "notebooks/table1", "notebooks/figure5",
    ],
)  # fmt: skip
def test_a_page_has_no_fault_that_axe_finds(html, server, page, tmp_path):
    """axe-core's rules of accessibility: contrast, names, landmarks, headings."""
    shutil.copy(importlib.resources.files("axe_core_python") / "axe.min.js", html)
    copy = html / f"{page}-axe.html"
    copy.write_text((html / f"{page}.html").read_text().replace("</body>", AXE))
    shown, _ = shown_in_browser(f"{server}/{page}-axe.html", tmp_path)
    copy.unlink()
    (told,) = re.findall(r'data-axe="([^"]*)"', shown)
    assert told == "nothing"


NARROW = """<body><iframe width="390" height="800"></iframe><script>(async () => {
  const frame = document.querySelector("iframe");
  const wide = [];
  for (const page of PAGES) {
    await new Promise((loaded) => { frame.onload = loaded; frame.src = page; });
    await new Promise((later) => setTimeout(later, 40));
    const { scrollWidth, clientWidth } = frame.contentDocument.documentElement;
    if (clientWidth > 390 || scrollWidth > clientWidth) wide.push(page);
  }
  document.body.dataset.wide = wide.join(" ") || "nothing";
})();</script></body>"""


@pytest.mark.slow
@in_browser
def test_no_page_is_wider_than_a_telephone(html, server, tmp_path):
    """Wide tables and pictures scroll in their own place."""
    pages = [*html.glob("*.html"), *html.glob("notebooks/*.html"), *html.glob("api/*.html")]
    assert len(pages) > 60
    names = [page.relative_to(html).as_posix() for page in pages]
    (html / "narrow.html").write_text(NARROW.replace("PAGES", json.dumps(names)))
    shown, _ = shown_in_browser(f"{server}/narrow.html", tmp_path)
    (html / "narrow.html").unlink()
    (told,) = re.findall(r'data-wide="([^"]*)"', shown)
    assert told == "nothing"


MOVE = """<script>
window.addEventListener("load", () => {
  console.log("moving");
  const [M, K, offset] = document.querySelectorAll(".explorer input[type=range]");
  const estimator = document.querySelector(".explorer select");
  for (const [control, value] of MOVES) {
    control.value = value;
    control.dispatchEvent(new Event("input", { bubbles: true }));
  }
});
</script></body>"""


@pytest.mark.slow
@in_browser
@pytest.mark.parametrize(("estimator", "power"), [("rep", 8), ("rws", 8), ("rws", 0)])
def test_the_sliders_say_what_was_measured(html, server, tmp_path, estimator, power):
    """IWAE at the second offset, after the controls have moved there; one sample has no ``rws``."""
    page = (html / "explore.html").read_text()
    moves = f'[[M, 0], [K, {power}], [offset, 1], [estimator, "{estimator}"]]'
    (html / "moved.html").write_text(page.replace("</body>", MOVE.replace("MOVES", moves)))
    shown, said = shown_in_browser(f"{server}/moved.html", tmp_path)
    assert said, "the console was not heard"
    data = gradients.for_sliders(Archive(ROOT / "results"))
    theta, phi = data["theta"][1][power], data["phi"][estimator][1][power]
    of_phi = "none" if phi is None else f"{phi:.3g}"
    told = f"MIWAE(1,{2**power}): signal-to-noise ratio {theta:.3g} for θ and {of_phi} for φ"
    assert told in shown
    assert shown.count("<circle") == (3 if phi is None else 4)


@pytest.mark.slow
@in_browser
def test_claims_have_a_button_for_each_outcome_with_its_count(html, server, tmp_path):
    shown, said = shown_in_browser(f"{server}/claims.html", tmp_path)
    assert said, "the console was not heard"
    verdicts = claims.judged(Numbers(str(ROOT / "results"))).values()
    outcomes = Counter(verdict.outcome for verdict in verdicts)
    for outcome, count in outcomes.items():
        assert f">{outcome.capitalize()} ({count})</button>" in shown
    assert f">All ({outcomes.total()})</button>" in shown


@pytest.mark.slow
@in_browser
def test_the_address_of_the_sliders_says_where_they_stand(server, tmp_path):
    there = "M=0&K=0&offset=1&estimator=drep&held=false"
    shown, said = shown_in_browser(f"{server}/explore.html#{there}", tmp_path)
    assert said, "the console was not heard"
    assert "MIWAE(1,1): signal-to-noise ratio" in shown
    assert "The effective sample size of a group is" not in shown, "of one weight one counts"
    assert 'aria-valuetext="M = 1"' in shown
    assert shown.count('<button type="button"') >= 5


# The graph of work


@pytest.mark.slow
@pytest.mark.parametrize("target", [(), ("short",), ("full",)], ids=["report", "short", "full"])
def test_the_graph_of_work_is_whole(target):
    words = ("-s", "workflow/Snakefile", "-n", "--cores", "1", "--rerun-triggers", "mtime")
    run_in(ROOT, "snakemake", *target, *words)


@pytest.mark.skipif(not shutil.which("flock"), reason="needs flock")
def test_a_second_report_at_the_same_time_is_one_line(tmp_path):
    (tmp_path / "_build").mkdir()
    (tmp_path / ".venv").mkdir()
    for name in ("requirements.txt", "pyproject.toml", ".venv/.ready"):  # the set-up is done
        (tmp_path / name).touch()
    shutil.copy(ROOT / "Makefile", tmp_path)
    with subprocess.Popen(["flock", "_build/.lock", "sleep", "20"], cwd=tmp_path) as first:
        time.sleep(1)
        words = ["make", "-s", "report"]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
        first.terminate()
    assert done.returncode == 2
    assert done.stdout == "make report is at work in this folder already; wait for it\n"


def test_each_table_of_a_notebook_has_a_name_of_its_own():
    """Tables of one name would share their styles, and grey cells that hold numbers."""
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        names = re.findall(r'<table id=\\"(T_\w+)\\"', path.read_text())
        assert len(set(names)) == len(names), path.name
