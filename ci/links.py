"""Checks links: of the HTML pages below a folder, and of the Markdown files at the top of another.

    python3 ci/links.py BOOK REPOSITORY

A link to a file must find the file, and one with a fragment its heading. Links to other sites are not
followed, because the checks have to work without a network.
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The ids of an HTML page, and what it links to."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links = set(), []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if "id" in attributes:
            self.ids.add(attributes["id"])
        link = attributes.get({"a": "href", "img": "src"}.get(tag, ""))
        if link:
            self.links.append(link)


class Markdown:
    """The headings of a Markdown file, as fragments, and what it links to."""

    def __init__(self, path):
        # Code is no prose: a `[x](y)` in it is no link.
        text = re.sub(r"```.*?```|`[^`\n]*`", lambda code: code[0].replace("](", "] ("), path.read_text(), flags=re.S)
        self.links = re.findall(r"\]\(([^()\s]+)\)", text)
        headings = re.findall(r"^#+ +(.*?) *$", text, re.M)
        self.ids = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def main():
    book, repository = map(Path, sys.argv[1:])
    pages = {path.resolve(): Page(path) for path in book.rglob("*.html")}
    # print.html repeats all chapters in one page, and 404.html may be shown anywhere.
    checked = [path for path in pages if path.name not in ("print.html", "404.html", "toc.html")]
    texts = {path.resolve(): Markdown(path) for path in repository.glob("*.md")}
    pages.update(texts)
    checked += texts
    broken = n_links = 0
    for path in sorted(checked):
        for link in pages[path].links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            n_links += 1
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            page = pages.get(target)
            if not target.exists() or (parts.fragment and page and unquote(parts.fragment) not in page.ids):
                print(f"links: {path.name}: {link} leads nowhere")
                broken += 1
    print(f"links: {n_links} links in {len(checked)} files, {broken} broken")
    # A check that finds nothing to check has failed.
    sys.exit(1 if broken or n_links < 50 else 0)


main()
