"""The configuration: file, environment, and what is refused with the name of the key."""

import itertools
import json
import os
import re
import tomllib
from pathlib import Path

import pytest

from proxy import admission, app, logs, pipeline
from proxy.config import Config, ConfigError, RouteSection
from proxy.fetch.settings import Settings as FetchSettings
from tests.conftest import REPOSITORY

SECRET = "canary-b1946ac9"
LONG_SECRET = SECRET * 3


@pytest.fixture(autouse=True)
def no_ambient_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("REMUXD_"):
            monkeypatch.delenv(name)


def written(folder: Path, text: str) -> Path:
    file = folder / "config.toml"
    file.write_text(text)
    return file


def test_load_without_anything_gives_the_rooms_defaults() -> None:
    """Without file and environment every room gets its own defaults."""
    config = Config.load()
    assert config.pipeline_settings() == pipeline.Settings()
    assert config.app_settings() == app.Settings()
    assert config.log_settings() == logs.Settings()
    assert config.app_settings().admission == admission.Settings()
    fetch, default = config.fetch_settings(), FetchSettings()
    assert fetch.policy == default.policy
    assert fetch.segment_bytes == default.segment_bytes
    assert (fetch.proxy, fetch.ca_file, fetch.headers) == (None, None, {})


def test_config_toml_holds_every_key_with_its_default() -> None:
    """The file in the repository lists exactly the keys and defaults of the code."""
    document = tomllib.loads((REPOSITORY / "config.toml").read_text())
    defaults = json.loads(Config().model_dump_json())
    assert defaults.pop("routes") == []  # its example is in comments: see below
    assert document == defaults
    assert Config.load(REPOSITORY / "config.toml") == Config()


def commented_route() -> str:
    """The example of a route in config.toml, taken out of its comments."""
    text = (REPOSITORY / "config.toml").read_text()
    return re.sub(r"^# ?", "", text[text.index("# [[routes]]\n") :], flags=re.MULTILINE)


def test_config_toml_shows_a_route_with_every_key(tmp_path: Path) -> None:
    """The commented example can be used as it is, and leaves out no key."""
    (shown,) = tomllib.loads(commented_route())["routes"]
    assert list(shown) == list(RouteSection.model_fields)
    (route,) = Config.load(written(tmp_path, commented_route())).app_routes()
    assert route.path == "/vod/{path}.mp4"


def test_config_toml_has_a_comment_above_each_key() -> None:
    """Each key is explained."""
    lines = (REPOSITORY / "config.toml").read_text().splitlines()
    for above, line in itertools.pairwise(lines):
        if line and not line.startswith(("#", "[")):
            assert above.startswith("#"), line
    for above, line in itertools.pairwise(commented_route().splitlines()):
        if " = " in line and not line.startswith("#"):
            assert above.startswith("#"), line


def test_load_reads_the_file_it_is_given(tmp_path: Path) -> None:
    """A key in the file replaces the default, the others stay."""
    config = Config.load(written(tmp_path, "[server]\nport = 9000\n[limits]\nstreams = 3\n"))
    assert (config.server.port, config.server.host) == (9000, "127.0.0.1")
    assert config.pipeline_settings().streams == 3
    assert config.app_settings().admission.streams == 3


def test_load_reads_what_holds_for_pages(tmp_path: Path) -> None:
    """The section `extract` reaches the room that reads pages; what makes no sense is refused."""
    text = "[extract]\nrespect_robots = false\npage_bytes = 5000\ndepth = 0\ndeadline_s = 2.5\n"
    pages = Config.load(written(tmp_path, text)).pipeline_settings().pages
    assert (pages.enabled, pages.respect_robots, pages.limits.page_bytes) == (True, False, 5000)
    assert (pages.depth, pages.deadline_s) == (0, 2.5)
    with pytest.raises(ConfigError, match=r"extract\.page_bytes"):
        Config.load(written(tmp_path, "[extract]\npage_bytes = 10"))


