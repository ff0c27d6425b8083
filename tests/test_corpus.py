"""All presentations of the public corpus, from a real HTTP server through a real pipeline.

`payload.py` of the corpus, which knows nothing of us, says what has to come out; where its sections
are joined, `stretches` says whether each kept its times.  Of what is hurt (`robustness`) a table
tells which come out whole and which are refused, and why that is right.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from proxy.errors import ProxyError, StreamAborted
from proxy.fetch.client import Fetcher
from proxy.fetch.settings import Settings as FetchSettings
from proxy.guard.addresses import AddressPolicy
from proxy.pipeline import Pipeline, StreamRequest
from tests.conftest import missing
from tests.support import boxes, elementary
from tests.support.clock import FastClock
from tests.support.expected import Expected, expect
from tests.support.origin import Origin, Request
from tests.support.sources import stretches

# -- what is there ---------------------------------------------------------------------------------

# The names of the presentations, so that each is a test of its own also where there is no corpus.
POSITIVE = [
    "ac3-audio-ts/prog_index.m3u8",
    "aes128-ts/index.m3u8",
    "b-frames-ts/index.m3u8",
    "bbb360-ts/master.m3u8",
    "bipbop2seg-ts/index.m3u8",
    "byterange-ts/master.m3u8",
    "cea608-ts/manifest.m3u8",
    "cmaf-demuxed/playlist.m3u8",
    "diffptsdts-ts/index.m3u8",
    "disc-jump-ts/index.m3u8",
    "disc-text-offset-ts/index.m3u8",
    "ec3-h264-ts/prog_index.m3u8",
    "fmp4-muxed-range/index.m3u8",
    "fmp4-muxed/hls.m3u8",
    "fmp4-range-demuxed/master.m3u8",
    "fmp4-video/main.m3u8",
    "gap-ts/playlist.m3u8",
    "hevc-fmp4-range/index.m3u8",
    "hevc-small-ts/index.m3u8",
    "hevc-ts/loop-disc.m3u8",
    "hevc-ts/once.m3u8",
    "id3-heaac-ts/index.m3u8",
    "id3-video-ts/index.m3u8",
    "iframes-ts/index.m3u8",
    "mp3-audio-ts/manifest.m3u8",
    "multivideo-demuxed-ts/master.m3u8",
    "no-aud-ts/index.m3u8",
    "raw-aac/manifest.m3u8",
    "raw-ac3/prog_index.m3u8",
    "rollover-ts/playlist.m3u8",
    "split-video-audio/master.m3u8",
]

# What must be refused, and how.
NEGATIVE = {
    "neg-ac4-ts/index.m3u8": "unsupported_codec",
    "neg-aes256/media.m3u8": "encrypted_source",
    "neg-cenc-hevc-fmp4/index.m3u8": "encrypted_source",
    "neg-dts-ts/index.m3u8": "unsupported_codec",
    "neg-h264-dts-ts/index.m3u8": "unsupported_codec",
    "neg-latm-ts/index.m3u8": "unsupported_codec",
    "neg-mpeg2-mp2-ts/index.m3u8": "unsupported_codec",
    "neg-mpeg4-ts/index.m3u8": "unsupported_codec",
    "neg-vtt-only/playlist_vtt.m3u8": "no_playable_variant",
    "neg-zerolength-ts/index.m3u8": "corrupt_media",
}

# What is hurt: None where it comes out whole all the same, or the code it is cut with.
ROBUSTNESS = {
    # The clock jumps back by 12 s without a word: a jump that large is a new clock, and packets
    # after it are placed behind those before it.
    "hevc-ts/original-twice-no-disc.m3u8": None,
    # The IV of the original is not documented; the playlist's is right, or close enough: only the
    # first block of a segment depends on it, and that is PAT and stuffing.
    "aes128-vhs/index.m3u8": None,
    # 44,100 Hz becomes 22,050 Hz in the second clip: no sample entry says both.  Playing on would
    # be at the wrong speed, and in silence in the third clip, which has no audio.
    "disc-unrelated-ts/index.m3u8": "splice_incompatible",
    # The first segment has no audio, so that the init segment has left without a track for it when
    # audio appears in the second.
    "missing-frames-ts/index.m3u8": "splice_incompatible",
    # Another sample rate and other PIDs without a tag.
    "pmt-change-nodisc-ts/index.m3u8": "splice_incompatible",
}
LIVE = ["live-bbb360/live-00.m3u8"]

Manifest = dict[str, dict[str, Any]]


@pytest.fixture(scope="session")
def manifest(corpus: Path) -> Manifest:
    """The presentations by the path of their playlist."""
    told = json.loads((corpus / "MANIFEST.json").read_text())
    return {one["entry"]: one for one in told["presentations"]}


@pytest.fixture(scope="session")
def payload(corpus: Path) -> ModuleType:
    """`payload.py` of the corpus, as a module."""
    spec = importlib.util.spec_from_file_location("corpus_payload", corpus / "payload.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_corpus_is_all_tested(manifest: Manifest) -> None:
    """No presentation is without a test."""
    known = {*POSITIVE, *NEGATIVE, *ROBUSTNESS, *LIVE}
    assert set(manifest) == known
    by_class = {"positive": POSITIVE, "negative": NEGATIVE, "robustness": ROBUSTNESS, "live": LIVE}
    assert all(entry in by_class[one["cls"]] for entry, one in manifest.items())


# -- running ---------------------------------------------------------------------------------------


@asynccontextmanager
async def pipeline(clock: FastClock | None = None) -> AsyncIterator[Pipeline]:
    """A pipeline that may fetch from loopback."""
    policy = AddressPolicy(allow_private_addresses=True, allowed_ports=())
    async with (
        Fetcher(FetchSettings(policy=policy)) as fetcher,
        Pipeline(fetcher, clock=clock.clock if clock else None) as one,
    ):
        yield one


async def save(one: Pipeline, url: str, path: Path) -> None:
    """Write a stream to a file, as far as it goes."""
    async with await one.open_stream(StreamRequest(url=url)) as stream:
        with path.open("wb") as file:
            async for part in stream:
                file.write(part)


async def play(corpus: Path, entry: str, path: Path) -> list[str]:
    """Play a presentation into a file; return the paths that were asked for."""
    async with Origin() as origin, pipeline() as one:
        origin.add_folder(corpus)
        await save(one, origin.at(f"/{entry}"), path)
        return [request.path for request in origin.requests]


# -- judging ---------------------------------------------------------------------------------------


def assert_equal_payload(payload: ModuleType, wanted: dict[str, Any], path: Path) -> None:
    """The checksums of the manifest."""
    got = payload.analyse(str(path))
    for kind in ("video", "audio"):
        if wanted[kind] is None:
            assert got[kind] is None, f"{kind} out of nowhere"
        else:
            assert got[kind] is not None, f"no {kind}"
            assert got[kind]["sha256"] == wanted[kind]["sha256"], f"{kind}: other payload"
            assert got[kind]["bytes"] == wanted[kind]["bytes"]


def parameter_sets(payload: ModuleType, path: str) -> str | None:
    """The checksum that counts in-band parameter sets."""
    video = payload.analyse(path)["video"]
    return None if video is None else video.get("sha256_ps")


def source_sections(payload: ModuleType, corpus: Path, entry: str) -> list[tuple[Expected, ...]]:
    """The packets of each section, as `payload.py` cuts the presentation into sections."""
    uri, audio_uri = str(corpus / entry), None
    text = payload.fetch(uri).decode("utf-8-sig")
    if "#EXT-X-STREAM-INF" in text:
        variants, media = payload.parse_master(text)
        variant = max(variants, key=lambda one: int(one.get("BANDWIDTH", 0)))
        group = [one for one in media if one.get("GROUP-ID") == variant.get("AUDIO")]
        group = [one for one in group if one.get("TYPE") == "AUDIO"]
        group.sort(key=lambda one: one.get("DEFAULT") != "YES")
        if group and "URI" in group[0]:
            audio_uri = payload.join(uri, group[0]["URI"])
        uri = payload.join(uri, variant["URI"])
    pictures = _sections(payload, uri, audio=audio_uri is None)
    if audio_uri is None:
        return pictures
    sounds = _sections(payload, audio_uri, video=False)
    return [one + other for one, other in zip(pictures, sounds, strict=True)]


def _sections(
    payload: ModuleType, uri: str, *, video: bool = True, audio: bool = True
) -> list[tuple[Expected, ...]]:
    out = []
    for section in payload.split_pmt(payload.load_media(uri), []):
        data, name = payload.section_source(section)
        out.append(expect(data, format=name, video=video, audio=0 if audio else None))
    return out


def assert_described(path: Path) -> None:
    """Every track has a decoder configuration, and AAC an AudioSpecificConfig."""
    for track in boxes.read(path.read_bytes()).tracks:
        assert track.entry.config, track.entry.kind
        if track.entry.kind == "mp4a":
            esds = elementary.read_esds(track.entry.config)
            if esds.object_type == 0x40:
                assert elementary.read_audio_specific_config(esds.specific).sample_rate


def assert_decodes_in_silence(path: Path) -> None:
    """The ffmpeg command has nothing to complain about."""
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        missing("the ffmpeg command")
        return
    command = [ffmpeg, "-nostdin", "-v", "error", "-i", str(path), "-f", "null", "-"]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0
    assert done.stderr == b""


# -- tests -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", POSITIVE)
async def test_positive(
    entry: str, corpus: Path, manifest: Manifest, payload: ModuleType, tmp_path: Path
) -> None:
    """It comes out whole, in time, decodable; each segment is fetched once, and nothing else is;
    and a second run gives the same bytes."""
    path, again = tmp_path / "one.mp4", tmp_path / "two.mp4"
    asked = await play(corpus, entry, path)
    wanted = manifest[entry]["expected"]
    assert_equal_payload(payload, wanted, path)
    stretches(source_sections(payload, corpus, entry), path.read_bytes())
    assert_described(path)
    assert_decodes_in_silence(path)
    if "range" not in entry and "loop" not in entry:  # these name one file several times
        assert len(asked) == len(set(asked))
    await play(corpus, entry, again)
    assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(path.read_bytes()).digest()


HEVC = [entry for entry in POSITIVE if entry.startswith("hevc")]


@pytest.mark.parametrize("entry", HEVC)
async def test_positive_keeps_parameter_sets(
    entry: str, corpus: Path, payload: ModuleType, tmp_path: Path
) -> None:
    """In-band parameter sets of HEVC are all there, and in place."""
    await play(corpus, entry, tmp_path / "one.mp4")
    ours = parameter_sets(payload, str(tmp_path / "one.mp4"))
    assert ours == parameter_sets(payload, str(corpus / entry))


@pytest.mark.parametrize("entry", NEGATIVE)
async def test_negative(entry: str, corpus: Path, tmp_path: Path) -> None:
    """It is refused before the first byte, with a code that says why."""
    with pytest.raises(ProxyError) as caught:
        await play(corpus, entry, tmp_path / "one.mp4")
    assert caught.value.code == NEGATIVE[entry]
    assert caught.value.detail
    assert not (tmp_path / "one.mp4").exists()


@pytest.mark.parametrize("entry", ROBUSTNESS)
async def test_robustness(
    entry: str, corpus: Path, manifest: Manifest, payload: ModuleType, tmp_path: Path
) -> None:
    """It comes out whole, or is cut where it cannot go on: what came before is in order."""
    path = tmp_path / "one.mp4"
    sections = source_sections(payload, corpus, entry)
    if ROBUSTNESS[entry] is None:
        await play(corpus, entry, path)
        assert_equal_payload(payload, manifest[entry]["expected"], path)
        assert_decodes_in_silence(path)
        return
    with pytest.raises(StreamAborted) as caught:
        await play(corpus, entry, path)
    assert caught.value.cause.code == ROBUSTNESS[entry]
    movie = boxes.read(path.read_bytes())
    assert_decodes_in_silence(path)
    pictures = sections[0][0]
    assert 0 < len(movie.samples(movie.track("vide"))) <= len(pictures.packets)


@pytest.mark.parametrize("kind", ["live", "event"])
async def test_live(
    kind: str, corpus: Path, manifest: Manifest, payload: ModuleType, tmp_path: Path
) -> None:
    """Snapshots of a live playlist under one address: every segment once, until the end."""
    clock = FastClock()
    began_s = clock.now_s

    def snapshot(request: Request) -> bytes:
        number = min(int((clock.now_s - began_s) / 7), 3)
        return (corpus / "live-bbb360" / f"{kind}-0{number}.m3u8").read_bytes()

    async with Origin() as origin, pipeline(clock) as one:
        origin.add_folder(corpus)
        url = origin.add("/live-bbb360/live.m3u8", snapshot)
        async with asyncio.timeout(20):
            await save(one, url, tmp_path / "one.mp4")
        segments = [request.path for request in origin.requests if request.path.endswith(".ts")]
    assert len(segments) == len(set(segments)) == 6
    path = tmp_path / "one.mp4"
    assert_equal_payload(payload, manifest[LIVE[0]]["expected"], path)
    stretches(source_sections(payload, corpus, "bbb360-ts/master.m3u8"), path.read_bytes())
    assert_decodes_in_silence(path)
    (movie,) = [boxes.read(path.read_bytes())]
    assert all(track.duration == 0 for track in movie.tracks)


async def test_only_the_chosen_variant_is_fetched(corpus: Path, tmp_path: Path) -> None:
    """Of the other variants not even the playlist is asked for."""
    entry = "multivideo-demuxed-ts/master.m3u8"
    asked = await play(corpus, entry, tmp_path / "one.mp4")
    playlists = [path for path in asked if path.endswith(".m3u8")]
    assert len(playlists) == 3
