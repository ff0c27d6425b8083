"""Write what the code knows best: `python docs/generate.py` makes the pages of `PAGES`.

    errors.md           out of the classes in `proxy/errors.py`
    configuration.md    out of `config.toml`, which a test holds against the keys that there are
    cli.md              out of what the commands say of themselves
    metrics.md          out of `proxy/metrics.py`
    http.md             tables out of the OpenAPI document, between the comments that say so

A test compares each file with what is made here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from proxy import errors, openapi
from proxy.cli import main
from proxy.errors import ProxyError
from proxy.metrics import FAMILIES
from proxy.routes import OWN_PATHS

FOLDER = Path(__file__).parent
CONFIG = FOLDER.parent / "config.toml"
CLI_COLUMNS = 88  # what a code block shows without a scroll bar
_CODE = re.compile(
    r"\w+ = (?:\{.*\}|\w+)"  # key = value
    r"|\b(?:server|upstream|limits|memory|security|log|extract)\.[a-z_]+"
    r'|"[^" ]*"|\[\[\w+\]\]|\{\w+\}|<\w+>|\bREMUXD_\w+'
)

ERRORS_HEAD = """\
# Errors

Made by `docs/generate.py` out of `proxy/errors.py`: the only list of codes.

Until the first fragment of a stream is in hand a failure is a status with an
[RFC 9457](https://www.rfc-editor.org/rfc/rfc9457) body (`application/problem+json`):

```json
{"type": "about:blank", "title": "Bad Gateway", "status": 502,
 "detail": "A segment of the source has more bytes than the proxy reads.",
 "code": "segment_too_large", "stream": "8c1f..."}
```

`code` is for programs and does not change.  `detail` is the text below, or one that says more
(which parameter, which line, which codec); it never holds an address.  `stream` is the X-Stream-Id,
which the log has too.  `plain_file` has a member `file`: the address of the MP4, without its query.
503 and 429 carry Retry-After where waiting helps.

Behind the first byte there is no status any more: the connection is cut, and the log line of the
stream has the code as its `outcome`.  The outcomes `complete`, `client_gone`, `client_idle`,
`head`, `inspected` and `shutdown` are no errors.

`GET /streams/{id}` with that id says more: whose matter it was, what was seen, and what can be
done.  There, a stream whose process died has the outcome `worker_died`.

In Python a class is also what it is indented under: `except SourceTooLarge` catches
`PlaylistTooLarge`.

"""


CONFIGURATION_HEAD = """\
# Configuration

Made by `docs/generate.py` out of `config.toml`, which has the same as a file to start from.

`remuxd serve --config config.toml` reads a file, and `REMUXD_CONFIG` names one for everything else
(the other commands, the ASGI factory). The environment overrides the file, by the name that stands
below each key; lists are JSON or separated by commas, tables are JSON. Unknown keys and bad values
stop the start with exit code 78 and a message that names the key, and never a value.

`serve` starts only when it has been told whom it may fetch from: {whom}.
"""

CLI_HEAD = """\
# Command line

Made by `docs/generate.py` out of what the commands say of themselves. `python -m proxy` is the same
as `remuxd`.

What goes wrong is one line on stderr and an exit code:

| exit code | |
|---|---|
| 0 | done; `serve`: ended by SIGTERM or Ctrl-C |
| 1 | the source failed, or the file could not be written |
| 2 | a wrong command line |
| 3 | `serve` with several workers: none of them could start |
| 78 | a bad configuration |
| 130 | Ctrl-C, of all but `serve` |

"""


METRICS_HEAD = """\
# Metrics

Made by `docs/generate.py` out of `proxy/metrics.py`: the only list of names.

`GET /metrics` answers in the text format of Prometheus.  Like `/healthz` it is open to whoever can
reach the server: there are no addresses, clients or ids in it.  With `server.workers` whichever
process answers tells of all of them together (figures of the others are up to a second old), and
no counter falls when a worker dies.  Under an ASGI server with several workers each tells of
itself alone.  `deploy/grafana.json` is a dashboard of them.

"""


def errors_page() -> str:
    """Return the whole of `errors.md`."""
    lines = ["| class | status | code | text |", "|---|---|---|---|"]
    for depth, kind in _family(ProxyError, 0):
        name = "&emsp;" * depth + f"`{kind.__name__}`"
        lines.append(f"| {name} | {kind.status} | `{kind.code}` | {kind.public} |")
    return ERRORS_HEAD + "\n".join(lines) + "\n"


def _family(kind: type[ProxyError], depth: int) -> Iterator[tuple[int, type[ProxyError]]]:
    """A class and all below it, in the order of `errors.py`; kinds made elsewhere have no row."""
    yield max(depth - 1, 0), kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from _family(child, depth + 1)


def configuration_page() -> str:
    """Return the whole of `configuration.md`: a heading for each key, and what its comment says."""
    head, *paragraphs = CONFIG.read_text().split("\n\n")
    whom = head.replace("\n# ", " ").rpartition("whom it may fetch from: ")[2].strip().rstrip(".")
    page = [CONFIGURATION_HEAD.format(whom=_marked(whom))]
    for paragraph in paragraphs:
        page += _section(paragraph.strip().splitlines())
    return "\n".join(page).rstrip() + "\n"


def _section(lines: list[str]) -> Iterator[str]:
    """One section.  One that is commented out, as an example, is read without its first `#`."""
    title = next((at for at, line in enumerate(lines) if re.match(r"(# )?\[+\w+\]+$", line)), None)
    if title is None:
        yield _prose(lines)
        return
    example = lines[title].startswith("#")
    name = lines[title].strip("# []")
    yield f"## [[{name}]]\n" if example else f"## [{name}]\n"
    if title:
        yield _prose(lines[:title])
    comment: list[str] = []
    for line in lines[title + 1 :]:
        text = line.removeprefix("# ") if example else line
        if text.startswith("#"):
            comment.append(text)
            continue
        key, _, value = text.partition(" = ")
        yield f"### {name}.{key}\n"
        said = "for example" if example else "default"
        variable = "" if example else f" · `REMUXD_{name.upper()}__{key.upper()}`"
        yield f"{said} `{value}`{variable}\n"
        yield _prose(comment)
        comment = []


def _prose(comment: list[str]) -> str:
    """Comment lines as a paragraph, two spaces behind a full stop made one."""
    words = " ".join(line.removeprefix("#").strip() for line in comment).strip()
    return _marked(re.sub(r"(?<=[.:;])  ", " ", words)) + "\n"


def _marked(text: str) -> str:
    """Mark as code what reads as code, or would be taken for Markdown or HTML."""
    parts = re.split(r"(`[^`]*`)", text)  # what is marked already stays
    return "".join(p if p.startswith("`") else _CODE.sub(r"`\g<0>`", p) for p in parts)


def cli_page() -> str:
    """Return the whole of `cli.md`."""
    assert isinstance(main, click.Group)
    commands = {"remuxd": main, **{f"remuxd {name}": one for name, one in main.commands.items()}}
    return CLI_HEAD + "\n".join(_command(name, one) for name, one in commands.items())


def _command(name: str, command: click.Command) -> str:
    width = {"terminal_width": CLI_COLUMNS, "max_content_width": CLI_COLUMNS}
    with click.Context(command, info_name=name, **width) as context:  # type: ignore[arg-type]
        return f"## {name}\n\n```text\n{command.get_help(context)}\n```\n"


def metrics_table() -> str:
    """Return the whole of `metrics.md`."""
    lines = ["| metric | kind | labels | meaning |", "|---|---|---|---|"]
    for family in FAMILIES:
        labels = ", ".join(f"`{label}`" for label in family.labels)
        lines.append(f"| `{family.exposed}` | {family.kind} | {labels} | {family.help} |")
    return METRICS_HEAD + "\n".join(lines) + "\n"


def http_page() -> str:
    """Return `http.md` with its tables made anew."""
    whole = openapi.document(base="", paths=OWN_PATHS)
    parts = whole["components"]
    tables = {
        "paths": _table("request", _paths(whole["paths"])),
        "parameters": _table("parameter", _described(parts["parameters"])),
        "headers": _table("header", _described(parts["headers"])),
    }
    page = (FOLDER / "http.md").read_text()
    for name, table in tables.items():
        begin, end = f"<!-- made: {name} -->", "<!-- up to here -->"
        head, _, rest = page.partition(begin)
        page = f"{head}{begin}\n\n{table}\n{end}{rest.partition(end)[2]}"
    return page


def _table(title: str, rows: Iterator[tuple[str, str]]) -> str:
    lines = [f"| {title} | |", "|---|---|", *(f"| `{name}` | {text} |" for name, text in rows)]
    return "\n".join(lines) + "\n"


def _paths(paths: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for path, methods in paths.items():
        for method, operation in methods.items():
            if method != "head":  # as GET
                operator = " Only with the operator's token." if "security" in operation else ""
                yield f"{method.upper()} {path}", f"{operation['summary']}{operator}"


def _described(components: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, one in components.items():
        yield name, f"{one.get('description', '')}{_values(one['schema'])}".strip()


def _values(schema: Mapping[str, Any]) -> str:
    """What a value may be, where it is one of a few, and what it is where nothing is said."""
    few = [schema["const"]] if "const" in schema else schema.get("enum", ())
    said = f" {' or '.join(f'`{one}`' for one in few)}." if few else ""
    return said + (f" Default: `{schema['default']}`." if "default" in schema else "")


PAGES: Mapping[str, Callable[[], str]] = {
    "errors.md": errors_page,
    "configuration.md": configuration_page,
    "cli.md": cli_page,
    "metrics.md": metrics_table,
    "http.md": http_page,
}

if __name__ == "__main__":
    for file, page in PAGES.items():
        (FOLDER / file).write_text(page())
