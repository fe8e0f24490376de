"""Configuration of Sphinx: sphinx-build -n -W -b html docs docs/_build/html"""

from __future__ import annotations

import tomllib
from pathlib import Path

_project = tomllib.loads(
    Path(__file__).parent.parent.joinpath("pyproject.toml").read_text("utf-8")
)["project"]

project = _project["name"]
author = _project["authors"][0]["name"]
copyright = author
version = release = _project["version"]

extensions = ["myst_parser", "sphinx_copybutton"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
myst_enable_extensions = ["tasklist"]
myst_enable_checkboxes = True

html_theme = "furo"
html_title = f"{project} {release}"

# Copy the commands of a console block, not its prompts and not what it printed.
copybutton_prompt_text = "$ "
copybutton_exclude = ".linenos, .gp, .go"
