"""How the docs are built: every code cell is run, every warning is an error, nothing is fetched from elsewhere."""

from pathlib import Path

import residscope

HERE = Path(__file__).parent
(HERE / "_made").mkdir(exist_ok=True)

project = "Residscope"
author = "The Residscope developers"
copyright = f"2026, {author}"  # Sphinx's name
release = residscope.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "_made"]
html_theme = "furo"
html_title = "Residscope"
html_extra_path = ["_made"]  # pages that code cells save
html_copy_source = False
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 600  # of a cell; the first imports torch, for minutes where the machine is busy
nb_ipywidgets_js: dict[str, str] = {}  # would fetch from elsewhere
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_custom_sections = ["Holds", "Source", "Yields"]
napoleon_google_docstring = True
suppress_warnings = ["mystnb.unknown_mime_type"]
