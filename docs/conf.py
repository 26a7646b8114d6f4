"""How Sphinx builds the site: ``python -m sphinx -W -b html docs docs/_build``."""

import sys
from pathlib import Path

from docutils import nodes
from sphinx.domains.python import PyXRefRole

import gpuprop

HERE = Path(__file__).parent
sys.path.append(str(HERE / "pictures"))
import rooms  # noqa: E402

rooms.draw(HERE / "images" / "rooms.svg")

project = "gpuprop"
author = "The gpuprop developers"
copyright = author
version = release = gpuprop.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "gallery", "sg_execution_times.rst"]
nitpicky = True  # a name that leads nowhere is a warning, and a warning ends the build

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3

templates_path = ["_templates"]
autosummary_generate = True
autodoc_typehints = "none"  # the docstrings say it in words
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
# Every public name has a docstring, with all parameters, and none that is not there, and what is returned.
numpydoc_validation_checks = {"GL07", "GL08", "PR01", "PR02", "RT01", "RT03", "SS03"}
numpydoc_validation_exclude = {r"\.(Groups)?State$"}  # their constructors are private
default_role = "name"

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "auto_gallery",
    "filename_pattern": r"\.py$",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "capture_repr": (),  # what is printed, not what the last line is
    "write_computation_times": False,
    "within_subsection_order": "FileNameSortKey",  # the article first
    "image_srcset": ["2x"],  # sharp on fine screens
    "reference_url": {"gpuprop": None},  # names in the code lead to their pages
}

html_theme = "pydata_sphinx_theme"
html_title = "gpuprop"
html_show_sourcelink = False
html_theme_options = {
    "header_links_before_dropdown": 5,
    # Wide tables take the place of the list of sections.
    "secondary_sidebar_items": {"**": ["page-toc"], "performance": [], "coming_from/index": []},
}
#: These have no pages below them to list.
ALONE = """
index start devices gpu distributed dlpack comparison performance same_numbers design changelog contributing
"""
html_sidebars = {page: [] for page in ALONE.split()}
html_static_path = ["_static"]
html_css_files = ["gpuprop.css", "gallery.css"]
smartquotes = False  # names in quotation marks are copied


class Name(PyXRefRole):
    """What a docstring writes as `name`: a link where it is public, and else code, as arguments are."""

    def run(self):
        first = self.text.removeprefix("gpuprop.").partition(".")[0]
        if first in gpuprop.__all__:
            self.name = "py:obj"
            return super().run()
        return [nodes.literal(self.rawtext, self.text)], []


def setup(app):
    app.add_role("name", Name())
