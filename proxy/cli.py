"""The command `remuxd`: serve, save, inspect, sign, healthcheck, demo.

What goes wrong is one line on stderr and an exit code, never a traceback: 1 for a source that
failed, 2 for a wrong command line, 78 for a bad configuration, 130 for Ctrl-C.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any, NoReturn, ParamSpec
from urllib.parse import quote

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from proxy import __version__, health, query, serving, wiring
from proxy.config import EXIT_CONFIG, Config, ConfigError
from proxy.errors import Forbidden, ProxyError, StreamAborted
from proxy.guard import signing
from proxy.routes import Routes
from proxy.saving import Position, Target

__all__ = ["main"]

EXIT_SOURCE = 1
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it

_P = ParamSpec("_P")


def _fail(message: str, code: int) -> NoReturn:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(message, style="red", markup=False)
    sys.exit(code)


def _friendly(command: Callable[_P, None]) -> Callable[_P, None]:
    """Turn what may go wrong into one line and an exit code."""

    @functools.wraps(command)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except ConfigError as error:
            _fail(f"remuxd: {error}", EXIT_CONFIG)
        except StreamAborted as aborted:
            _fail(f"the stream broke: {_told(aborted.cause)}", EXIT_SOURCE)
        except ProxyError as error:
            _fail(_told(error), EXIT_SOURCE)
        except BrokenPipeError:  # whoever read our output has enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(EXIT_SOURCE)
        except OSError as error:
            _fail(f"remuxd: {error}", EXIT_SOURCE)
        except KeyboardInterrupt:
            sys.exit(EXIT_INTERRUPTED)

    return run


def _told(error: ProxyError) -> str:
    reason = "" if str(error) in {"", error.detail} else f" ({error})"
    own = isinstance(error, Forbidden) and error.rule == "address"
    remedy = " For sources of your own network: --allow-private-addresses" if own else ""
    return f"{error.code}: {error.detail}{reason}{remedy}"


def _source_options(command: Callable[_P, None]) -> Callable[_P, None]:
    """The options that say what of a source is meant."""
    options = (
        click.argument("url"),
        click.option("--quality", default="best", show_default=True,
                     help="best, worst, audio, or a limit such as 720p or 2500k (kbit/s)."),
        click.option("--audio", metavar="LANGUAGE", help="Language or name of an audio track."),
        click.option("--config", "file", metavar="FILE",
                     help="TOML, for [upstream]; default: what REMUXD_CONFIG names."),
        click.option("--allow-private-addresses", is_flag=True,
                     help="Fetch from loopback and private addresses, too."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="remuxd")
def main() -> None:
    """HLS in, one continuous fragmented MP4 out, while it is still downloading."""


@main.command()
@click.option("--config", "file", metavar="FILE", help="TOML; default: what REMUXD_CONFIG names.")
@click.option("--host", help="Where to listen; instead of server.host.")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Instead of server.port; 0: a free one."
)
@_friendly
def serve(file: str | None, host: str | None, port: int | None) -> None:
    """Answer GET /stream?url=... over HTTP.

    Every setting is in config.toml, or in the environment as REMUXD_<SECTION>__<KEY>.  SIGTERM
    refuses new streams and ends when the running ones have ended, or after server.drain_s; a
    second one, or Ctrl-C, ends now.
    """
    serving.serve(wiring.load(file, host=host, port=port))


@main.command()
@_source_options
@click.option("--start", "start_s", type=float, metavar="SECONDS", help="Negative: from the end.")
@click.option("--end", "end_s", type=float, metavar="SECONDS")
@click.option("--on-gap", type=click.Choice(["abort", "skip"]), default="abort", show_default=True,
              help="What to do without a segment that cannot be had.")  # fmt: skip
@click.option("--on-splice", type=click.Choice(["abort", "skip"]), default="abort",
              show_default=True, help="What to do with sections that do not fit.")  # fmt: skip
@click.option("-o", "--output", required=True, metavar="FILE", help="Where to; - is stdout.")
@_friendly
def save(output: str, file: str | None, **source: Any) -> None:
    """Save URL as one MP4.

    The file gets its name when it is whole.  If the stream breaks, what came stays as FILE.part.
    """
    try:
        target = Target(output)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--output") from error
    source["config"] = Config.load(file)
    try:
        serving.run(_save(target, source))
    except (StreamAborted, KeyboardInterrupt):
        if target.part is not None and target.part.exists():
            click.echo(f"kept what came: {target.part}", err=True)
        raise


async def _save(target: Target, source: dict[str, Any]) -> None:
    async with wiring.open_stream(**source) as stream:
        with target, _progress(stream.duration_s) as advance:
            async for part in stream:
                target.write(part)
                advance(part)


@contextlib.contextmanager
def _progress(duration_s: float | None) -> Iterator[Callable[[bytes], None]]:
    """Show bytes, seconds of media and speed on stderr; nothing where that is no terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    columns = BarColumn(), DownloadColumn(), TextColumn("{task.fields[media]}")
    position, began_s = Position(), time.monotonic()
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=None, media="")
        shown = progress.tasks[task]

        def show(done_bytes: int, seconds: float) -> None:
            # How many bytes it will be is not known before the end: the bar goes by time.
            total = done_bytes * duration_s / seconds if duration_s and seconds else None
            elapsed_s = max(time.monotonic() - began_s, 0.001)
            speed = f"{done_bytes / elapsed_s / 1e6:.1f} MB/s, {seconds / elapsed_s:.1f}x"
            media = f"{_clock(seconds)} of {_clock(duration_s)}, {speed}"
            progress.update(task, completed=done_bytes, total=total, media=media)

        def advance(part: bytes) -> None:
            position.feed(part)
            show(int(shown.completed) + len(part), position.seconds)

        yield advance
        show(int(shown.completed), duration_s or position.seconds)


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@main.command()
@_source_options
@click.option("--json", "as_json", is_flag=True, help="Everything, for programs.")
@_friendly
def inspect(*, as_json: bool, file: str | None, **source: Any) -> None:
    """Tell what is behind URL, and whether it can be copied into an MP4."""
    report = serving.run(wiring.inspect(config=Config.load(file), **source))
    if as_json:
        click.echo(json.dumps(report, ensure_ascii=False, indent=2))
    else:
        _print_report(report)


