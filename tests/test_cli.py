"""The command line, as a user has it: processes, files, exit codes, signals."""

import asyncio
import contextlib
import json
import os
import pty
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from proxy.media import libav
from tests.support.client import TIMEOUT_S, Conversation, ask, stream_target
from tests.support.clips import hls, make_clip
from tests.support.faults import Status, Truncate
from tests.support.fidelity import assert_faithful
from tests.support.fmp4 import make_fmp4
from tests.support.origin import Gate, Origin
from tests.support.served import LOOPBACK, Running, curl, running
from tests.support.tls import Authority

PRIVATE = "--allow-private-addresses"


@contextlib.asynccontextmanager
async def clip_origin() -> AsyncIterator[tuple[Origin, str]]:
    """An origin with a clip of 6 s, and the address of its playlist."""
    async with Origin() as origin:
        for path, body in hls(make_clip(seconds=6)).items():
            origin.add(f"/{path}", body)
        yield origin, origin.at("/media.m3u8")


async def checked(*options: str, **environment: str) -> int | None:
    """The exit code of `healthcheck`."""
    async with running("proxy", "healthcheck", *options, environment=environment) as run:
        return await run.ended()


# -- serve -----------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def serving(**changes: str) -> AsyncIterator[tuple[Running, str]]:
    environment = {**LOOPBACK, **changes}
    async with running("proxy", "serve", "--port", "0", environment=environment) as run:
        line = await run.until_said("listening on")
        yield run, line.rpartition(" ")[2]


@contextlib.asynccontextmanager
async def serving_a_stream(
    **changes: str,
) -> AsyncIterator[tuple[Running, str, Conversation, Gate]]:
    """A server with one stream under way, which the origin holds up until the gate opens."""
    async with clip_origin() as (origin, url), serving(**changes) as (run, address):
        gate = origin.hold("/segment2.ts", after_bytes=5000)
        async with await Conversation.open(address) as conversation:
            conversation.request(stream_target(url))
            await gate.reached()
            yield run, address, conversation, gate


async def test_serve_tells_its_libraries() -> None:
    """Once it listens it says which FFmpeg it has, and what an operator should do about an old
    one; libav's own lines come through the same log."""
    async with Origin() as origin, serving() as (run, address):
        assert "FFmpeg" in await run.until_said("PyAV")
        playlist = '#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MAP:URI="i"\n#EXTINF:2,\ns\n'
        origin.add("/media.m3u8", (playlist + "#EXT-X-ENDLIST\n").encode())
        source = make_fmp4()
        place = source.segments[0].index(b"tfhd") + 8
        of_no_track = source.segments[0][:place] + b"\0\0\0\x63" + source.segments[0][place + 4 :]
        origin.add("/i", source.init)
        origin.add("/s", of_no_track)
        reply = await ask(address, stream_target(origin.at("/media.m3u8")))
        assert reply.json()["code"] == "corrupt_media"
        assert "error reading header" not in reply.body.decode()
        assert "WARNING proxy.media.libav " in await run.until_said("error reading header")
        assert "error reading header" in await run.until_said("outcome=corrupt_media")
        told = [line for line in run.said if "update PyAV" in line]
        assert len(told) == (libav.warning() is not None)


async def test_serve_answers_and_ends_with_sigterm() -> None:
    """It says where it listens, serves the source, logs one line, and ends with exit code 0."""
    async with clip_origin() as (_, url), serving() as (run, address):
        reply = await ask(address, stream_target(url))
        assert_faithful(make_clip(seconds=6).data, reply.body)
        line = await run.until_said("outcome=complete")
        assert f"bytes={len(reply.body)}" in line
        run.process.send_signal(signal.SIGTERM)
        assert await run.ended() == 0


@pytest.mark.parametrize(
    ("version", "code"),
    [("--http1.1", 18), ("--http1.0", 56)],  # partial file; failure receiving: connection reset
)
async def test_serve_makes_curl_fail_where_a_stream_breaks(version: str, code: int) -> None:
    """A broken stream is no success for curl, whichever HTTP it speaks."""
    async with clip_origin() as (origin, url), serving() as (_, address):
        origin.fault("/segment2.ts", Truncate(5000))
        assert (await curl(version, address + stream_target(url)))[0] == code


