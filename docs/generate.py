"""Write what the code knows best: `python docs/generate.py` makes `errors.md` and `metrics.md`.

A test compares the files with what is made here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from proxy import errors
from proxy.errors import ProxyError
from proxy.metrics import FAMILIES

ERRORS = Path(__file__).with_name("errors.md")
METRICS = Path(__file__).with_name("metrics.md")

HEAD = """\
# Errors

Made by `docs/generate.py` out of `proxy/errors.py`: the only list of codes.

Until the first fragment of a stream is in hand a failure is a status with an
[RFC 9457](https://www.rfc-editor.org/rfc/rfc9457) body (`application/problem+json`):

    {"type": "about:blank", "title": "Bad Gateway", "status": 502,
     "detail": "A segment of the source has more bytes than the proxy reads.",
     "code": "segment_too_large", "stream": "8c1f..."}

`code` is for programs and does not change.  `detail` is the text below, or one that says more
(which parameter, which line, which codec); it holds no address, but for that of the file of
`plain_file`, without its query.  `stream` is the X-Stream-Id,
which the log has too.  503 and 429 carry Retry-After where waiting helps.

Behind the first byte there is no status any more: the connection is cut, and the log line of the
stream has the code as its `outcome`.  The outcomes `complete`, `client_gone`, `client_idle`,
`head`, `inspected` and `shutdown` are no errors.

`GET /streams/{id}` with that id says more: whose matter it was, what was seen, and what can be
done.  There, a stream whose process died has the outcome `worker_died`.

In Python a class is also what it is indented under: `except SourceTooLarge` catches
`PlaylistTooLarge`.

"""


def table() -> str:
    """Return the whole of `errors.md`."""
    lines = ["| class | status | code | text |", "|---|---|---|---|"]
    for depth, kind in _family(ProxyError, 0):
        name = "&emsp;" * depth + f"`{kind.__name__}`"
        lines.append(f"| {name} | {kind.status} | `{kind.code}` | {kind.public} |")
    return HEAD + "\n".join(lines) + "\n"


def _family(kind: type[ProxyError], depth: int) -> Iterator[tuple[int, type[ProxyError]]]:
    """A class and all below it, in the order of `errors.py`; kinds made elsewhere have no row."""
    yield max(depth - 1, 0), kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from _family(child, depth + 1)


METRICS_HEAD = """\
# Metrics

Made by `docs/generate.py` out of `proxy/metrics.py`: the only list of names.

`GET /metrics` answers in the text format of Prometheus.  Like `/healthz` it is open to whoever can
reach the server: there are no addresses, clients or ids in it.  With `server.workers` whichever
process answers tells of all of them together (figures of the others are up to a second old), and
no counter falls when a worker dies.  Under an ASGI server with several workers each tells of
itself alone.  `deploy/grafana.json` is a dashboard of them.

"""


def metrics_table() -> str:
    """Return the whole of `metrics.md`."""
    lines = ["| metric | kind | labels | meaning |", "|---|---|---|---|"]
    for family in FAMILIES:
        labels = ", ".join(f"`{label}`" for label in family.labels)
        lines.append(f"| `{family.exposed}` | {family.kind} | {labels} | {family.help} |")
    return METRICS_HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    ERRORS.write_text(table())
    METRICS.write_text(metrics_table())