def test_load_reads_the_file_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """REMUXD_CONFIG names the file where none is given."""
    monkeypatch.setenv("REMUXD_CONFIG", str(written(tmp_path, "[server]\nport = 9000\n")))
    assert Config.load().server.port == 9000


def test_load_lets_the_environment_override_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable wins over the file for its key alone."""
    file = written(tmp_path, "[server]\nport = 9000\nhost = '::1'\n")
    monkeypatch.setenv("REMUXD_SERVER__PORT", "9001")
    config = Config.load(file)
    assert (config.server.port, config.server.host) == (9001, "::1")


@pytest.mark.parametrize("value", ["a.example, *.b.example", '["a.example", "*.b.example"]'])
def test_load_takes_a_list_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """A list may be JSON, or texts between commas."""
    monkeypatch.setenv("REMUXD_UPSTREAM__ALLOWED_HOSTS", value)
    monkeypatch.setenv("REMUXD_UPSTREAM__ALLOWED_PORTS", "80,8080")
    config = Config.load()
    assert config.upstream.allowed_hosts == ("a.example", "*.b.example")
    assert config.fetch_settings().policy.allowed_ports == (80, 8080)


def test_load_takes_a_table_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table is JSON."""
    monkeypatch.setenv("REMUXD_UPSTREAM__HEADERS", '{"a.example": {"Referer": "x"}}')
    assert Config.load().fetch_settings().headers == {"a.example": {"Referer": "x"}}


def test_load_ignores_variables_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Kubernetes sets for a service called remuxd is no configuration."""
    monkeypatch.setenv("REMUXD_PORT", "tcp://10.0.0.1:8080")
    monkeypatch.setenv("REMUXD_SERVICE_HOST", "10.0.0.1")
    assert Config.load() == Config()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[server]\nprot = 1\n", "server.prot: unknown key"),
        ("[sever]\nport = 1\n", "sever: unknown key"),
        ("port = 1\n", "port: unknown key"),
        ("server = 5\n", "server"),
        ("[server]\nport = 70000\n", "server.port"),
        ("[server]\nport = 'http'\n", "server.port"),
        ("[server]\ntrusted_proxies = ['nowhere']\n", "server.trusted_proxies"),
        ("[server]\nbase_path = 'media/'\n", "server.base_path"),
        ("[upstream]\nallowed_hosts = ['a.*']\n", "allowed_hosts"),
        ("[upstream]\nproxy = 'socks5://x'\n", "proxy"),
        ("[upstream]\nca_file = '/nowhere.pem'\n", "ca_file"),
        ("[limits]\nstreams = 0\n", "limits.streams"),
        ("[limits]\nidle_client_s = 0\n", "limits.idle_client_s"),
        (
            "[security]\nsigning_keys = { old = 'short' }\n",
            "security.signing_keys: the secret of 'old'",
        ),
        ("[security]\nsigning_keys = ['short']\n", "security.signing_keys"),
        ("[security]\nsigning_keys = { a = { b = 'c' } }\n", "security.signing_keys"),
        ("[security]\nrequire_signature = true\n", "security.signing_keys"),
        ("[memory]\nbudget_bytes = 10\n", "memory.budget_bytes"),
        ("[log]\nlevel = 'loud'\n", "log.level"),
        ("[server\n", "config.toml"),
    ],
)
def test_load_refuses_a_bad_file_naming_the_key(tmp_path: Path, text: str, named: str) -> None:
    """Unknown keys and bad values are errors that say which."""
    with pytest.raises(ConfigError) as caught:
        Config.load(written(tmp_path, text))
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("REMUXD_SERVER__PROT", "1", "REMUXD_SERVER__PROT"),
        ("REMUXD_SEVER__PORT", "1", "REMUXD_SEVER__PORT"),
        ("REMUXD_SERVER__PORT", "http", "REMUXD_SERVER__PORT"),
        ("REMUXD_UPSTREAM__HEADERS", "{", "REMUXD_UPSTREAM__HEADERS"),
        ("REMUXD_UPSTREAM__ALLOWED_PORTS", "[80", "REMUXD_UPSTREAM__ALLOWED_PORTS"),
    ],
)
def test_load_refuses_a_bad_variable_naming_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, named: str
) -> None:
    """The message names the variable, since that is what the operator must change."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=named):
        Config.load()


