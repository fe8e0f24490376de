"""A proxy asks Django: ``python server.py nginx``, or ``caddy``, or ``haproxy``.

This starts the proxy, and the chat behind it.
"""

import asyncio
import os
import shutil
import signal
import sys
from pathlib import Path
from string import Template
from tempfile import TemporaryDirectory

import upstream

COMMANDS = {
    "nginx": ("nginx", "-e", "stderr", "-p", ".", "-c", "main.conf"),
    "caddy": ("caddy", "run", "--adapter", "caddyfile", "--config", "Caddyfile"),
    "haproxy": ("haproxy", "-db", "-f", "haproxy.cfg"),
}
FILES = ("nginx.conf", "Caddyfile", "haproxy.cfg", "authorize.lua")
NGINX = """
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
    include nginx.conf;
}
"""


def configure(folder):
    """Write the configuration into this folder."""
    values = {
        "DJANGO_URL": os.environ.get("DJANGO_URL", "http://127.0.0.1:8000"),
        "ORIGIN": os.environ.get("ORIGIN", "http://127.0.0.1:8000"),
        "PORT": os.environ.get("PORT", "8001"),
        "SERVICE_KEY": os.environ.get(
            "SERVICE_KEY", "the-demo-listens-on-the-loopback-interface-only"
        ),
        "UPSTREAM": f"{folder}/chat",
    }
    for name in FILES:
        text = Template(Path(name).read_text()).safe_substitute(values)
        Path(folder, name).write_text(text)
    Path(folder, "main.conf").write_text(NGINX)


async def main(proxy):
    program, *options = COMMANDS[proxy]
    path = shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin")
    with TemporaryDirectory() as folder:
        configure(folder)
        async with upstream.serve(f"{folder}/chat"):
            process = await asyncio.create_subprocess_exec(
                *("setpriv", "--pdeathsig", "KILL"),  # it dies with this process
                *(path, *options),
                cwd=folder,
                env=os.environ | {"XDG_CONFIG_HOME": folder, "XDG_DATA_HOME": folder},
            )
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, process.kill)
            await process.wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