async def test_serve_lets_a_stream_finish_after_sigterm() -> None:
    """Not ready at once, nothing new, and the running stream comes whole."""
    async with serving_a_stream() as (run, address, conversation, gate):
        run.process.send_signal(signal.SIGTERM)
        await run.until_said("stopping")
        assert (await ask(address, "/readyz")).status == 503
        refused = await ask(address, stream_target())
        assert (refused.status, refused.json()["code"]) == (503, "overloaded")
        gate.open()
        reply = await conversation.reply()
        assert (reply.status, reply.ended) == (200, "complete")
        assert await run.ended() == 0


async def test_serve_cuts_a_stream_at_the_end_of_the_drain() -> None:
    """What does not end in `drain_s` is cut visibly, and the exit code is still 0."""
    async with serving_a_stream(REMUXD_SERVER__DRAIN_S="0.1") as (run, _, conversation, _gate):
        run.process.send_signal(signal.SIGTERM)
        assert (await conversation.reply()).ended == "cut"
        await run.until_said("outcome=shutdown")
        assert await run.ended() == 0


@pytest.mark.parametrize("signals", [[signal.SIGTERM, signal.SIGTERM], [signal.SIGINT]])
async def test_serve_ends_now_when_told_so(signals: list[signal.Signals]) -> None:
    """A second SIGTERM, or Ctrl-C, does not wait."""
    async with serving_a_stream(REMUXD_SERVER__DRAIN_S="3600") as (run, _, conversation, _gate):
        for signum in signals:
            run.process.send_signal(signum)
            await run.until_said("stopping")
        assert (await conversation.reply()).ended == "cut"
        assert await run.ended() == 0


async def test_serve_logs_json_when_told_so() -> None:
    """With log.format = json each line is an object; the outcome's fields stand in it."""
    changes = {"REMUXD_LOG__FORMAT": "json"}
    async with (
        clip_origin() as (origin, url),
        running("proxy", "serve", "--port", "0", environment={**LOOPBACK, **changes}) as run,
    ):
        line = await run.until_said("listening on")
        address = json.loads(line)["message"].rpartition(" ")[2]
        origin.fault("/media.m3u8", Status(404))
        await ask(address, stream_target(f"{url}?token=canary"))
        outcome = json.loads(await run.until_said("source_not_found"))
        assert (outcome["outcome"], outcome["status"]) == ("source_not_found", 404)
        assert not [said for said in run.said if "canary" in said]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"REMUXD_UPSTREAM__ALLOWED_HOSTS": ""}, "upstream.allowed_hosts"),
        ({"REMUXD_UPSTREAM__ALLOWED_HOSTS": "*"}, "security.open_relay"),
        ({"REMUXD_SECURITY__REQUIRE_SIGNATURE": "1"}, "security.signing_keys"),
        (
            {"REMUXD_SECURITY__SIGNING_KEYS": "weak:canary"},
            "security.signing_keys: the secret of 'weak'",
        ),
        ({"REMUXD_SERVER__PROT": "1"}, "server.prot"),
        ({"REMUXD_SERVER__UNIX_SOCKET": "/nowhere/socket"}, "server.unix_socket"),
        ({"REMUXD_SERVER__HOST": "nowhere.invalid"}, "server.host"),
        ({"REMUXD_CONFIG": "/nowhere/config.toml"}, "/nowhere/config.toml"),
    ],
)
async def test_serve_refuses_a_bad_configuration(changes: dict[str, str], named: str) -> None:
    """Exit code 78, one line that names the key, no traceback."""
    async with running("proxy", "serve", environment={**LOOPBACK, **changes}) as run:
        assert await run.ended() == 78
    assert len(run.said) == 1
    assert named in run.said[0]


async def test_serve_on_a_port_that_is_taken() -> None:
    """One line, which says what to do, and exit code 1."""
    async with Origin() as origin:
        command = ("proxy", "serve", "--port", str(origin.port))
        async with running(*command, environment=LOOPBACK) as run:
            assert await run.ended() == 1
    assert "in use" in run.said[-1]
    assert "--port" in run.said[-1]
    assert not [line for line in run.said if "Traceback" in line]