def test_load_of_a_file_that_is_no_text(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 are told as such."""
    file = tmp_path / "config.toml"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"config\.toml"):
        Config.load(file)


def test_load_of_a_file_that_is_not_there(tmp_path: Path) -> None:
    """A missing file is an error, not an empty configuration."""
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        Config.load(tmp_path / "nowhere.toml")


@pytest.mark.parametrize(
    "text",
    [
        f"[security]\noperator_token = ['{SECRET}']\n",
        f"[security]\nsigning_keys = {{ a = '{SECRET}' }}\n",
        f"[security]\nsigning_keys = ['{LONG_SECRET}']\n",
        f"[security]\nsigning_keys = {{ '{LONG_SECRET}' = 'a' }}\n",
        f"[security]\nsigning_keys = {{ a = ['{LONG_SECRET}'] }}\n",
        f"[upstream]\nproxy = 'socks5://user:{SECRET}@x'\n",
        f"[upstream.headers]\n'a.example' = '{SECRET}'\n",
        f'[upstream.headers.\'a.example\']\n"X-A" = "{SECRET}\\r\\nX-B: 1"\n',
    ],
)
def test_load_never_shows_a_value(tmp_path: Path, text: str) -> None:
    """Messages and representations hold no secret."""
    with pytest.raises(ConfigError) as caught:
        Config.load(written(tmp_path, text))
    assert SECRET not in str(caught.value)
    secret = {"proxy": f"http://u:{SECRET}@x:1", "headers": {"a": {"B": SECRET}}}
    keys = {"signing_keys": {"a": LONG_SECRET}}
    config = Config(upstream=secret, security=keys)  # type: ignore[arg-type]
    assert SECRET not in repr(config) + repr(config.app_settings())


def test_check_may_serve_refuses_an_open_relay_by_omission() -> None:
    """Without a word about sources there is no server, and the message names the keys."""
    with pytest.raises(ConfigError) as caught:
        Config().check_may_serve()
    for key in ("upstream.allowed_hosts", "security.signing_keys", "security.open_relay"):
        assert key in str(caught.value)


def test_check_may_serve_needs_more_than_a_star(tmp_path: Path) -> None:
    """`*` is an open relay, and must be called so."""
    star = "[upstream]\nallowed_hosts = ['*']\n"
    with pytest.raises(ConfigError, match=r"upstream\.allowed_hosts"):
        Config.load(written(tmp_path, star)).check_may_serve()
    Config.load(written(tmp_path, star + "[security]\nopen_relay = true\n")).check_may_serve()


def test_check_may_serve_takes_hosts_or_the_open_relay(tmp_path: Path) -> None:
    """Named hosts are enough; an open relay is everybody."""
    config = Config.load(written(tmp_path, "[upstream]\nallowed_hosts = ['a.example']\n"))
    config.check_may_serve()
    assert config.fetch_settings().policy.allowed_hosts == ("a.example",)
    config = Config.load(written(tmp_path, "[security]\nopen_relay = true\n"))
    config.check_may_serve()
    assert config.fetch_settings().policy.allowed_hosts == ("*",)


def test_check_may_serve_takes_signatures(tmp_path: Path) -> None:
    """Where every link is signed any host may be named, or none; keys alone are not enough."""
    keys = f"[security]\nsigning_keys = {{ b = '{LONG_SECRET}', a = '{LONG_SECRET}' }}\n"
    required = keys + "require_signature = true\n"
    for hosts in ("", "[upstream]\nallowed_hosts = ['*']\n"):
        config = Config.load(written(tmp_path, required + hosts))
        config.check_may_serve()
        assert config.fetch_settings().policy.allowed_hosts == ("*",)
        with pytest.raises(ConfigError, match="require_signature"):
            Config.load(written(tmp_path, keys + hosts)).check_may_serve()
    assert list(config.signing_settings().keys) == ["b", "a"]


@pytest.mark.parametrize(
    "value",
    [
        f"b:{LONG_SECRET}, a:{LONG_SECRET}:",
        f'["b:{LONG_SECRET}", "a:{LONG_SECRET}:"]',
        f'{{"b": "{LONG_SECRET}", "a": "{LONG_SECRET}:"}}',
    ],
)
def test_load_takes_keys_from_the_environment(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """Keys may be a table in JSON, or ids and secrets with a colon between them, in order."""
    monkeypatch.setenv("REMUXD_SECURITY__SIGNING_KEYS", value)
    keys = Config.load().signing_settings().keys
    assert list(keys.items()) == [("b", LONG_SECRET), ("a", LONG_SECRET + ":")]


def test_load_refuses_a_key_id_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two secrets with one id none is quietly left out."""
    monkeypatch.setenv("REMUXD_SECURITY__SIGNING_KEYS", f"a:{LONG_SECRET},a:{LONG_SECRET}b")
    with pytest.raises(ConfigError, match=r"security\.signing_keys"):
        Config.load()


@pytest.mark.parametrize(
    ("token", "why"),
    [("short", "at least 16"), ("with spaces in between", "letters"), ("ümläute" * 4, "letters")],
)
def test_load_refuses_an_operator_token(tmp_path: Path, token: str, why: str) -> None:
    """One that can be guessed, or that no header can carry, is refused by its key, unseen."""
    text = f"[security]\noperator_token = '{token}'\n"
    with pytest.raises(ConfigError, match=r"security\.operator_token") as caught:
        Config.load(written(tmp_path, text))
    assert why in str(caught.value)
    assert token not in str(caught.value)


def test_settings_of_workers_that_are_not_counted_together(tmp_path: Path) -> None:
    """Each of several processes has its share of the whole, and never nothing."""
    text = "[server]\nworkers = 4\n[limits]\nstreams = 10\n[memory]\nbudget_bytes = 8388608\n"
    config = Config.load(written(tmp_path, text))
    assert config.app_settings(shared=False).admission.streams == 2
    assert config.pipeline_settings(shared=False).budget_bytes == 2097152
    assert config.app_settings().admission.streams == 10
    assert config.pipeline_settings().budget_bytes == 8388608
    config = Config.load(written(tmp_path, text.replace("= 10", "= 3")))
    assert config.app_settings(shared=False).admission.streams == 1


def test_check_may_serve_wants_memory_for_each_worker(tmp_path: Path) -> None:
    """A budget that leaves a worker next to nothing is refused by its key."""
    text = "[server]\nworkers = 65\n[upstream]\nallowed_hosts = ['a.example']\n"
    with pytest.raises(ConfigError, match=r"memory\.budget_bytes"):
        Config.load(written(tmp_path, text)).check_may_serve()


def route(**keys: object) -> str:
    """A [[routes]] with these keys instead of those of an ordinary one; None takes a key out."""
    told = {"path": "/vod/{path}.mp4", "url": "https://o.example/{path}.m3u8", **keys}
    lines = [f"{name} = {json.dumps(value)}" for name, value in told.items() if value is not None]
    return "\n".join(["[[routes]]", *lines, ""])


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (route(path=None), "routes.0.path: "),
        (route(url=None), "routes.0.url: "),
        (route(color="red"), "routes.0.color: unknown key"),
        (route() + route(path="/b/{x}"), "routes.1.url: path has no placeholder {path}"),
        (route(path="vod/{path}"), "routes.0.path: must begin with a slash"),
        (route(path="/vod/{path"), "routes.0.path: a brace"),
        (route(path="/vod/{Path}.mp4"), "routes.0.path: a placeholder is"),
        (route(path="/vod/{path}/{path}"), "routes.0.path: a placeholder stands there twice"),
        (route(path="/vod/{path}{more}"), "routes.0.path: nothing stands between"),
        (route(path="/v%20d/{path}"), "routes.0.path: is plain text"),
        (route(path="/vod/../{path}"), "routes.0.path: holds"),
        (route(path="/vod//{path}"), "routes.0.path: holds"),
        (route(path="/{path}"), "routes.0.path: /healthz is a path of our own"),
        (route(path="/streams/{path}"), "routes.0.path: /streams/ is a path of our own"),
        (route(path="/openapi.json", url="https://o.example/a"), "routes.0.path: /openapi.json"),
        (route() + route(path="/vod/{a}/{path}.mp4"), "routes.1.path: routes.0 takes all of it"),
        (route(url="https://{path}/a.m3u8"), "routes.0.url: "),
        (route(url="https://o.example:{path}/a.m3u8"), "routes.0.url"),
        (route(url="https://o.example{path}/a.m3u8"), "routes.0.url"),
        (route(url="{path}://o.example/a.m3u8"), "routes.0.url"),
        (route(url="ftp://o.example/{path}"), "routes.0.url: must be an absolute http"),
        (route(url="https://o.example/../{path}"), "routes.0.url: holds a dot segment"),
        (route(url="https://o.example/{path}#a"), "routes.0.url: must be percent-encoded"),
        (route(url="https://u:p@o.example/{path}"), "routes.0.url: must not hold a user name"),
        (route(quality="huge"), "routes.0.quality: "),
        (route(audio=" "), "routes.0.audio: "),
        (route(on_gap="wait"), "routes.0.on_gap: "),
        (route(on_splice="wait"), "routes.0.on_splice: "),
        (route(filename="a/b.mp4"), "routes.0.filename: must be a bare name"),
        (route(filename="{title}.mp4"), "routes.0.filename: path has no placeholder {title}"),
        (route(allowed_hosts=["a.*"]), "routes.0.allowed_hosts: "),
        (
            route(allowed_hosts=["*"], allow_private_addresses=True),
            "routes.0.allowed_hosts: `*` and allow_private_addresses",
        ),
        (route(require_signature=True), "routes.0.require_signature: there is no key"),
        ("[[routes]]\npath = 5\n", "routes.0.path"),
        ("routes = 5\n", "routes: "),
    ],
)
def test_load_refuses_a_bad_route_naming_the_key(tmp_path: Path, text: str, named: str) -> None:
    """What is wrong with a route is an error at the start, by its number and key."""
    with pytest.raises(ConfigError) as caught:
        Config.load(written(tmp_path, text))
    assert str(caught.value).startswith(named)


