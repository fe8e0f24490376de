"""Install what example servers need: ``python -m examples.install [NAME ...]``.

Without a name, for all of them. A folder says it in ``requirements.txt``, in
``requirements-no-deps.txt`` where a package's own pins are out of date, and in
``package.json``.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from .servers import SERVERS


def main(names: list[str]) -> None:
    if unknown := set(names) - SERVERS.keys():
        raise SystemExit(f"No such server: {', '.join(unknown)}. {known()}")
    folders = sorted({SERVERS[name].directory for name in names or SERVERS})
    packages = ", ".join(folder.name for folder in folders)
    print(f"Installing what these examples need, once: {packages}.", flush=True)
    pip(present(folders, "requirements.txt"))
    pip(present(folders, "requirements-no-deps.txt"), "--no-deps")
    for package in present(folders, "package.json"):
        npm(package.parent)


def known() -> str:
    return f"The servers are {', '.join(SERVERS)}."


def present(folders: Iterable[Path], name: str) -> list[Path]:
    return [folder / name for folder in folders if (folder / name).exists()]


def pip(files: list[Path], *options: str) -> None:
    """Install all the files at once, so that their requirements agree."""
    if files:
        words = [word for file in files for word in ("-r", str(file))]
        run(sys.executable, "-m", "pip", "install", "-q", *options, *words)


def npm(folder: Path) -> None:
    if shutil.which("npm") is None:
        print(f"npm is not installed, so {folder.name} cannot be run.")
        return
    options = ("--silent", "--ignore-scripts", "--no-save", "--no-package-lock")
    run("npm", "install", *options, cwd=folder)


def run(*command: str, cwd: Path | None = None) -> None:
    if status := subprocess.run(command, cwd=cwd).returncode:
        raise SystemExit(status)


if __name__ == "__main__":
    main(sys.argv[1:])
