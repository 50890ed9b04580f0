"""A report as one page of HTML that needs nothing beside it: no network, no script, no other file."""

import base64
import html
from collections.abc import Sequence
from pathlib import Path

import markdown

from mer_zoo.errors import InputError
from mer_zoo.runs import write_text

PAGE = "report.html"
KINDS = {".svg": "image/svg+xml", ".png": "image/png"}
STYLE = """
:root { color-scheme: light; }
body { font: 1rem/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 66rem; margin: 0 auto;
  padding: 1rem 1.5rem 3rem; }
h1 { font-size: 1.5rem; line-height: 1.25; }
h2 { font-size: 1.2rem; margin-top: 2rem; }
a { color: #005a8c; }
code { font-size: 0.9em; }
li, p, figcaption { overflow-wrap: anywhere; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25rem 0.5rem; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top; }
th { border-bottom: 2px solid #6e6e6e; vertical-align: bottom; }
td[style*="right"] { white-space: nowrap; }
tbody tr:hover { background: #f2f6fa; }
figure { margin: 2rem 0; break-inside: avoid; }
img { display: block; max-width: 100%; height: auto; }
figcaption { margin-top: 0.3rem; color: #555; font-size: 0.9rem; }
.mark { position: sticky; top: 0; margin: 0; padding: 0.6rem 1rem; border: 4px solid #d55e00; background: #fff;
  color: #a34700; font-size: 1.3rem; font-weight: bold; text-align: center; }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  .mark { position: static; }
  .wide { overflow-x: visible; }
  table { font-size: 8pt; }
  th, td { padding: 0.15rem 0.35rem; }
  td[style*="right"] { white-space: normal; }
  tr { break-inside: avoid; }
}
"""


def write_page(folder: Path, title: str, text: str, figures: Sequence[Path], mark: str | None = None) -> Path:
    """Write ``report.html``: the text with its tables, then the figures, all within the one file.

    HTML in the text is shown as it is written, so that a class named ``<b>`` is.

    Args:
        folder: Where to; it is there.
        title: Of the window; the text brings its own heading.
        text: Markdown with tables.
        figures: SVG or PNG files, as ``figures.save`` returns them; of a PNG with an SVG of the same name in the list,
            only the SVG is shown. The name, with blanks for underscores, is the caption.
        mark: What readers must know, such as "chosen on test subjects": a banner that stays in view, and in the title.

    Returns:
        The file, which is written whole or not at all.

    Raises:
        InputError: If a figure is not there or neither SVG nor PNG.
    """
    drawn = [file for file in figures if file.suffix != ".png" or file.with_suffix(".svg") not in figures]
    banner = f'<p class="mark" role="note">{html.escape(mark)}</p>\n' if mark else ""
    page = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(f'{title} ({mark})' if mark else title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n{banner}<main>\n{_body(text)}\n{''.join(_figure(file, mark) for file in drawn)}</main>\n"
        "</body>\n</html>\n"
    )
    place = folder / PAGE
    write_text(place, page.encode("ascii", "xmlcharrefreplace").decode())  # right in whatever encoding it is read
    return place


def _body(text: str) -> str:
    """Markdown as HTML; tables can be scrolled where the window is narrower."""
    reader = markdown.Markdown(extensions=["tables"])
    reader.preprocessors.deregister("html_block")
    reader.inlinePatterns.deregister("html")
    body: str = reader.convert(text)
    return body.replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")


def _figure(file: Path, mark: str | None) -> str:
    if file.suffix not in KINDS or not file.is_file():
        raise InputError(f"{file} is no figure to show; expected an SVG or PNG file that is there.")
    data = base64.b64encode(file.read_bytes()).decode()
    caption = html.escape(file.stem.replace("_", " ").capitalize() + (f" ({mark})" if mark else ""))
    source = f"data:{KINDS[file.suffix]};base64,{data}"
    return f'<figure>\n<img src="{source}" alt="{caption}">\n<figcaption>{caption}</figcaption>\n</figure>\n'
