"""The configuration: one file and the environment, put together out of the rooms' own `Settings`.

A default stands in one place only, in the room that uses it; the sections below say which key means
which field, and `config.toml` shows them all.  The environment overrides the file:
`REMUXD_<SECTION>__<KEY>`, lists as JSON or separated by commas.  Whatever is wrong is a
`ConfigError` that names the key: an unknown key, a bad value.
No value is ever shown, since any of them may be a secret.

Only `wiring`, `cli` and the ASGI factory know this module.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from proxy import admission, app, logs, pipeline, register
from proxy.fetch import settings as fetch
from proxy.guard import bearer, signing
from proxy.guard.addresses import SCHEMES, AddressPolicy
from proxy.hls.lines import Limits
from proxy.routes import FIXED, Route, Routes

__all__ = ["EXIT_CONFIG", "Config", "ConfigError"]

EXIT_CONFIG = 78  # EX_CONFIG of sysexits.h
PREFIX = "REMUXD_"
MIB = 1024 * 1024

_POLICY, _FETCH, _PIPELINE = AddressPolicy(), fetch.Settings(), pipeline.Settings()
_PAGES = _PIPELINE.pages
_APP, _ADMISSION, _LOGS = app.Settings(), admission.Settings(), logs.Settings()
_SIGNING, _REGISTER = signing.Settings(), register.Settings()


class ConfigError(Exception):
    """The configuration cannot be used; the message names the key, and holds no value."""


def _list(value: object) -> object:
    """A list out of the environment: JSON, or texts between commas."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return json.loads(value)
    return [text.strip() for text in value.split(",") if text.strip()]


def _table(value: object) -> object:
    """A table out of the environment: JSON."""
    return json.loads(value or "{}") if isinstance(value, str) else value


def _keys(value: object) -> object:
    """Ids and secrets: a table, or texts of the form `id:secret`."""
    if isinstance(value, str):
        value = _table(value) if value.lstrip().startswith("{") else _list(value)
    if isinstance(value, list):
        pairs = [str(text).partition(":") for text in value]
        if len({key_id for key_id, _, _ in pairs}) < len(pairs):
            raise ValueError("an id stands there more than once")
        value = {key_id: secret for key_id, _, secret in pairs}
    return value


Port = Annotated[int, Field(ge=0, le=65535)]
Count = Annotated[int, Field(ge=1)]
Texts = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_list)]
Ports = Annotated[tuple[Port, ...], NoDecode, BeforeValidator(_list)]
Scopes = Annotated[dict[str, dict[str, str]], NoDecode, BeforeValidator(_table)]
Keys = Annotated[dict[str, str], NoDecode, BeforeValidator(_keys)]
BasePath = Annotated[str, Field(pattern=r"^(/[A-Za-z0-9._~-]+)*$")]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class ServerSection(_Section):
    host: str = "127.0.0.1"
    port: Port = 8080
    unix_socket: str = ""
    workers: Count = 1
    drain_s: Annotated[float, Field(ge=0)] = 25.0
    cors_origins: Texts = _APP.cors_origins
    trusted_proxies: Texts = _ADMISSION.trusted_proxies
    base_path: BasePath = _APP.base_path


class UpstreamSection(_Section):
    allowed_hosts: Texts = ()
    allow_private_addresses: bool = _POLICY.allow_private_addresses
    allowed_networks: Texts = _POLICY.allowed_networks
    allowed_ports: Ports = _POLICY.allowed_ports
    headers: Scopes = Field(default_factory=dict, repr=False)
    proxy: str = Field(default="", repr=False)
    ca_file: str = ""


class LimitsSection(_Section):
    streams: Count = _PIPELINE.streams
    streams_per_client: Count = _ADMISSION.streams_per_client
    segment_bytes: Count = _FETCH.segment_bytes
    playlist_bytes: Count = _PIPELINE.playlists.size_bytes
    segments: Count = _PIPELINE.playlists.text.segments
    idle_client_s: Annotated[float, Field(gt=0)] = _APP.idle_client_s
    stream_s: Annotated[float, Field(ge=0)] = _APP.stream_s
    history_s: Annotated[float, Field(ge=0)] = _REGISTER.history_s


