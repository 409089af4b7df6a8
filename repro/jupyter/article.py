"""Print the book as an article, ``_build/report.pdf``, with Chromium or Chrome: ``make pdf``.

Its contents are those of ``book/_paper.yml``. Code stays folded away, and claims are opened.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

BUILT = Path("_build").resolve()
BUILT_APART = BUILT / "article"  # from the web pages, which may be built at the same time
PAGE = BUILT_APART / "_build" / "singlehtml" / "abstract.html"
PDF = BUILT / "report.pdf"
WEB = BUILT / "html"
NO_ARTICLE = "a PDF by <code>make pdf</code>"  # on the first page, until there is one
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
BUILD = (
    "jupyter-book build book/ --toc book/_paper.yml --builder singlehtml -q -W --keep-going "
    "--path-output _build/article"
)
PRINT = "--headless --no-sandbox --disable-gpu --virtual-time-budget=30000 --no-pdf-header-footer"


def print_article() -> int:
    """Build one long page, make it one for paper, and print it."""
    if BROWSER is None:
        print("no Chromium or Chrome found; install one, or print _build/html from any browser")
        return 2
    shutil.rmtree(PAGE.parent, ignore_errors=True)
    subprocess.run(BUILD.split(), check=True)
    PAGE.write_text(for_paper(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    words = [BROWSER, *PRINT.split(), f"--print-to-pdf={PDF}", PAGE.as_uri()]
    subprocess.run(words, check=True, capture_output=True)
    if (WEB / "index.html").exists():
        link_article(PDF, WEB)
    print(f"the PDF is at {PDF}")
    return 0


def link_article(article: Path, pages: Path) -> None:
    """Copy the printed ``article`` beside the built ``pages``, and link it on the first of them."""
    shutil.copy(article, pages)
    first = pages / "index.html"
    link = f'<a href="{article.name}">PDF</a>'
    page = first.read_text(encoding="utf-8").replace(NO_ARTICLE, link)
    first.write_text(page, encoding="utf-8")


def for_paper(page: str) -> str:
    """The page without links to files beside it, with its claims open and its code left out."""
    page = re.sub(r'<a href="\.\./[^"]*">(.*?)</a>', r"\1", page)
    page = re.sub(r'href="_images/[^"]*"', "", page)
    page = re.sub(r'<details class="([^"]*\bclaim\b)', r'<details open class="\1', page)
    return page.replace("<body ", '<body class="paper" ', 1)


if __name__ == "__main__":
    sys.exit(print_article())