async def test_serve_asked_to_fetch_from_itself() -> None:
    """Its own address is refused like any other that is not allowed, and gets no request."""
    async with serving() as (run, address):
        reply = await ask(address, stream_target(address + stream_target()))
        assert (reply.status, reply.json()["code"]) == (403, "forbidden")
        await run.until_said("outcome=forbidden")
        assert len([line for line in run.said if "outcome=" in line or "refused" in line]) == 1


# -- sign ------------------------------------------------------------------------------------------

SIGNED = {
    **LOOPBACK,
    "REMUXD_SECURITY__SIGNING_KEYS": f"new:{'canary-1' * 4},old:{'canary-2' * 4}",
    "REMUXD_SECURITY__REQUIRE_SIGNATURE": "true",
    "REMUXD_UPSTREAM__ALLOWED_HOSTS": "",  # signatures say who may fetch what
}


async def signed(*options: str, environment: dict[str, str] = SIGNED) -> tuple[int, str, list[str]]:
    """Exit code, what was said on stdout, and what on stderr."""
    async with running("proxy", "sign", *options, environment=environment) as run:
        code, out = await run.finished()
    return code, out.decode(), run.said


async def test_healthcheck_asks_the_server_of_its_configuration() -> None:
    """0 while it answers; with --ready not when it drains; 1 where there is none."""
    async with serving_a_stream() as (run, address, _, _gate):
        where = {"REMUXD_SERVER__PORT": str(urlsplit(address).port)}
        assert await checked(**where) == 0
        assert await checked("--ready", **where) == 0
        run.process.send_signal(signal.SIGTERM)
        await run.until_said("stopping")
        assert await checked(**where) == 0
        assert await checked("--ready", **where) == 1
    assert await checked(**where) == 1


async def test_healthcheck_asks_behind_the_base_path() -> None:
    """/healthz is where everything else of the server is."""
    async with serving(REMUXD_SERVER__BASE_PATH="/m") as (_, address):
        port = {"REMUXD_SERVER__PORT": str(urlsplit(address).port)}
        assert await checked(REMUXD_SERVER__BASE_PATH="/m", **port) == 0
        assert await checked(**port) == 1


async def test_healthcheck_asks_on_a_unix_socket(tmp_path: Path) -> None:
    """Where the server has no port, its socket is asked."""
    where = {"REMUXD_SERVER__UNIX_SOCKET": str(tmp_path / "s")}
    async with running("proxy", "serve", environment={**LOOPBACK, **where}) as run:
        await run.until_said("listening on")
        assert await checked(**where) == 0
    assert await checked(**where) == 1


async def test_sign_prints_a_link_that_the_server_takes() -> None:
    """The address is whole, with every option in it; without the signature it is refused."""
    async with clip_origin() as (_, url), serving(**SIGNED) as (run, address):
        code, out, said = await signed(
            f"{url}?a=1&b=2", "--base", f"{address}/stream", "--quality", "best", "--end", "4",
            "--on-gap", "skip", "--on-splice", "skip", "--filename", "a b.mp4", "--start", "1",
            "--audio", "en", "--expires-in", "60",
        )  # fmt: skip
        assert (code, said, out.count("\n")) == (0, [], 1)
        link = out.strip()
        assert "&key_id=new&" in link
        target = link.removeprefix(address)
        reply = await ask(address, target)
        assert (reply.status, reply.ended) == (200, "complete")
        assert reply.header("content-disposition") == 'attachment; filename="a b.mp4"'
        assert (await ask(address, target.replace("end=4", "end=5"))).status == 403
        assert (await ask(address, stream_target(url))).status == 403
        assert not [line for line in run.said if "canary" in line]


async def test_sign_of_a_route_holds_for_its_path(tmp_path: Path) -> None:
    """A path instead of an address gives a link to a route, which the server takes."""
    file = tmp_path / "config.toml"
    async with clip_origin() as (origin, _):
        file.write_text(
            f"[[routes]]\npath = '/vod/{{name}}.mp4'\nurl = '{origin.url}/{{name}}.m3u8'\n"
        )
        changes = {**SIGNED, "REMUXD_CONFIG": str(file), "REMUXD_SERVER__BASE_PATH": "/m"}
        async with serving(**changes) as (_, address):
            code, out, said = await signed(
                "/vod/media.mp4",
                "--base",
                address,
                "--end",
                "4",
                environment={**LOOPBACK, **changes},
            )
            assert (code, said) == (0, [])
            assert address.endswith("/m")
            target = out.strip().removeprefix(address.removesuffix("/m"))
            assert target.startswith("/m/vod/media.mp4?end=4&expires=")
            assert (await ask(address, target)).status == 200
            assert (await ask(address, "/m/vod/media.mp4")).status == 403
            assert (await ask(address, target.replace("media.mp4", "other.mp4"))).status == 403