class MemorySection(_Section):
    budget_bytes: Annotated[int, Field(ge=MIB)] = _PIPELINE.budget_bytes


class SecuritySection(_Section):
    signing_keys: Keys = Field(default_factory=dict, repr=False)
    require_signature: bool = _SIGNING.required
    signature_lifetime_s: Count = _SIGNING.lifetime_s
    open_relay: bool = False
    operator_token: str = Field(default="", repr=False)


class ExtractSection(_Section):
    enabled: bool = _PAGES.enabled
    respect_robots: bool = _PAGES.respect_robots
    page_bytes: Annotated[int, Field(ge=1024, le=16 * MIB)] = _PAGES.limits.page_bytes
    depth: Annotated[int, Field(ge=0, le=3)] = _PAGES.depth
    deadline_s: Annotated[float, Field(gt=0)] = _PAGES.deadline_s


class LogSection(_Section):
    level: Literal["debug", "info", "warning", "error"] = _LOGS.level
    format: Literal["human", "json"] = _LOGS.format


class RouteSection(_Section):
    path: str
    url: str = Field(repr=False)
    quality: str | None = None
    audio: str | None = None
    on_gap: str | None = None
    on_splice: str | None = None
    filename: str | None = None
    headers: dict[str, str] = Field(default_factory=dict, repr=False)
    allowed_hosts: tuple[str, ...] = ()
    allow_private_addresses: bool = _POLICY.allow_private_addresses
    require_signature: bool | None = None  # None: as security.require_signature

    def route(self, upstream: str) -> Route:
        """Raises `ValueError` that begins with the key."""
        told = {name: getattr(self, name) for name in FIXED}
        return Route(
            path=self.path,
            url=self.url,
            fixed={name: value for name, value in told.items() if value is not None},
            require_signature=self.require_signature,
            upstream=upstream,
        )