def test_load_refuses_a_header_of_a_route_without_showing_it(tmp_path: Path) -> None:
    """A malformed header names its route, and not its value."""
    with pytest.raises(ConfigError) as caught:
        Config.load(written(tmp_path, route() + f'headers = {{ X = "{SECRET}\\r\\n" }}\n'))
    assert str(caught.value).startswith("routes.0.headers: ")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("name", ["REMUXD_ROUTES", "REMUXD_ROUTES__0__PATH"])
def test_load_refuses_routes_of_the_environment(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A route out of the environment is refused instead of being half understood."""
    monkeypatch.setenv(name, "[]")
    with pytest.raises(ConfigError, match="routes stand in the file only"):
        Config.load()


def test_routes_alone_are_enough_to_serve(tmp_path: Path) -> None:
    """A server with routes knows whom it fetches from, and relays nothing else."""
    config = Config.load(written(tmp_path, route()))
    config.check_may_serve()
    assert not config.relay


def test_route_is_open_to_its_own_hosts_only(tmp_path: Path) -> None:
    """A route's policy has its host, port and further hosts; everybody's has none of them."""
    text = "[upstream]\nallowed_hosts = ['public.example']\n" + route(
        url="https://o.example:8443/{path}",
        allowed_hosts=["cdn.example"],
        allow_private_addresses=True,
    )
    config = Config.load(written(tmp_path, text))
    (own,) = config.route_fetch_settings().values()
    assert own.policy.allowed_hosts == ("o.example", "cdn.example")
    assert own.policy.allowed_ports == (80, 443, 8443)
    assert own.policy.allow_private_addresses
    everybody = config.fetch_settings().policy
    assert everybody.allowed_hosts == ("public.example",)
    assert everybody.allowed_ports == (80, 443)
    assert not everybody.allow_private_addresses
