"""How Sphinx builds the site: ``python -m sphinx -W -b html docs docs/_build``."""

import gpuprop

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
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "gallery", "sg_execution_times.rst"]
nitpicky = True  # a name that leads nowhere is a warning, and a warning ends the build

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3

autosummary_generate = True
numpydoc_show_class_members = False

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
html_static_path = ["_static"]
html_css_files = ["gallery.css"]
