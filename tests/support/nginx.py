"""A real nginx in front of an address, in a process of its own.

async with nginx(address, folder) as front:
    code, body = await curl(front + target)
"""

import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from tests.conftest import missing
from tests.support.served import Running, free_port, running_program

# What the README asks for; and what nginx 1.22 (Debian 12) does where nobody asks for anything: it
# speaks HTTP/1.0 to its upstream, and buffers.
RECOMMENDED = """\
proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;"""
DEFAULTS = ""

_CONFIG = """\
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr notice;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
{site}
}}
"""

_SITE = """\
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass {upstream};
      {directives}
    }}
  }}
"""


@contextlib.asynccontextmanager
async def nginx(
    upstream: str, folder: Path, *, directives: str = RECOMMENDED
) -> AsyncIterator[str]:
    """Run nginx in front of `upstream` (`http://host:port`), and give its address.

    `folder` takes its files; `directives` stand in the `location`.
    """
    port = free_port()
    site = _SITE.format(port=port, upstream=upstream, directives=directives)
    async with running_nginx(site, folder):
        yield f"http://127.0.0.1:{port}"


@contextlib.asynccontextmanager
async def running_nginx(site: str, folder: Path) -> AsyncIterator[Running]:
    """Run nginx with what stands in its `http { }`; `folder` takes its files."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        missing("nginx")
        raise AssertionError  # `missing` has ended the test
    config = folder / "nginx.conf"
    config.write_text(_CONFIG.format(folder=folder, site=site))
    command = (program, "-p", str(folder), "-c", str(config), "-e", "stderr")
    async with running_program(*command) as run:
        await run.until_said("getrlimit")  # its first words behind the bind
        yield run
