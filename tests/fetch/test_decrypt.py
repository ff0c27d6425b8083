"""AES-128 in every cut of its chunks, and as a sink behind a real prefetcher and origin.

Ciphertext is made with OpenSSL's own program where it is compared, else with `cryptography`.
"""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import (
    CorruptMedia,
    EncryptedSource,
    KeyUnavailable,
    SourceTooLarge,
    SourceUnavailable,
)
from proxy.fetch import Fetcher, Prefetcher
from proxy.fetch.decrypt import DecryptingSink, Decryptor, iv_for, read_init_section
from proxy.fetch.keys import KeyRing
from proxy.hls.model import ByteRange, InitSection, Key, MediaPlaylist, Segment
from proxy.hls.parse import parse_playlist
from tests.conftest import missing
from tests.fetch.helpers import Collector, quick
from tests.support.fmp4 import make_fmp4
from tests.support.origin import CloseDelimited, Origin, Status, Truncate

KEY, KEY_2 = b"sixteen secrets!", bytes(range(16))
IV = bytes.fromhex("000000000000a5a50000000000000001")
CLIP = b"G" + bytes(range(256)) * 1000  # no whole number of blocks
CAP = 1_000_000


def encrypted(plain: bytes, key: bytes = KEY, iv: bytes = IV, *, padded: bool = True) -> bytes:
    if padded:
        padder = PKCS7(128).padder()
        plain = padder.update(plain) + padder.finalize()
    encryptor = Cipher(AES128(key), CBC(iv)).encryptor()
    return encryptor.update(plain) + encryptor.finalize()


def openssl(plain: bytes, key: bytes = KEY, iv: bytes = IV, *, direction: str = "-e") -> bytes:
    """What another implementation makes of it."""
    if shutil.which("openssl") is None:
        missing("the openssl program")
    command = ["openssl", "enc", direction, "-aes-128-cbc", "-K", key.hex(), "-iv", iv.hex()]
    return subprocess.run(command, input=plain, capture_output=True, check=True).stdout


def sequence_iv(sequence: int) -> bytes:
    return bytes(8) + sequence.to_bytes(8, "big")


def decrypted(chunks: Iterable[bytes], key: bytes = KEY, iv: bytes = IV) -> bytes:
    decryptor = Decryptor(key, iv)
    return b"".join([decryptor.update(chunk) for chunk in chunks]) + decryptor.finish()


# -- one resource ----------------------------------------------------------------------------------


def test_decrypt_of_openssl() -> None:
    """What OpenSSL encrypted comes out as it was."""
    for size_bytes in (0, 1, 15, 16, 17, 188, len(CLIP)):
        plain = CLIP[:size_bytes]
        cipher = openssl(plain)
        assert decrypted([cipher]) == plain
        assert cipher == encrypted(plain)


