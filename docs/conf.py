"""Configuration of Sphinx: sphinx-build -n -W -b html docs docs/_build/html"""

from __future__ import annotations

import tomllib
from pathlib import Path

import django
from django.conf import settings

_project = tomllib.loads(
    Path(__file__).parent.parent.joinpath("pyproject.toml").read_text("utf-8")
)["project"]

project = _project["name"]
author = _project["authors"][0]["name"]
copyright = author
version = release = _project["version"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
myst_enable_extensions = ["tasklist"]
myst_enable_checkboxes = True

# For autodoc, which imports the package, and with it Django's models.
settings.configure(
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"]
)
django.setup()
add_module_names = False
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_type_aliases = {"Application": "Application"}
maximum_signature_line_length = 100
python_display_short_literal_types = True
# Names of Python and Django are not links: no build asks another site for them.
nitpick_ignore_regex = [("py:.*", r"(?!realtime_ticket\.).*")]

html_theme = "furo"
html_title = f"{project} {release}"

# Copy the commands of a console block, not its prompts and not what it printed.
copybutton_prompt_text = "$ "
copybutton_exclude = ".linenos, .gp, .go"