def _print_report(report: dict[str, Any]) -> None:
    console = Console()
    apart = {"variants", "renditions", "reason", "page"}
    plain = {k: v for k, v in report.items() if k not in apart}
    page = report["page"] or {"candidates": []}
    plain |= {f"page {k}": v for k, v in page.items() if k != "candidates"}
    table = Table("", "", show_header=False)
    for name, value in plain.items():
        table.add_row(name, _cell(value))
    if report["reason"]:
        table.add_row("reason", _cell(f"{report['reason']['code']}: {report['reason']['detail']}"))
    console.print(table)
    for title, rows in (
        ("variants", report["variants"]),
        ("renditions", report["renditions"]),
        ("what the page offers", page["candidates"]),
    ):
        if rows:
            table = Table(*rows[0], title=title)
            for row in rows:
                table.add_row(*map(_cell, row.values()), style="bold" if row["chosen"] else "")
            console.print(table)


def _cell(value: Any) -> Text:
    """Show a value as plain text: what a source says is no markup."""
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    if isinstance(value, list):
        return Text(", ".join(map(str, value)))
    return Text("" if value is None else str(value))


@main.command()
@click.argument("url")
@click.option("--quality", help="best, worst, audio, or a limit such as 720p or 2500k (kbit/s).")
@click.option("--audio", metavar="LANGUAGE", help="Language or name of an audio track.")
@click.option("--start", metavar="SECONDS", help="Negative: from the end.")
@click.option("--end", metavar="SECONDS")
@click.option("--on-gap", type=click.Choice(["abort", "skip"]),
              help="What to do without a segment that cannot be had.")  # fmt: skip