class Config(BaseSettings):
    """Every key, checked.  Make it with `load`."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    server: ServerSection = ServerSection()
    upstream: UpstreamSection = UpstreamSection()
    limits: LimitsSection = LimitsSection()
    memory: MemorySection = MemorySection()
    security: SecuritySection = SecuritySection()
    extract: ExtractSection = ExtractSection()
    log: LogSection = LogSection()
    routes: tuple[RouteSection, ...] = ()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is pydantic's
        init_settings: PydanticBaseSettingsSource,
        *_: Any,
        **__: Any,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take what `load` gives and nothing else: no ambient environment behind its back."""
        return (init_settings,)

    @classmethod
    def load(cls, file: str | Path | None = None) -> Config:
        """Read `file` (default: what REMUXD_CONFIG names, if anything) and the environment.

        Raises:
            ConfigError: naming the key, or the file.
        """
        path = file or os.environ.get(f"{PREFIX}CONFIG") or None
        _refuse_unknown_sections(cls)
        try:
            values = _merged(_read(cls, Path(path)) if path else {}, _environment(cls))
            config = cls(**values)
        except ValidationError as error:
            raise ConfigError("; ".join(_told(detail) for detail in error.errors())) from error
        config.fetch_settings()  # the rooms check what they are told, too
        config.route_fetch_settings()
        config.app_settings()
        config.check_token()
        return config

    def check_may_serve(self) -> None:
        """Refuse to be an open relay by omission.

        Raises:
            ConfigError: naming the keys.
        """
        if self.memory.budget_bytes < self.server.workers * MIB:
            raise ConfigError("memory.budget_bytes: less than 1 MiB for each of server.workers")
        if self.security.open_relay or self.security.require_signature:
            return
        if not self.relay and not self.routes:
            raise ConfigError(
                "whom may it fetch from? Set upstream.allowed_hosts, or security.signing_keys with "
                "security.require_signature, or security.open_relay = true, or write [[routes]]"
            )
        if "*" in self.upstream.allowed_hosts:
            raise ConfigError(
                "upstream.allowed_hosts: `*` needs security.require_signature or "
                "security.open_relay = true"
            )

    @property
    def relay(self) -> bool:
        """Whether a server opens what a client names in `url`."""
        security = self.security
        return bool(
            self.upstream.allowed_hosts or security.open_relay or security.require_signature
        )

    def check_token(self) -> None:
        """Refuse an operator's token that can be guessed, or cannot be sent.

        Raises:
            ConfigError: naming the key.
        """
        token = self.security.operator_token
        if token and len(token) < bearer.SHORTEST:
            raise ConfigError(
                f"security.operator_token: must have at least {bearer.SHORTEST} characters"
            )
        if token and not bearer.is_token(token):
            raise ConfigError(
                "security.operator_token: letters, digits and -._~+/ only, and = at the end"
            )

    # -- what each room is told --------------------------------------------------------------------

    def fetch_settings(self) -> fetch.Settings:
        upstream = self.upstream
        try:
            return fetch.Settings(
                policy=AddressPolicy(
                    allowed_hosts=upstream.allowed_hosts or ("*",),
                    allowed_ports=upstream.allowed_ports,
                    allow_private_addresses=upstream.allow_private_addresses,
                    allowed_networks=upstream.allowed_networks,
                ),
                segment_bytes=self.limits.segment_bytes,
                headers=upstream.headers,
                instance=_FETCH.instance,  # one for all workers, which are forked later
                proxy=upstream.proxy or None,
                ca_file=Path(upstream.ca_file) if upstream.ca_file else None,
            )
        except ValueError as error:
            raise ConfigError(f"upstream: {error}") from error

    def route_fetch_settings(self) -> dict[str, fetch.Settings]:
        """What fetches for each route, by the name of its way.

        A route is the owner's word on one host, and on no other: `upstream.allowed_hosts` counts
        for nobody's route, and a route's host for nobody else's.  So are its headers.
        """
        common = self.fetch_settings()
        return {
            _way(number): _of_route(number, route, common, self.upstream)
            for number, route in enumerate(self.routes)
        }

    def app_routes(self) -> tuple[Route, ...]:
        found = []
        for number, section in enumerate(self.routes):
            try:
                found.append(section.route(_way(number)))
            except ValueError as error:
                raise ConfigError(f"routes.{number}.{error}") from None
        try:
            Routes(found)
        except ValueError as error:
            raise ConfigError(f"routes.{error}") from None
        if not self.signing_settings().keys:
            for number, section in enumerate(self.routes):
                if section.require_signature:
                    raise ConfigError(
                        f"routes.{number}.require_signature: there is no key in "
                        "security.signing_keys"
                    )
        return tuple(found)

    def pipeline_settings(self, *, shared: bool = True) -> pipeline.Settings:
        """`shared`: as in `app_settings`."""
        budget_bytes = self.memory.budget_bytes
        return pipeline.Settings(
            playlists=pipeline.PlaylistLimits(
                size_bytes=self.limits.playlist_bytes,
                text=Limits(segments=self.limits.segments),
            ),
            streams=self.limits.streams,
            pages=self.page_settings(),
            budget_bytes=budget_bytes if shared else budget_bytes // self.server.workers,
        )

    def page_settings(self) -> pipeline.PageSettings:
        extract = self.extract
        return pipeline.PageSettings(
            enabled=extract.enabled,
            respect_robots=extract.respect_robots,
            depth=extract.depth,
            deadline_s=extract.deadline_s,
            limits=replace(_PAGES.limits, page_bytes=extract.page_bytes),
        )

    def signing_settings(self) -> signing.Settings:
        security = self.security
        try:
            return signing.Settings(
                keys=security.signing_keys,
                required=security.require_signature,
                lifetime_s=security.signature_lifetime_s,
            )
        except ValueError as error:
            raise ConfigError(f"security.signing_keys: {error}") from error

    def app_settings(self, *, shared: bool = True) -> app.Settings:
        """`shared`: whether all `server.workers` are counted together; else each has its share."""
        signed = self.signing_settings()
        routes = self.app_routes()
        streams = self.limits.streams
        try:
            return app.Settings(
                admission=admission.Settings(
                    streams=streams if shared else max(1, streams // self.server.workers),
                    streams_per_client=self.limits.streams_per_client,
                    trusted_proxies=self.server.trusted_proxies,
                ),
                signing=signed,
                register=register.Settings(history_s=self.limits.history_s),
                operator_token=self.security.operator_token,
                cors_origins=self.server.cors_origins,
                base_path=self.server.base_path,
                idle_client_s=self.limits.idle_client_s,
                stream_s=self.limits.stream_s,
                routes=routes,
            )
        except ValueError as error:
            raise ConfigError(f"server.trusted_proxies: {error}") from error

    def log_settings(self) -> logs.Settings:
        several = self.server.workers > 1
        return logs.Settings(level=self.log.level, format=self.log.format, process=several)


def _way(number: int) -> str:
    """The name under which the requests of a route are fetched."""
    return f"routes.{number}"


def _of_route(
    number: int, route: RouteSection, common: fetch.Settings, upstream: UpstreamSection
) -> fetch.Settings:
    try:
        parts = urlsplit(route.url)
        host, port = parts.hostname or "", parts.port or SCHEMES.get(parts.scheme, 443)
    except ValueError:
        raise ConfigError(f"routes.{number}.url: is not a well-formed address") from None
    host = f"[{host}]" if ":" in host else host
    if not host or set("{}") & set(parts.netloc):
        raise ConfigError(f"routes.{number}.url: needs a host without placeholders")
    private = route.allow_private_addresses or upstream.allow_private_addresses
    if "*" in route.allowed_hosts and private:
        raise ConfigError(
            f"routes.{number}.allowed_hosts: `*` and allow_private_addresses are too much together"
        )
    ports = upstream.allowed_ports
    try:
        return replace(
            common,
            policy=AddressPolicy(
                allowed_hosts=(host, *route.allowed_hosts),
                allowed_ports=(*ports, port) if ports and port not in ports else ports,
                allow_private_addresses=private,
                allowed_networks=upstream.allowed_networks,
            ),
            headers={**upstream.headers, f"{parts.scheme}://{host}:{port}": route.headers},
        )
    except ValueError as error:
        raise ConfigError(f"routes.{number}.{error}") from error


def _read(model: type[Config], path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"there is no file {path}")
    try:
        return TomlConfigSettingsSource(model, path)()
    except OSError as error:
        raise ConfigError(str(error)) from error
    except ValueError as error:  # no TOML, or no UTF-8
        raise ConfigError(f"{path}: {error}") from error


def _environment(model: type[Config]) -> dict[str, Any]:
    values = EnvSettingsSource(model, env_prefix=PREFIX, env_nested_delimiter="__")()
    if "routes" in values:
        raise ConfigError(f"{PREFIX}ROUTES: routes stand in the file only")
    return values


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Merge section by section; what is no section is left for the validation to refuse."""
    merged = dict(below)
    for section, keys in above.items():
        under = merged.get(section, {})
        merged[section] = {**under, **keys} if isinstance(under, dict) else under
    return merged


def _refuse_unknown_sections(model: type[Config]) -> None:
    # Names without a double underscore are not ours to judge: Kubernetes sets REMUXD_PORT and the
    # like for a service that is called remuxd.
    for name in os.environ:
        match = re.fullmatch(rf"{PREFIX}(\w+?)__\w+", name, flags=re.IGNORECASE)
        if match and match[1].lower() not in model.model_fields:
            raise ConfigError(f"{name}: there is no section {match[1].lower()}")


def _told(detail: Any) -> str:
    key = ".".join(str(part) for part in detail["loc"])
    unknown = detail["type"] == "extra_forbidden"
    problem = "unknown key" if unknown else detail["msg"].removeprefix("Value error, ")
    variable = PREFIX + "__".join(str(part) for part in detail["loc"][:2]).upper()
    where = f" (in {variable})" if variable in os.environ else ""
    return f"{key}: {problem}{where}"
