"""The book builds without a warning from the committed notebooks, needs no network, and the graph of work is whole."""

import functools
import hashlib
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from html import unescape as html_unescape
from pathlib import Path

import pytest
import yaml

from repro import records, tables
from repro.claims import Numbers
from repro.experiments import EXHIBITS

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
ENV = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    """The book, built in a copy of what is committed, as `jupyter-book build book/`, warnings being errors."""
    here = tmp_path_factory.mktemp("copy")
    for name in ("book", "notebooks", "results"):
        shutil.copytree(ROOT / name, here / name, ignore=shutil.ignore_patterns("smoke", "unfinished-*", "*.safetensors"))
    shutil.rmtree(here / "book" / "notebooks", ignore_errors=True)
    shutil.copy(ROOT / "_config.yml", here)
    (here / "_build" / "notebooks" / "smoke").mkdir(parents=True)  # as `make report` leaves them
    for name in ("table1", "train"):
        shutil.copy(ROOT / "notebooks" / f"{name}.ipynb", here / "_build" / "notebooks" / "smoke")
    done = subprocess.run([BIN / "jupyter-book", "build", "book/", "-W", "--keep-going"], cwd=here, env=ENV, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return here / "_build" / "html"


@pytest.mark.slow
def test_every_page_of_the_contents_is_there(html):
    contents = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    chapters = [c for part in contents["parts"] for c in part["chapters"]]
    pages = [contents["root"], *(c["file"] for chapter in chapters for c in (chapter, *chapter.get("sections", ())))]
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
            file, _, anchor = html_unescape(address).partition("#")
            target = (page.parent / file.split("?")[0]).resolve() if file else page
            assert target.exists(), f"{page.name}: {address}"
            assert not anchor or target not in named or anchor in named[target], f"{page.name}: {address}"


@pytest.mark.slow
def test_figures_have_the_reports_numbers_a_caption_and_their_origin(html):
    for number in range(1, 8):
        text = (html / "notebooks" / f"figure{number}.html").read_text()
        assert re.search(rf'<figure[^>]* id="fig-{number}">', text)
        assert f'<span class="caption-number">Figure {number} </span>' in text
        for used in (records.shown(f"figure{number}")[0], records.released_in(f"figure{number}")):
            assert not used or tables.origin(used, None) in text
        assert f'href="../notebooks/figure{number}.ipynb"' in text


@pytest.mark.slow
def test_prose_has_its_numbers_from_the_records(html):
    n = Numbers(str(ROOT / "results"))
    assert n.value("mnist reference", "iwae", "iwae_64") in (html / "mnist.html").read_text()
    assert n.difference("omniglot reference", "miwae", "iwae", "iwae_64") in (html / "index.html").read_text()
    for page in html.glob("*.html"):
        assert "{{" not in page.read_text(), page.name


def test_no_result_is_typed_by_hand_into_the_book():
    """Numbers with two decimals or more are results; in prose they stand only inside {{ }}, that is, come from records."""
    for page in (ROOT / "book").glob("*.md"):
        prose = re.sub(r"\{\{.*?\}\}|```.*?```|`[^`]*`|\$[^$]*\$|Python 3[.]\d+[.]\d+", "", page.read_text(), flags=re.S)
        assert not re.findall(r"[-−]?\d+\.\d{2,}", prose), page.name
        assert not re.findall(r"\d\s*±|±\s*\d", prose), page.name


def test_the_tests_that_the_book_names_exist():
    there = "".join(p.read_text() for p in (ROOT / "tests").glob("*.py"))
    named = {name for page in (ROOT / "book").glob("*.md") for name in re.findall(r"`(test_\w+)`", page.read_text())}
    assert named
    assert all(f"def {name}(" in there for name in named)


def test_no_result_is_typed_by_hand_into_a_notebook():
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        text = "\n".join("".join(c["source"]) for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "markdown")
        assert not re.findall(r"[-−]?\d+\.\d{2,}", re.sub(r"\$[^$]*\$", "", text)), path.name


@pytest.mark.slow
def test_changed_results_show_in_the_next_build(html, tmp_path):
    """The pages built before are kept, and only the records change."""
    here = tmp_path / "copy"
    shutil.copytree(html.parents[1], here)
    metrics = here / "results" / "published" / "omniglot-lake-reference" / "iwae-M1-K64-seed0" / "metrics.json"
    provenance = metrics.with_name("provenance.json")
    changed = re.sub(r'("log_px": \{\s*"value": )-[0-9.]+', r"\g<1>-77.77", metrics.read_text())
    provenance.write_text(
        provenance.read_text().replace(hashlib.sha256(metrics.read_bytes()).hexdigest(), hashlib.sha256(changed.encode()).hexdigest())
    )
    metrics.write_text(changed)
    done = subprocess.run([BIN / "jupyter-book", "build", "book/", "-W", "--keep-going"], cwd=here, env=ENV, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "−77.77" in (here / "_build" / "html" / "omniglot.html").read_text()


@pytest.fixture(scope="module")
def server(html):
    """The book on this machine, as a browser likes it."""
    handler = functools.partial(type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *a: None}), directory=html)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()


@pytest.mark.slow
@pytest.mark.skipif(not BROWSER, reason="needs Chromium or Chrome")
@pytest.mark.parametrize("page", ["index", "background", "notebooks/table1", "notebooks/figure1", "notebooks/audit"])
def test_a_browser_without_a_network_shows_pages_and_complains_of_nothing(server, page, tmp_path):
    quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-first-run"]
    words = [*quiet, f"--user-data-dir={tmp_path}", "--enable-logging=stderr", "--virtual-time-budget=5000"]
    words += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--dump-dom", f"{server}/{page}.html"]
    done = subprocess.run([BROWSER, *words], capture_output=True, text=True, timeout=120)
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert said, "the console was not heard"
    assert not [line for line in said if re.search("Error|error|Failed|Refused|blocked|NOT_RESOLVED", line)]
    assert "</html>" in done.stdout
    assert page != "background" or "<math" in done.stdout  # rendered in the page, by its own script


@pytest.mark.slow
def test_table1_shows_ours_and_the_printed_numbers(html):
    text = (html / "notebooks" / "table1.html").read_text()
    for said in ("MIWAE(8,8)", "ours", "report", "paper", "−86.11 ± 0.10", "profile", "commit"):
        assert said in text


@pytest.mark.slow
def test_the_audit_shows_printed_logged_and_corrected_numbers(html):
    text = (html / "notebooks" / "audit.html").read_text()
    for said in ("30 of 30", "corrected", "not IWAE-64", "noise about 0", "confirmed", "−86.14 ± 0.23", "commit"):
        assert said in text


@pytest.mark.slow
def test_the_graph_of_work_is_whole():
    words = ["-s", "workflow/Snakefile", "-n", "--cores", "1", "--rerun-triggers", "mtime"]
    for target in ([], ["short"], ["full"]):
        done = subprocess.run([BIN / "snakemake", *target, *words], cwd=ROOT, env=ENV, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