@pytest.mark.parametrize("options", [("/none",), ("/vod/a.mp4", "--on-gap", "skip")])
async def test_sign_refuses_what_no_route_would_take(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    """A link that the server would refuse is not made."""
    file = tmp_path / "config.toml"
    file.write_text("[[routes]]\npath = '/vod/{name}.mp4'\nurl = 'https://o.example/{name}'\n")
    code, out, said = await signed(*options, environment={**SIGNED, "REMUXD_CONFIG": str(file)})
    assert code in {1, 2}
    assert out == ""
    assert said


async def test_sign_without_base_leads_to_the_server_of_the_configuration() -> None:
    """The default is where `serve` listens, by the same configuration."""
    changes = {"REMUXD_SERVER__PORT": "9000", "REMUXD_SERVER__BASE_PATH": "/media"}
    code, out, _ = await signed("http://a.example/b", environment={**SIGNED, **changes})
    assert code == 0
    assert out.startswith("http://127.0.0.1:9000/media/stream?expires=")


@pytest.mark.parametrize(
    ("options", "environment", "code", "named"),
    [
        (["http://a/b"], {}, 78, "security.signing_keys"),
        (["http://a/b"], {"REMUXD_SECURITY__SIGNING_KEYS": "a:canary"}, 78, "'a'"),
        (["ftp://a/b"], SIGNED, 1, "`url`"),
        (["http://a/b", "--quality", "huge"], SIGNED, 1, "`quality`"),
        (["http://a/b", "--expires-in", "86401"], SIGNED, 2, "security.signature_lifetime_s"),
        (["http://a/b", "--expires-in", "0"], SIGNED, 2, "--expires-in"),
        (["http://a/b", "--base", "http://p/stream?a=b"], SIGNED, 2, "--base"),
        (["http://a/b", "--base", "/stream"], SIGNED, 2, "--base"),
    ],
)
async def test_sign_refuses_what_no_server_would_take(
    options: list[str], environment: dict[str, str], code: int, named: str
) -> None:
    """What is wrong is told when signing, not to whom the link is given; no secret is shown."""
    ended, out, said = await signed(*options, environment=environment)
    assert (ended, out) == (code, "")
    assert named in "\n".join(said)
    assert "canary" not in "\n".join(said)


# -- save ------------------------------------------------------------------------------------------


def files(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


async def test_save_gives_the_file_its_name_when_it_is_whole(tmp_path: Path) -> None:
    """The file is the source, nothing else is left, and nothing is said off a terminal."""
    target = tmp_path / "out.mp4"
    async with clip_origin() as (_, url):
        async with running("proxy", "save", url, PRIVATE, "-o", str(target)) as run:
            assert await run.ended() == 0
    assert_faithful(make_clip(seconds=6).data, target.read_bytes())
    assert files(tmp_path) == ["out.mp4"]
    assert run.said == []


async def test_save_writes_to_standard_output() -> None:
    """`-o -` gives the bytes and nothing but them."""
    async with clip_origin() as (_, url):
        async with running("proxy", "save", url, PRIVATE, "-o", "-") as run:
            code, out = await run.finished()
    assert code == 0
    assert_faithful(make_clip(seconds=6).data, out)


async def test_save_keeps_what_came_of_a_stream_that_breaks(tmp_path: Path) -> None:
    """Exit code 1, the reason, and a `.part` instead of the file."""
    target = tmp_path / "out.mp4"
    target.write_bytes(b"an older one")
    async with clip_origin() as (origin, url):
        origin.fault("/segment2.ts", Truncate(5000))
        async with running("proxy", "save", url, PRIVATE, "-o", str(target)) as run:
            assert await run.ended() == 1
    assert target.read_bytes() == b"an older one"
    assert (tmp_path / "out.mp4.part").read_bytes()[4:8] == b"ftyp"
    assert "out.mp4.part" in run.said[0]
    assert "source_unavailable" in run.said[-1]
    assert not [line for line in run.said if "Traceback" in line]


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["http://127.0.0.1:9/a.m3u8"], 1, "--allow-private-addresses"),
        (["http://127.0.0.1:9/a.m3u8", "--start", "5", "--end", "5"], 1, "`end`"),
        (["http://127.0.0.1:9/a.m3u8", PRIVATE], 1, "source_unavailable"),
        (["nonsense"], 1, "`url`"),
        (["http://127.0.0.1:9/a.m3u8", "--quality", "huge"], 1, "`quality`"),
        ([], 2, "URL"),
    ],
)
async def test_save_of_a_source_that_fails_leaves_nothing(
    tmp_path: Path, arguments: list[str], code: int, named: str
) -> None:
    """One line says why, and no file is made."""
    command = ("proxy", "save", *arguments, "-o", str(tmp_path / "out.mp4"))
    async with running(*command, environment={}) as run:
        assert await run.ended() == code
    assert files(tmp_path) == []
    assert named in run.said[-1]
    assert not [line for line in run.said if "Traceback" in line]


