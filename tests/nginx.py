"""nginx with a site from the documentation, without root and with its files apart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import servers
from tests.processes import listens

CONFIGURATION = """
daemon off;
master_process off;
pid nginx.pid;
error_log stderr crit;
events {}
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
"""


@contextmanager
def nginx(folder: Path, site: str, port: int) -> Iterator[None]:
    """Run it in this folder, from when it listens until the block ends."""
    (folder / "nginx.conf").write_text(f"{CONFIGURATION}{site}}}\n")
    words = ["-e", "stderr", "-p", str(folder), "-c", "nginx.conf"]
    process = servers.run(
        [servers.find("nginx"), *words], folder, ready=lambda: listens(port)
    )
    try:
        yield
    finally:
        servers.stop(process)
