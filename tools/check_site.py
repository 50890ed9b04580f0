"""Look at a site that was built: python tools/check_site.py FOLDER.

Every link and anchor inside leads somewhere, every picture has a text that stands for it, and no page fetches a
script, style, font or picture from elsewhere. Links to other sites are counted, not followed. The exit status is 1
where something is wrong.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROLES = ("stylesheet", "icon", "preload", "prefetch", "preconnect", "modulepreload")  # of <link>, that fetch
FETCHING = re.compile(r"""(?:url\(\s*["']?|@import\s+["'])((?:https?:)?//[^"')]+)""")


@dataclass
class Page(HTMLParser):
    """What a page refers to.

    Attributes:
        ids: Where links may lead to.
        links: Addresses of links.
        fetched: Addresses of what a browser fetches by itself.
        nameless: Sources of pictures without a text.
    """

    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    nameless: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = {name: value or "" for name, value in attrs}
        self.ids |= {known[name] for name in ("id", "name") if known.get(name)}
        if tag == "a" and "href" in known:
            self.links.append(known["href"])
        if tag == "link" and set(known.get("rel", "").split()) & set(ROLES):
            self.fetched.append(known.get("href", ""))
        if tag in ("script", "img", "iframe", "source", "video", "audio", "embed") and "src" in known:
            self.fetched.append(known["src"])
        self.fetched += FETCHING.findall(known.get("style", ""))
        if tag == "img" and not known.get("alt", "").strip():
            self.nameless.append(known.get("src", ""))

    def handle_data(self, data: str) -> None:
        self.fetched += FETCHING.findall(data) if self.cdata_elem == "style" else []


def read(file: Path) -> Page:
    """One page."""
    page = Page()
    page.feed(file.read_text(encoding="utf-8"))
    return page


def faults(root: Path, pages: dict[Path, Page]) -> Iterator[str]:
    """Everything that is wrong, one sentence each."""
    for file, page in pages.items():
        where = file.relative_to(root)
        yield from (f"{where}: the picture {source} has no text." for source in page.nameless)
        yield from (f"{where}: {each} is fetched from elsewhere." for each in page.fetched if _elsewhere(each))
        for address in [*page.links, *(each for each in page.fetched if not _elsewhere(each))]:
            yield from (f"{where}: {address} {why}." for why in _why_broken(address, file, pages))
    for style in root.rglob("*.css"):
        found = FETCHING.findall(style.read_text(encoding="utf-8"))
        yield from (f"{style.relative_to(root)}: {each} is fetched from elsewhere." for each in found)


def _elsewhere(address: str) -> bool:
    parts = urlsplit(address)
    return bool(parts.netloc) or parts.scheme in ("http", "https")


def _why_broken(address: str, file: Path, pages: dict[Path, Page]) -> Iterator[str]:
    parts = urlsplit(address)
    if parts.netloc or parts.scheme:
        return
    target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
    if not target.exists():
        yield "leads nowhere"
    elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
        yield "has an anchor that is not there"


def parser() -> argparse.ArgumentParser:
    """The words that this script takes."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("folder", type=Path)
    return words


def main() -> int:
    """Print what is wrong."""
    root = parser().parse_args().folder.resolve()
    pages = {file: read(file) for file in sorted(root.rglob("*.html"))}
    if not pages:
        print(f"{root} has no page; build the site first: python -m sphinx -W --keep-going -c docs . {root.name}")
        return 1
    wrong = [*faults(root, pages)]
    links = [link for page in pages.values() for link in page.links]
    print("\n".join(wrong) or "Nothing is wrong.")
    print(f"{len(pages)} pages, {len(links):,} links, {len({x for x in links if _elsewhere(x)})} addresses elsewhere.")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