async def test_save_into_a_directory(tmp_path: Path) -> None:
    """A wrong command line, and nothing is fetched for it."""
    async with clip_origin() as (origin, url):
        async with running("proxy", "save", url, PRIVATE, "-o", str(tmp_path)) as run:
            assert await run.ended() == 2
        assert origin.connections == []
    assert "--output" in run.said[-1]
    assert "is a directory" in run.said[-1]
    assert files(tmp_path) == []


# -- the configuration of save and inspect ---------------------------------------------------------


@contextlib.asynccontextmanager
async def asking(
    url: str, *options: str, environment: dict[str, str] | None = None
) -> AsyncIterator[Running]:
    """`inspect` at work, with no environment but this."""
    command = ("proxy", "inspect", url, "--json", *options)
    async with running(*command, environment=environment or {}) as run:
        yield run


async def test_upstream_of_a_file(tmp_path: Path) -> None:
    """Certificates and headers of the file are used, by both commands, named either way; other
    sections do not matter."""
    file, target = tmp_path / "remuxd.toml", tmp_path / "out.mp4"
    authority = Authority(tmp_path)
    async with Origin(tls=authority.server()) as origin:
        for path, body in hls(make_clip(seconds=6)).items():
            origin.add(f"/{path}", body)
        url = origin.at("/media.m3u8")
        async with asking(url, PRIVATE) as run:
            assert await run.ended() == 1
        assert "source_unavailable" in run.said[-1]
        file.write_text(
            f"""
            [upstream]
            ca_file = "{authority.ca_file}"
            allow_private_addresses = true
            [upstream.headers."{origin.url}"]
            Authorization = "Bearer secret"
            [limits]
            streams = 1
            """
        )
        async with asking(url, "--config", str(file)) as run:
            code, out = await run.finished()
        assert (code, json.loads(out)["copyable"]) == (0, True)
        assert {one.headers.get("authorization") for one in origin.requests} == {"Bearer secret"}
        environment = {"REMUXD_CONFIG": str(file)}
        command = ("proxy", "save", url, "-o", str(target))
        async with running(*command, environment=environment) as run:
            assert await run.ended() == 0
    assert_faithful(make_clip(seconds=6).data, target.read_bytes())


async def test_upstream_of_the_environment() -> None:
    """Private addresses, hosts, ports and the proxy are what the environment says."""
    private = {"REMUXD_UPSTREAM__ALLOW_PRIVATE_ADDRESSES": "true"}
    async with clip_origin() as (origin, url):
        async with asking(url, environment=private) as run:
            assert await run.ended() == 0
        for name, value in (("ALLOWED_HOSTS", "example.org"), ("ALLOWED_PORTS", "443")):
            told = {**private, f"REMUXD_UPSTREAM__{name}": value}
            async with asking(url, PRIVATE, environment=told) as run:
                assert await run.ended() == 1
            assert "forbidden" in run.said[-1]
        origin.requests.clear()
        through = {"REMUXD_UPSTREAM__PROXY": origin.url}
        async with asking("http://far.example/media.m3u8", environment=through) as run:
            assert await run.ended() == 0
        assert origin.requests[0].target == "http://far.example/media.m3u8"