@click.option("--on-splice", type=click.Choice(["abort", "skip"]),
              help="What to do with sections that do not fit.")  # fmt: skip
@click.option("--filename", metavar="NAME", help="Make it a download of this name.")
@click.option("--expires-in", "expires_in_s", type=click.IntRange(1), default=3600,
              show_default=True, metavar="SECONDS",
              help="How long the link is good for.")  # fmt: skip
@click.option("--base", metavar="ADDRESS", help="Of the route, such as https://example.org/stream; "
              "of the server, where URL is a path; default: where `serve` listens.")  # fmt: skip
@click.option("--config", "file", metavar="FILE", help="TOML; default: what REMUXD_CONFIG names.")
@_friendly
def sign(
    url: str, expires_in_s: int, base: str | None, file: str | None, **options: str | None
) -> None:
    """Print a signed link to the stream of URL, or of the path of one of [[routes]].

    The secret is the first of security.signing_keys, from the file or from the environment; the
    limit of --expires-in is security.signature_lifetime_s.
    """
    config = Config.load(file)
    settings = config.signing_settings()
    if not settings.keys:
        raise ConfigError("security.signing_keys: there is no key to sign with")
    if expires_in_s > settings.lifetime_s:
        raise click.BadParameter(
            f"security.signature_lifetime_s allows {settings.lifetime_s}", param_hint="--expires-in"
        )
    is_path = url.startswith("/")
    base = base or _own_address(config) + ("" if is_path else "/stream")
    if not base.startswith(("http://", "https://")) or "?" in base or "#" in base:
        raise click.BadParameter("must be an http or https address, no query", param_hint="--base")
    told = {name: value for name, value in options.items() if value is not None}
    key_id, secret = next(iter(settings.keys.items()))
    expires = int(time.time()) + expires_in_s
    if is_path:
        match = Routes(config.app_routes()).find(url)
        if match is None:
            raise click.BadParameter("no route has this path", param_hint="URL")
        signed = signing.sign(told, key_id=key_id, secret=secret, expires=expires, path=url)
        match.wish(signed)  # a link that would be refused is not worth its signature
        click.echo(f"{base.rstrip('/')}{quote(url)}?{signed}")
        return
    signed = signing.sign({"url": url, **told}, key_id=key_id, secret=secret, expires=expires)
    query.parse(signed)
    click.echo(f"{base}?{signed}")


def _own_address(config: Config) -> str:
    """Where the server is for clients on this machine."""
    where = config.server
    host = "127.0.0.1" if where.host in {"", "0.0.0.0", "::"} else where.host  # noqa: S104 - any
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{where.port}{where.base_path}"


@main.command()
@click.option("--ready", is_flag=True, help="Ask whether it takes new streams, too.")
@click.option("--config", "file", metavar="FILE", help="TOML; default: what REMUXD_CONFIG names.")
@_friendly
def healthcheck(*, ready: bool, file: str | None) -> None:
    """Exit with 0 if the server of this configuration answers, on this machine; else with 1."""
    where = Config.load(file).server
    path = where.base_path + ("/readyz" if ready else "/healthz")
    status = health.ask(host=where.host, port=where.port, unix_socket=where.unix_socket, path=path)
    if status != HTTPStatus.OK:
        _fail(f"{path} answered {status}", EXIT_SOURCE)


@main.command()
@click.option("--once", is_flag=True, help="End after the judgement; the exit code tells it.")
@click.option("--port", type=click.IntRange(0, 65535), help="Of the proxy; default: 8080.")
@click.option("--seconds", type=click.IntRange(2, 600), default=30, show_default=True,
              help="Length of the clip.")  # fmt: skip
@_friendly
def demo(*, once: bool, port: int | None, seconds: int) -> None:
    """See it work: an origin with a clip, the proxy beside it, one stream fetched and judged."""
    from proxy.demo.show import demo as run_demo  # noqa: PLC0415 - nothing else needs encoders

    if not serving.run(run_demo(seconds=seconds, port=port, once=once)):
        sys.exit(EXIT_SOURCE)
