"""The only place that puts concrete parts together: for the server, the ASGI factory, the command
line, and for whoever uses remuxd as a library.

As a library, and on the command line, whoever calls is the client: every public host and port is
open, and private addresses need `allow_private_addresses`; what the section `upstream` of a
configuration says comes first.  A server is told by its configuration alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from proxy import logs
from proxy.app import App
from proxy.config import EXIT_CONFIG, Config, ConfigError
from proxy.fetch.client import Fetcher
from proxy.fetch.settings import Settings as FetchSettings
from proxy.media import libav
from proxy.memory import Tidier
from proxy.metrics import Metrics
from proxy.pipeline import MediaStream, OnTrouble, Pipeline, Quality, StreamRequest
from proxy.pipeline import Settings as PipelineSettings
from proxy.state.commons import Commons

__all__ = ["check", "inspect", "load", "load_or_exit", "open_stream", "running_app"]

REBALANCE_S = 1.0  # for so long, streams that begin in other processes may find the budget taken


def load(file: str | None = None, **server: Any) -> Config:
    """Read the configuration of a server, check that it may serve, and set up the log.

    Args:
        file: instead of what REMUXD_CONFIG names.
        server: keys of the section `server` that the command line overrides; None: it does not.

    Raises:
        ConfigError: naming the key.
    """
    config = Config.load(file)
    told = {name: value for name, value in server.items() if value is not None}
    config = config.model_copy(update={"server": config.server.model_copy(update=told)})
    config.check_may_serve()
    logs.configure(config.log_settings())
    libav.listen()
    return config


def load_or_exit() -> Config:
    """As `load`, for servers that import us: a bad configuration ends the process, code 78."""
    try:
        config = load()
    except ConfigError as error:
        sys.stderr.write(f"remuxd: {error}\n")
        raise SystemExit(EXIT_CONFIG) from error
    libav.introduce()
    return config


def check(config: Config) -> None:
    """Find out what can only be found out by using it, such as an unreadable certificate.

    Raises:
        ConfigError: naming the key.
    """
    _fetcher(config)
    _route_fetchers(config)


@contextlib.asynccontextmanager
async def running_app(config: Config, commons: Commons | None = None) -> AsyncIterator[App]:
    """Make the app that `config` describes; what it needs lives as long as the context.

    With `commons`, other processes are counted in: the limits and the memory budget are for all of
    them together.  Without, this process keeps to its share, one part of `server.workers`.

    Raises:
        ConfigError: as `check`.
    """
    fetcher, shared = _fetcher(config), commons is not None
    settings = replace(
        config.app_settings(shared=shared), via=fetcher.settings.via, relay=config.relay
    )
    upstreams = _route_fetchers(config)
    for other in upstreams.values():
        other.own = fetcher.own
    crowd = None if commons is None else lambda: commons.census.total
    limits = config.pipeline_settings(shared=shared)
    budget_bytes = limits.budget_bytes
    async with contextlib.AsyncExitStack() as stack:
        tidier = Tidier(lambda: pipeline.active)
        stack.callback(tidier.close)
        pipeline = Pipeline(
            fetcher, limits, upstreams=upstreams, crowd=crowd, on_release=tidier.note
        )
        for one in (fetcher, *upstreams.values()):
            await stack.enter_async_context(one)
        await stack.enter_async_context(pipeline)
        if commons is None:
            metrics = Metrics(budget_bytes=budget_bytes)
            yield App(pipeline, settings, on_port=fetcher.own.add, metrics=metrics)
            return
        app = App(
            pipeline,
            settings,
            on_port=fetcher.own.add,
            census=commons.census,
            boards=commons.boards,
            metrics=Metrics(commons.sums, budget_bytes=budget_bytes),
        )
        following = [
            asyncio.create_task(_follow(pipeline, app)),
            asyncio.create_task(app.register.run()),
        ]
        try:
            yield app
        finally:
            for task in following:
                task.cancel()
            app.look()


async def _follow(pipeline: Pipeline, app: App) -> None:
    """Follow what other processes start and end, and let them know what is held here."""
    while True:
        pipeline.rebalance()
        app.look()
        await asyncio.sleep(REBALANCE_S)


def _fetcher(config: Config) -> Fetcher:
    settings = config.fetch_settings()
    if not config.relay and config.routes:  # nobody's address is fetched: not even by accident
        settings = replace(settings, policy=replace(settings.policy, allowed_hosts=()))
    try:
        return Fetcher(settings)
    except ValueError as error:
        raise ConfigError(f"upstream: {error}") from error


def _route_fetchers(config: Config) -> dict[str, Fetcher]:
    """One for each route: what was connected under one policy is never used under another."""
    found = {}
    for name, settings in config.route_fetch_settings().items():
        try:
            found[name] = Fetcher(settings)
        except ValueError as error:
            raise ConfigError(f"{name}: {error}") from error
    return found


@contextlib.asynccontextmanager
async def open_stream(
    url: str,
    *,
    quality: str = "best",
    audio: str | None = None,
    start_s: float | None = None,
    end_s: float | None = None,
    on_gap: OnTrouble = "abort",
    on_splice: OnTrouble = "abort",
    allow_private_addresses: bool = False,
    config: Config | None = None,
) -> AsyncIterator[MediaStream]:
    """Open `url` (an HLS playlist) as one fragmented MP4, while it is still downloading.

        async with proxy.open_stream("https://example.org/master.m3u8") as stream:
            async for part in stream:
                file.write(part)

    The stream yields bytes: first the init segment, then whole fragments.  Leaving the context
    stops it, wherever it is.

    Args:
        url: absolute, http or https; a playlist, or a page that embeds its video.
        quality: `best`, `worst`, `720p` (at most that height), `2500k` (at most that bandwidth in
            kbit/s) or `audio` (audio only).
        audio: language tag, or name of an audio rendition.
        start_s: seconds into the presentation; negative: back from its end, or from the live edge.
        end_s: seconds into the presentation, which must have an end.
        on_gap: whether to `skip` segments that cannot be had, leaving a hole in time.
        on_splice: whether to `skip` sections that one MP4 cannot hold with the others.
        allow_private_addresses: whether loopback and private addresses may be fetched from.
        config: whose sections `upstream` (hosts, ports, headers, proxy, certificates) and
            `extract` hold.

    Raises:
        InvalidRequest: an argument is malformed; from the `async with`, as the next one.
        ProxyError: it cannot be opened.
        StreamAborted: it broke later; from iterating.
    """
    async with _pipeline(config, allow_private_addresses=allow_private_addresses) as pipeline:
        request = StreamRequest(
            url=url,
            quality=Quality.parse(quality),
            audio=audio,
            start_s=start_s,
            end_s=end_s,
            on_gap=on_gap,
            on_splice=on_splice,
        )
        async with await pipeline.open_stream(request) as stream:
            yield stream


async def inspect(
    url: str,
    *,
    quality: str = "best",
    audio: str | None = None,
    allow_private_addresses: bool = False,
    config: Config | None = None,
) -> dict[str, Any]:
    """Tell what is behind `url`; arguments and errors as those of `open_stream`."""
    async with _pipeline(config, allow_private_addresses=allow_private_addresses) as pipeline:
        request = StreamRequest(url=url, quality=Quality.parse(quality), audio=audio)
        return await pipeline.inspect(request)


@contextlib.asynccontextmanager
async def _pipeline(
    config: Config | None, *, allow_private_addresses: bool
) -> AsyncIterator[Pipeline]:
    """Make what one stream needs.

    Raises:
        ConfigError: the configuration cannot be used.
    """
    settings = FetchSettings() if config is None else config.fetch_settings()
    ports_told = config is not None and "allowed_ports" in config.upstream.model_fields_set
    policy = settings.policy
    policy = replace(
        policy,
        allowed_ports=policy.allowed_ports if ports_told else (),
        allow_private_addresses=policy.allow_private_addresses or allow_private_addresses,
    )
    try:
        fetcher = Fetcher(replace(settings, policy=policy))
    except ValueError as error:
        raise ConfigError(f"upstream: {error}") from error
    pages = PipelineSettings() if config is None else PipelineSettings(pages=config.page_settings())
    async with fetcher, Pipeline(fetcher, pages) as pipeline:
        yield pipeline