@pytest.mark.parametrize(
    ("command", "text", "named"),
    [
        (["inspect"], "[upstream]\nprxy = 1", "upstream.prxy"),
        (["inspect"], '[upstream]\nca_file = "/nowhere/ca.pem"', "ca_file"),
        (["save", "-o", "-"], '[upstream]\nallowed_networks = ["all"]', "upstream"),
    ],
)
async def test_upstream_of_a_bad_configuration(
    tmp_path: Path, command: list[str], text: str, named: str
) -> None:
    """Exit code 78, one line that names the key."""
    file = tmp_path / "remuxd.toml"
    file.write_text(text)
    arguments = (*command, "http://127.0.0.1:9/", "--config", str(file))
    async with running("proxy", *arguments, environment={}) as run:
        assert await run.ended() == 78
    assert len(run.said) == 1
    assert named in run.said[0]


async def test_save_shows_progress_on_a_terminal(tmp_path: Path) -> None:
    """Bytes, seconds of media and speed, where somebody watches."""
    master, slave = pty.openpty()
    async with clip_origin() as (_, url):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "proxy", "save", url, PRIVATE, "-o", str(tmp_path / "out.mp4"),
            stderr=slave, env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
        )  # fmt: skip
        os.close(slave)
        shown = asyncio.create_task(asyncio.to_thread(_read_all, master))
        assert await asyncio.wait_for(process.wait(), TIMEOUT_S) == 0
        text = (await shown).decode()
    os.close(master)
    assert "0:06 of 0:06" in text
    assert "MB/s" in text


def _read_all(descriptor: int) -> bytes:
    data = b""
    with contextlib.suppress(OSError):  # EIO: the other end is closed
        while more := os.read(descriptor, 65536):
            data += more
    return data


# -- inspect ---------------------------------------------------------------------------------------


async def test_inspect_prints_a_table_or_json() -> None:
    """The table is for people, `--json` is everything."""
    async with clip_origin() as (_, url):
        async with running("proxy", "inspect", url, PRIVATE) as run:
            code, table = await run.finished()
        assert code == 0
        assert "copyable" in table.decode()
        async with running("proxy", "inspect", url, PRIVATE, "--json") as run:
            code, out = await run.finished()
    report = json.loads(out)
    assert (code, report["kind"], report["copyable"]) == (0, "media", True)


async def test_inspect_shows_hostile_names_as_they_are() -> None:
    """What a playlist says is no markup, and no terminal control."""
    lines = [
        "#EXTM3U",
        '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="[/bold] [red]",LANGUAGE="en"',
        '#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO="a"',
        "media.m3u8",
    ]
    async with clip_origin() as (origin, _):
        url = origin.add("/main.m3u8", "\n".join(lines).encode())
        async with running("proxy", "inspect", url, PRIVATE) as run:
            code, table = await run.finished()
    assert code == 0
    assert "[/bold]" in table.decode()


async def test_page_on_the_command_line(tmp_path: Path) -> None:
    """`save` and `inspect` take a page as well, and tell what it offers."""
    target = tmp_path / "out.mp4"
    async with clip_origin() as (origin, _):
        origin.fault("/robots.txt", Status(404))
        url = origin.add("/watch.html", "<title>[red]Walk</title><video src=media.m3u8></video>")
        async with running("proxy", "save", url, PRIVATE, "-o", str(target)) as run:
            assert await run.ended() == 0
        async with running("proxy", "inspect", url, PRIVATE) as run:
            code, out = await run.finished()
    assert_faithful(make_clip(seconds=6).data, target.read_bytes())
    assert code == 0
    assert "[red]Walk" in out.decode()
    assert "what the page offers" in out.decode()


async def test_page_on_the_command_line_by_the_configuration(tmp_path: Path) -> None:
    """The section `extract` holds there, too."""
    file = tmp_path / "config.toml"
    file.write_text("[extract]\nenabled = false")
    async with clip_origin() as (origin, _):
        url = origin.add("/watch.html", "<video src=media.m3u8></video>")
        command = ("proxy", "inspect", url, PRIVATE, "--config", str(file))
        async with running(*command, environment={}) as run:
            assert await run.ended() == 1
    assert "extract.enabled" in run.said[-1]
