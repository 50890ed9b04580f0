"""How Sphinx makes the site: python -m sphinx -W --keep-going -c docs . site.

The source folder is the root of the repository, so that a link means the same on the site as among the files.
"""

import re

from sphinx.application import Sphinx

import mer_zoo

project = "mer-zoo"
author = "The mer-zoo developers"
version = release = mer_zoo.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/index"
include_patterns = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "benchmarks/README.md",
    "docs/**",
    "mer_zoo/weights/*.md",
    "mer_zoo/synth/head.md",
]

myst_heading_anchors = 3  # as GitHub makes them
myst_all_links_external = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False
napoleon_custom_sections = ["Source"]
python_maximum_signature_line_length = 100

html_theme = "furo"
html_title = "mer-zoo"
html_static_path = ["_static"]
html_extra_path = ["_root"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_favicon = "_static/icon.svg"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False

PLAINLY = {
    r"~?numpy\.ndarray\[tuple\[~?typing\.Any, \.\.\.\], ~?numpy\.dtype\[~?numpy\.(\w+)\]\]": r"NDArray[\1]",
    r"[\w.~]*_Buffer \| .*?_NestedSequence\[complex \| bytes \| str\]": "ArrayLike",
    r"<factory>": "...",
    r"<function (\w+)>": r"\1",
}


def _plainly(_app: object, _what: str, _name: str, _object: object, _options: object, *parts: str | None) -> object:
    """A signature and what it returns, types of arrays and defaults as they stand in the source."""
    for long, short in PLAINLY.items():
        parts = tuple(part and re.sub(long, short, part) for part in parts)
    return parts


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-signature", _plainly)
