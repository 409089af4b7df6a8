"""Print the book as an article, _build/report.pdf, with Chromium or Chrome. `make pdf` calls it.

The contents are those of book/_paper.yml. Code stays folded away, and claims are opened.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from repro.jupyter.sphinx_ext import link_article

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "_build" / "singlehtml" / "abstract.html"
PDF = ROOT / "_build" / "report.pdf"
WEB = ROOT / "_build" / "html"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BUILD = "jupyter-book build book/ --toc book/_paper.yml --builder singlehtml -q -W --keep-going"
PRINT = "--headless --no-sandbox --disable-gpu --virtual-time-budget=30000 --no-pdf-header-footer"


def main() -> int:
    """Build one long page, make it one for paper, and print it."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print("no Chromium or Chrome found; install one, or print _build/html from any browser")
        return 2
    shutil.rmtree(PAGE.parent, ignore_errors=True)
    subprocess.run(BUILD.split(), cwd=ROOT, check=True)
    PAGE.write_text(for_paper(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    words = [browser, *PRINT.split(), f"--print-to-pdf={PDF}", PAGE.as_uri()]
    subprocess.run(words, check=True, capture_output=True)
    if WEB.exists():
        link_article(PDF, WEB)
        PDF.touch()  # newer than the page that now links it
    print(f"the PDF is at {PDF}")
    return 0


def for_paper(page: str) -> str:
    """The page without links to files beside it, with its claims open and its code left out."""
    page = re.sub(r'<a href="\.\./[^"]*">(.*?)</a>', r"\1", page)
    page = re.sub(r'href="_images/[^"]*"', "", page)
    page = re.sub(r'<details class="([^"]*\bclaim\b)', r'<details open class="\1', page)
    return page.replace("<body ", '<body class="paper" ', 1)


if __name__ == "__main__":
    sys.exit(main())
