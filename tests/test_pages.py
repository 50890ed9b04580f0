"""The page of a report: whole, balanced, escaped, with everything in it."""

import base64
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from mer_zoo import pages
from mer_zoo.errors import InputError

MARK = 'chosen on "test" subjects & <others>'
TEXT = """# casme2-5: UF1 0.512

Of model `off_apexnet_x`, which is off_apexnet_x; é ≥ ß.

- Note: a < b & c <script>alert(1)</script>

<div onclick="alert(2)">block</div>

| class     | clips |    F1 |
|-----------|------:|------:|
| <b>joy</b> |    12 | 0.500 |
| R&D       |     3 | 0.250 |
"""
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"><text id="text_1">é &lt; ß</text></svg>'
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Reader(HTMLParser):
    """Elements, their attributes and text; complains of what is not closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture
def figures(tmp_path: Path) -> list[Path]:
    """As ``figures.save`` would return them, and a PNG alone."""
    files = [tmp_path / name for name in ("confusion_matrix.png", "confusion_matrix.svg", "a & b.png")]
    for file in files:
        if file.suffix == ".svg":
            file.write_text(SVG)
        else:
            Image.new("RGB", (4, 4)).save(file)
    return files


def _read(file: Path) -> Reader:
    return Reader(file.read_text())


def test_a_page_is_balanced_and_brings_all_that_it_needs(tmp_path: Path, figures: list[Path]) -> None:
    file = pages.write_page(tmp_path, "casme2-5 <x>", TEXT, figures, MARK)
    assert file == tmp_path / "report.html"
    page = _read(file)
    assert page.all("html") == [{"lang": "en"}]
    assert {"charset": "utf-8"} in page.all("meta")
    assert not page.all("script")
    assert not page.all("link")
    assert all((image["src"] or "").startswith("data:") for image in page.all("img"))
    assert "url(" not in file.read_text()


def test_text_and_names_are_shown_as_they_are_written(tmp_path: Path) -> None:
    page = _read(pages.write_page(tmp_path, "casme2-5 <x>", TEXT, []))
    for written in ("casme2-5 <x>", "a < b & c <script>alert(1)</script>", "<b>joy</b>", "R&D", "é ≥ ß"):
        assert written in page.text
    assert '<div onclick="alert(2)">block</div>' in page.text
    assert not page.all("b")
    assert not any("onclick" in attributes for _, attributes in page.found)
    assert "which is off_apexnet_x" in page.text  # underscores within words are no emphasis
    assert [len(page.all(tag)) for tag in ("h1", "li", "code", "em")] == [1, 1, 1, 0]


def test_numbers_of_tables_stand_to_the_right(tmp_path: Path) -> None:
    page = _read(pages.write_page(tmp_path, "t", TEXT, []))
    sides = [(cell.get("style") or "").replace(" ", "") for cell in page.all("td")]
    assert sides == ["", "text-align:right;", "text-align:right;"] * 2


def test_figures_are_within_each_once_with_its_name(tmp_path: Path, figures: list[Path]) -> None:
    page = _read(pages.write_page(tmp_path, "t", TEXT, figures))
    assert [image["alt"] for image in page.all("img")] == ["Confusion matrix", "A & b"]
    sources = [(image["src"] or "").partition(",") for image in page.all("img")]
    assert [kind for kind, _, _ in sources] == ["data:image/svg+xml;base64", "data:image/png;base64"]
    assert [base64.b64decode(data) for _, _, data in sources] == [figures[1].read_bytes(), figures[2].read_bytes()]
    assert len(page.all("figcaption")) == 2


def test_the_mark_is_a_banner_in_the_title_and_at_each_figure(tmp_path: Path, figures: list[Path]) -> None:
    marked = _read(pages.write_page(tmp_path, "casme2-5", TEXT, figures, MARK))
    assert f"casme2-5 ({MARK})" in marked.text
    assert marked.text.count(MARK) == 2 + 2  # title, banner, two figures
    assert [image["alt"] for image in marked.all("img")] == [f"Confusion matrix ({MARK})", f"A & b ({MARK})"]
    assert [part["class"] for part in marked.all("p") if "class" in part] == ["mark"]
    plain = _read(pages.write_page(tmp_path, "casme2-5", TEXT, figures))
    assert not any("class" in part for part in plain.all("p"))


def test_a_page_reads_the_same_in_any_encoding(tmp_path: Path) -> None:
    file = pages.write_page(tmp_path, "é", TEXT + "\n日本語 😀\n", [], "ß")
    assert "日本語 😀" in Reader(file.read_bytes().decode("ascii")).text


def test_a_page_without_text_or_figures_is_a_page(tmp_path: Path) -> None:
    assert _read(pages.write_page(tmp_path, "t", "", [])).text.split() == ["t"]


@pytest.mark.parametrize("name", ["gone.svg", "notes.txt"])
def test_what_is_no_figure_is_refused_and_the_page_stays(name: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    before = pages.write_page(tmp_path, "t", TEXT, []).read_bytes()
    with pytest.raises(InputError, match=f"{name} is no figure to show"):
        pages.write_page(tmp_path, "other", TEXT, [tmp_path / name])
    assert (tmp_path / "report.html").read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["notes.txt", "report.html"]
