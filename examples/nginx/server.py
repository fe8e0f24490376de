"""nginx: ask Django with auth_request. This starts nginx, and the chat behind it."""

import asyncio
import os
import shutil
import signal
from pathlib import Path
from string import Template
from tempfile import TemporaryDirectory

import upstream

NGINX = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
MAIN = """
daemon off;
master_process off;
pid nginx.pid;
events { worker_connections 4096; }
http {
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include site.conf;
}
"""


def configure(folder):
    """Write nginx's configuration into this folder."""
    site = Template(Path("nginx.conf").read_text()).safe_substitute(
        DJANGO_URL=os.environ.get("DJANGO_URL", "http://127.0.0.1:8000"),
        ORIGIN=os.environ.get("ORIGIN", "http://127.0.0.1:8000"),
        PORT=os.environ.get("PORT", "8001"),
        SERVICE_KEY=os.environ.get(
            "SERVICE_KEY", "the-demo-listens-on-the-loopback-interface-only"
        ),
        UPSTREAM=f"{folder}/chat",
    )
    Path(folder, "site.conf").write_text(site)
    Path(folder, "nginx.conf").write_text(MAIN)


async def main():
    with TemporaryDirectory() as folder:
        configure(folder)
        async with upstream.serve(f"{folder}/chat"):
            nginx = await asyncio.create_subprocess_exec(
                *("setpriv", "--pdeathsig", "KILL"),  # it dies with this process
                *(NGINX, "-e", "stderr", "-p", folder, "-c", "nginx.conf"),
            )
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, nginx.kill)
            await nginx.wait()


if __name__ == "__main__":
    asyncio.run(main())
