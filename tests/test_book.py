"""The book builds without a warning from the committed notebooks, needs no network, and the graph of work is whole."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
ENV = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    """The book, built in a copy of what is committed, as `jupyter-book build book/`, warnings being errors."""
    here = tmp_path_factory.mktemp("copy")
    for name in ("book", "notebooks", "results"):
        shutil.copytree(ROOT / name, here / name, ignore=shutil.ignore_patterns("smoke", "unfinished-*", "*.safetensors"))
    shutil.rmtree(here / "book" / "notebooks", ignore_errors=True)
    shutil.copy(ROOT / "_config.yml", here)
    done = subprocess.run([BIN / "jupyter-book", "build", "book/", "-W", "--keep-going"], cwd=here, env=ENV, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return here / "_build" / "html"


@pytest.mark.slow
def test_every_page_of_the_contents_is_there(html):
    contents = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    pages = [contents["root"], *(c["file"] for part in contents["parts"] for c in part["chapters"])]
    for page in pages:
        assert (html / f"{page}.html").is_file(), page


@pytest.mark.slow
def test_pages_ask_nothing_of_the_network_and_their_own_files_are_there(html):
    for page in (p for p in html.rglob("*.html") if "_static" not in p.parts):
        text = page.read_text()
        wanted = re.findall(r'<(?:script|img|link)[^>]+(?:src|href)="([^"#?]+)', text)
        assert wanted
        for address in wanted:
            assert not address.startswith(("http:", "https:", "//")), f"{page.name} loads {address}"
            assert address.startswith("data:") or (page.parent / address).exists(), f"{page.name} lacks {address}"


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