@given(
    plain=st.binary(max_size=200),
    cuts=st.lists(st.integers(0, 220)),
    key=st.binary(min_size=16, max_size=16),
    iv=st.binary(min_size=16, max_size=16),
)
def test_decrypt_in_chunks(plain: bytes, cuts: list[int], key: bytes, iv: bytes) -> None:
    """However it is cut into chunks, the same comes out, and all but the last block at once."""
    cipher = encrypted(plain, key, iv)
    decryptor = Decryptor(key, iv)
    given_bytes, begin, parts = 0, 0, []
    for end in [*sorted(cuts), len(cipher)]:
        chunk = cipher[begin:end]
        begin = max(begin, min(end, len(cipher)))
        parts.append(decryptor.update(chunk))
        given_bytes += len(parts[-1])
        assert given_bytes == 16 * max(0, begin // 16 - 1)
    parts.append(decryptor.finish())
    assert len(parts[-1]) < 16
    assert b"".join(parts) == plain


def test_decrypt_byte_by_byte() -> None:
    """Chunks of one byte do as well."""
    cipher = encrypted(CLIP[:1000])
    assert decrypted(cipher[at : at + 1] for at in range(len(cipher))) == CLIP[:1000]


@pytest.mark.parametrize("missing_bytes", [1, 8, 15, 16, 17, 32, 256])
def test_decrypt_cut(missing_bytes: int) -> None:
    """A body that lost its end is corrupt."""
    cipher = encrypted(bytes(240))
    assert len(cipher) == 256
    with pytest.raises(CorruptMedia):
        decrypted([cipher[: len(cipher) - missing_bytes]])


def test_decrypt_each_padding() -> None:
    """Any number of bytes of that value, from 1 to 16, is padding."""
    for size in range(1, 17):
        plain = bytes(32 - size)
        assert decrypted([encrypted(plain + bytes([size]) * size, padded=False)]) == plain


@pytest.mark.parametrize("ending", ["00", "11", "ff", "020303", "010f", "0f" + "10" * 15])
def test_decrypt_bad_padding(ending: str) -> None:
    """Anything else at the end is corrupt."""
    tail = bytes.fromhex(ending)
    plain = bytes(32 - len(tail)) + tail
    with pytest.raises(CorruptMedia, match="padding"):
        decrypted([encrypted(plain, padded=False)])


def test_decrypt_wrong_key() -> None:
    """Another key shows at the end at the latest."""
    with pytest.raises(CorruptMedia, match="padding"):
        decrypted([encrypted(CLIP)], key=KEY_2)


def test_decrypt_wrong_iv() -> None:
    """Another IV spoils the first block and nothing else: it cannot be noticed here."""
    plain = decrypted([encrypted(CLIP)], iv=bytes(16))
    assert plain != CLIP
    assert plain[16:] == CLIP[16:]


def test_decryptor_of_another_size() -> None:
    """AES of other key sizes is not built by mistake."""
    for size_bytes in (0, 15, 24, 32):
        with pytest.raises(ValueError, match="key"):
            Decryptor(bytes(size_bytes), IV)
    with pytest.raises(ValueError, match="IV"):
        Decryptor(KEY, IV[:8])


def test_decryptor_shows_no_secret() -> None:
    """Neither its repr nor its attributes hold the key or the IV."""
    decryptor = Decryptor(KEY, IV)
    for text in (repr(decryptor), repr(vars(decryptor))):
        for secret in (KEY, IV):
            assert repr(secret)[2:-1] not in text
            assert secret.hex() not in text


@pytest.mark.parametrize(
    ("iv", "sequence", "expected"),
    [
        (None, 0, "00000000000000000000000000000000"),
        (None, 7, "00000000000000000000000000000007"),
        (None, 2**64 - 1, "0000000000000000ffffffffffffffff"),
        (IV, 7, "000000000000a5a50000000000000001"),
        (bytes(16), 7, "00000000000000000000000000000000"),
    ],
)
def test_iv_for(iv: bytes | None, sequence: int, expected: str) -> None:
    """The IV is the explicit one, be it zero, else the sequence number in 128 bits, big-endian."""
    key = Key(method="AES-128", uri="https://example.org/key", iv=iv)
    assert iv_for(key, sequence).hex() == expected


# -- the sink --------------------------------------------------------------------------------------


async def all_of(segments: Iterable[Segment]) -> AsyncIterator[Segment]:
    for segment in segments:
        yield segment


def segments_of(text: str, base_url: str) -> tuple[Segment, ...]:
    playlist = parse_playlist("#EXTM3U\n" + text + "#EXT-X-ENDLIST\n", base_url)
    assert isinstance(playlist, MediaPlaylist)
    return playlist.segments


async def deliver(fetcher: Fetcher, segments: Iterable[Segment], sink: Collector) -> None:
    """Deliver with several segments in flight."""
    async with KeyRing(fetcher) as keys:
        prefetcher = Prefetcher(fetcher, allowance=lambda: CAP)
        prefetcher.widen()
        await prefetcher.deliver(all_of(segments), DecryptingSink(sink, keys))


async def test_sink_follows_the_playlist() -> None:
    """Explicit IV, IV from the sequence number, another key and METHOD=NONE each hold from their
    tag on; each key is fetched once."""
    playlist = """
        #EXT-X-MEDIA-SEQUENCE:41
        #EXTINF:4,
        41.ts
        #EXT-X-KEY:METHOD=AES-128,URI="one.key"
        #EXTINF:4,
        42.ts
        #EXTINF:4,
        43.ts
        #EXT-X-KEY:METHOD=AES-128,URI="two.key",IV=0xa5a50000000000000001
        #EXTINF:4,
        44.ts
        #EXT-X-KEY:METHOD=NONE
        #EXTINF:4,
        45.ts
        #EXT-X-KEY:METHOD=AES-128,URI="one.key",IV=0xa5a50000000000000001
        #EXTINF:4,
        46.ts
    """.replace(" " * 8, "")
    clips = {number: CLIP[number:] for number in range(41, 47)}
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        origin.add("/one.key", KEY)
        origin.add("/two.key", KEY_2)
        origin.add("/41.ts", clips[41])
        origin.add("/42.ts", openssl(clips[42], KEY, sequence_iv(42)))
        origin.add("/43.ts", openssl(clips[43], KEY, sequence_iv(43)))
        origin.add("/44.ts", openssl(clips[44], KEY_2, IV))
        origin.add("/45.ts", clips[45])
        origin.add("/46.ts", openssl(clips[46], KEY, IV))
        sink = Collector()
        await deliver(fetcher, segments_of(playlist, origin.at("/index.m3u8")), sink)
        assert {number: bytes(part) for number, part in sink.parts.items()} == clips
        assert sink.calls == [f"{call} {number}" for number in clips for call in ("begin", "end")]
        assert len(origin.asked("/one.key")) == len(origin.asked("/two.key")) == 1


async def test_sink_with_byte_ranges() -> None:
    """A byte range is a range of the ciphertext, and CBC starts anew in it."""
    parts = {number: CLIP[: 500 + number] for number in range(3)}
    ciphers = {number: openssl(part, KEY, sequence_iv(number)) for number, part in parts.items()}
    lines = "".join(f"#EXTINF:4,\n#EXT-X-BYTERANGE:{len(c)}\nall.ts\n" for c in ciphers.values())
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        origin.add("/key", KEY)
        origin.add("/all.ts", b"".join(ciphers.values()))
        text = '#EXT-X-KEY:METHOD=AES-128,URI="key"\n' + lines
        sink = Collector()
        await deliver(fetcher, segments_of(text, origin.at("/index.m3u8")), sink)
        assert {number: bytes(part) for number, part in sink.parts.items()} == parts


def encrypted_segments(origin: Origin, count: int) -> list[Segment]:
    """Segments 0, 1, ... with a key of each one's own."""
    segments = []
    for number in range(count):
        key = Key(method="AES-128", uri=origin.add(f"/{number}.key", KEY), iv=IV)
        uri = origin.add(f"/{number}.ts", encrypted(CLIP))
        segments.append(
            Segment(uri=uri, duration_s=4.0, sequence=number, discontinuity_sequence=0, key=key)
        )
    return segments


async def test_sink_key_refused() -> None:
    """Where a key is refused, all before it is delivered, and its segment is not even begun."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        segments = encrypted_segments(origin, 3)
        origin.fault("/1.key", Status(403))
        sink = Collector()
        with pytest.raises(KeyUnavailable):
            await deliver(fetcher, segments, sink)
        assert sink.calls == ["begin 0", "end 0"]
        assert sink.body == CLIP


async def test_sink_resumed_segment() -> None:
    """A body that broke off goes on in the middle of a block."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        segments = encrypted_segments(origin, 1)
        origin.fault("/0.ts", Truncate(100_001), times=1)
        sink = Collector()
        await deliver(fetcher, segments, sink)
        assert sink.body == CLIP
        assert len(origin.asked("/0.ts")) == 2
        assert len(origin.asked("/0.key")) == 1


@pytest.mark.parametrize("cut_bytes", [8, 16])
async def test_sink_corrupt_segment(cut_bytes: int) -> None:
    """A segment whose end is missing at the origin is not ended politely."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        segments = encrypted_segments(origin, 2)
        origin.add("/1.ts", encrypted(CLIP)[:-cut_bytes])
        sink = Collector()
        with pytest.raises(CorruptMedia, match="segment 1"):
            await deliver(fetcher, segments, sink)
        assert sink.calls == ["begin 0", "end 0", "begin 1"]


async def test_sink_passes_no_empty_chunk() -> None:
    """What is only held back, or only padding, is not passed on (the collector objects to it)."""
    async with Origin() as origin, Fetcher(quick()) as fetcher, KeyRing(fetcher) as keys:
        (segment,) = encrypted_segments(origin, 1)
        for plain in (b"", bytes(15), bytes(16), bytes(32)):
            collector = Collector()
            sink = DecryptingSink(collector, keys)
            await sink.begin(segment)
            for byte in encrypted(plain):
                await sink.write(bytes([byte]))
            await sink.end(segment)
            assert collector.body == plain
            assert collector.calls == ["begin 0", "end 0"]


async def test_sink_after_a_broken_segment() -> None:
    """A segment that was never ended leaves nothing behind for the next."""
    async with Origin() as origin, Fetcher(quick()) as fetcher, KeyRing(fetcher) as keys:
        broken, whole = encrypted_segments(origin, 2)
        collector = Collector()
        sink = DecryptingSink(collector, keys)
        await sink.begin(broken)
        await sink.write(encrypted(CLIP)[:1001])
        await sink.begin(whole)
        await sink.write(encrypted(CLIP))
        await sink.end(whole)
        clear = Segment(uri="", duration_s=4.0, sequence=2, discontinuity_sequence=0)
        await sink.begin(broken)
        await sink.begin(clear)
        await sink.write(CLIP)
        await sink.end(clear)
        assert collector.parts[1] == collector.parts[2] == CLIP


async def test_sink_passes_clear_chunks_as_they_are() -> None:
    """A segment without a key costs nothing: the very objects are passed on, and no key is asked
    for."""

    class Last(Collector):
        chunk = b""

        async def write(self, chunk: bytes) -> None:
            self.chunk = chunk

    async with Fetcher(quick()) as fetcher, KeyRing(fetcher) as keys:
        last = Last()
        sink = DecryptingSink(last, keys)
        segment = Segment(uri="", duration_s=4.0, sequence=0, discontinuity_sequence=0)
        await sink.begin(segment)
        await sink.write(CLIP)
        assert last.chunk is CLIP
        await sink.end(segment)


# -- init sections ---------------------------------------------------------------------------------

INIT = b"\0\0\0\x18ftypiso6" + bytes(600)


async def test_read_init_section_clear() -> None:
    """A map without a key comes as it is, also as a range."""
    async with Origin() as origin, Fetcher(quick()) as fetcher, KeyRing(fetcher) as keys:
        uri = origin.add("/init.mp4", INIT + CLIP)
        section = InitSection(uri=uri, byte_range=ByteRange(length=len(INIT), offset=0))
        assert await read_init_section(fetcher, keys, section, 7, CAP) == INIT
        assert await read_init_section(fetcher, keys, InitSection(uri=uri), 7, CAP) == INIT + CLIP


@pytest.mark.parametrize("iv", [None, IV])
async def test_read_init_section_encrypted(iv: bytes | None) -> None:
    """An encrypted map is decrypted with its IV, or the sequence number of its segment; its range
    is one of the ciphertext."""
    cipher = openssl(INIT, KEY, iv or sequence_iv(7))
    async with Origin() as origin, Fetcher(quick()) as fetcher, KeyRing(fetcher) as keys:
        key = Key(method="AES-128", uri=origin.add("/key", KEY), iv=iv)
        section = InitSection(
            uri=origin.add("/all.mp4", b"in front" + cipher + encrypted(CLIP)),
            byte_range=ByteRange(length=len(cipher), offset=8),
            key=key,
        )
        assert await read_init_section(fetcher, keys, section, 7, CAP) == INIT
        assert await read_init_section(fetcher, keys, section, 7, CAP) == INIT
        assert len(origin.asked("/key")) == 1


async def test_read_init_section_beside_its_key() -> None:
    """Map and key are asked for at the same time."""
    async with Origin() as origin, Fetcher(quick()) as fetcher, KeyRing(fetcher) as keys:
        key = Key(method="AES-128", uri=origin.add("/key", KEY), iv=IV)
        gate = origin.hold("/*", after_bytes=None)
        section = InitSection(uri=origin.add("/init.mp4", encrypted(INIT)), key=key)

        async def open_when_both_stand() -> None:
            await origin.until(lambda: len(origin.requests) == 2)
            gate.open()

        async with asyncio.TaskGroup() as group:
            group.create_task(open_when_both_stand())
            init = group.create_task(read_init_section(fetcher, keys, section, 7, CAP))
        assert init.result() == INIT


async def test_read_init_section_corrupt() -> None:
    """An encrypted map that is clear, cut, of another key or empty is corrupt."""
    async with Origin() as origin, Fetcher(quick()) as fetcher, KeyRing(fetcher) as keys:
        key = Key(method="AES-128", uri=origin.add("/key", KEY), iv=IV)
        for body in (INIT, encrypted(INIT)[:-8], encrypted(INIT, KEY_2), b""):
            section = InitSection(uri=origin.add("/init.mp4", body), key=key)
            with pytest.raises(CorruptMedia, match="init section"):
                await read_init_section(fetcher, keys, section, 7, CAP)


@pytest.mark.parametrize("times", [1, None])
@pytest.mark.parametrize("has_key", [False, True])
async def test_read_init_section_closed_early(has_key: bool, times: int | None) -> None:
    """A map that only the close ends, and ends too early, is a failed attempt."""
    init = make_fmp4().init
    async with Origin() as origin, Fetcher(quick()) as fetcher, KeyRing(fetcher) as keys:
        key = Key(method="AES-128", uri=origin.add("/key", KEY), iv=IV) if has_key else None
        uri = origin.add("/init.mp4", encrypted(init) if has_key else init, framing="close")
        origin.fault("/init.mp4", CloseDelimited(cut_bytes=10), times=times)
        section = InitSection(uri=uri, key=key)
        if times is None:
            with pytest.raises(SourceUnavailable, match="ended within"):
                await read_init_section(fetcher, keys, section, 7, CAP)
            assert len(origin.asked("/init.mp4")) == 3
        else:
            assert await read_init_section(fetcher, keys, section, 7, CAP) == init
            assert len(origin.asked("/init.mp4")) == 2


async def test_read_init_section_refusals() -> None:
    """A map that is too large, or whose key cannot be had, is refused as such; one of another
    method is not even fetched."""
    async with Origin() as origin, Fetcher(quick()) as fetcher, KeyRing(fetcher) as keys:
        uri = origin.add("/init.mp4", encrypted(INIT))
        section = InitSection(uri=uri, key=Key(method="SAMPLE-AES", uri=origin.at("/key")))
        with pytest.raises(EncryptedSource):
            await read_init_section(fetcher, keys, section, 7, CAP)
        assert origin.requests == []
        section = InitSection(uri=uri, key=Key(method="AES-128", uri=origin.at("/key"), iv=IV))
        with pytest.raises(KeyUnavailable):
            await read_init_section(fetcher, keys, section, 7, CAP)
        with pytest.raises(SourceTooLarge):
            await read_init_section(fetcher, keys, section, 7, len(INIT))


# -- real material ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["aes128-ts", "aes128-vhs"])
async def test_sink_of_corpus(corpus: Path, name: str) -> None:
    """Public encrypted presentations come out as OpenSSL has them, and are whole TS packets."""
    async with Origin() as origin, Fetcher(quick()) as fetcher:
        base_url = origin.add_folder(corpus / name, f"/{name}/") + "index.m3u8"
        playlist = parse_playlist((corpus / name / "index.m3u8").read_bytes(), base_url)
        assert isinstance(playlist, MediaPlaylist)
        sink = Collector()
        await deliver(fetcher, playlist.segments, sink)
        for segment in playlist.segments:
            assert segment.key is not None
            assert segment.key.uri is not None
            cipher = (corpus / name / Path(segment.uri).name).read_bytes()
            key = (corpus / name / Path(segment.key.uri).name).read_bytes()
            plain = bytes(sink.parts[segment.sequence])
            iv = segment.key.iv or sequence_iv(segment.sequence)
            assert plain == openssl(cipher, key, iv, direction="-d")
            assert len(plain) % 188 == 0
            assert set(plain[::188]) == {0x47}
        assert origin.unknown == []
