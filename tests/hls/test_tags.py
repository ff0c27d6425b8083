"""What both kinds of playlist share: attribute lists, variables, addresses, keys, the start."""

from __future__ import annotations

from urllib.parse import urljoin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import PlaylistError
from proxy.hls.model import Key, MediaPlaylist, Start
from proxy.hls.parse import parse_playlist
from tests.support.playlists import (
    BASE_URL,
    media_text,
    multivariant_text,
    parse_media,
    parse_multivariant,
    rendition_tag,
    variant_lines,
)

FOLDER = "https://origin.example/live/channel/"


def uri_of(uri: str, base_url: str = BASE_URL, head: tuple[str, ...] = ()) -> str:
    """Return the address that `uri` gets as a segment's URI line."""
    return parse_media(media_text([uri], head=head), base_url).segments[0].uri


def refusal(*head: str, uri: str = "a.ts") -> str:
    """Return why a Media Playlist with these lines in its head is refused."""
    with pytest.raises(PlaylistError) as error:
        parse_playlist(media_text([uri], head=head), BASE_URL)
    return str(error.value)


# -- addresses -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("a.ts", FOLDER + "a.ts"),
        ("b/c/a.ts?x=1&y=/../2", FOLDER + "b/c/a.ts?x=1&y=/../2"),
        ("../a.ts", "https://origin.example/live/a.ts"),
        ("/a.ts?e=1~acl=/*~hmac=2&", "https://origin.example/a.ts?e=1~acl=/*~hmac=2&"),
        ("//cdn.example/a.ts", "https://cdn.example/a.ts"),
        ("?part=2", "https://origin.example/live/channel/index.m3u8?part=2"),
        ("http://cdn.example:8080/a.ts?token=x", "http://cdn.example:8080/a.ts?token=x"),
        ("HTTP://cdn.example/a.ts", "HTTP://cdn.example/a.ts"),
        ("a b,c;d.ts", FOLDER + "a b,c;d.ts"),
        ("größe.ts", FOLDER + "größe.ts"),
        ("12:30.ts", FOLDER + "12:30.ts"),
        ("data:video/mp2t;base64,AAAA", "data:video/mp2t;base64,AAAA"),
    ],
)
def test_address_is_resolved_against_the_playlist(uri: str, address: str) -> None:
    """Relative addresses go by the playlist's own; queries are kept as they are."""
    assert uri_of(uri) == address


URI_CHARACTERS = st.text("abAB09._~%-/?#=&+:@!$'()*,;[] é{", max_size=24)


@settings(deadline=None)
@given(
    st.one_of(URI_CHARACTERS, st.builds("https://{}".format, URI_CHARACTERS)),
    st.sampled_from(
        [
            BASE_URL,
            "https://origin.example",
            "https://origin.example?x=/a/b",
            "http://origin.example:81/a//b/../c;d/e.m3u8;f?g",
            "https://origin.example/a/./b/",
        ]
    ),
)
def test_address_equals_urljoin(uri: str, base_url: str) -> None:
    """The short way that plain addresses take leads to where the long one does."""
    try:
        expected = urljoin(base_url, uri.strip())
    except ValueError:
        return
    if uri.strip() and not uri.strip().startswith("#"):
        assert uri_of(uri, base_url) == expected


@pytest.mark.parametrize("uri", ["https://[", "//[::1/a", "https://a\u2100b/"])
def test_address_that_cannot_be_read(uri: str) -> None:
    """An address that is none is refused with its line."""
    assert refusal(uri=uri) == "line 5: the URI line has an address that cannot be read"


# -- attribute lists -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "attributes",
    [
        'METHOD=AES-128,URI="k?a=1,b=2",IV=0xFF',
        ' METHOD = AES-128 , URI = "k?a=1,b=2" , IV = 0XfF ',
        'IV=0x00000000000000000000000000000ff,,URI="k?a=1,b=2",METHOD=AES-128,',
        "METHOD=aes-128,URI='k?a=1,b=2',IV=\"0xff\"",
        'METHOD=AES-128,URI="k?a=1,b=2",IV=0xff,X-NEW=what,KEYFORMAT="identity"',
    ],
)
def test_attributes_in_any_spelling(attributes: str) -> None:
    """Spaces, order, kinds of quotes and unknown attributes make no difference."""
    playlist = parse_media(media_text(["a.ts"], head=[f"#EXT-X-KEY:{attributes}"]))
    assert playlist.segments[0].key == Key(
        method="AES-128", uri=FOLDER + "k?a=1,b=2", iv=bytes(15) + b"\xff"
    )


def test_attributes_with_an_unclosed_quote() -> None:
    """What an unclosed quote has swallowed counts as missing."""
    assert refusal('#EXT-X-MAP:URI="i.mp4') == "line 4: EXT-X-MAP has no URI"


# -- EXT-X-DEFINE ----------------------------------------------------------------------------------


def test_define_by_name_in_addresses_and_attributes() -> None:
    """A variable stands for its value in URI lines and in attributes, in definitions too."""
    playlist = parse_media(
        media_text(
            ["{$path}/a.ts?{$a-1}{$a-1}"],
            head=[
                '#EXT-X-DEFINE:NAME="a-1",VALUE="x=1"',
                '#EXT-X-DEFINE:NAME="path",VALUE="https://cdn.example/{$a-1}"',
                '#EXT-X-DEFINE:NAME="empty",VALUE=""',
                '#EXT-X-MAP:URI="{$empty}{$path}/i.mp4"',
                '#EXT-X-KEY:METHOD=AES-128,URI="k",IV=0x{$empty}0A',
            ],
        )
    )
    segment = playlist.segments[0]
    assert segment.uri == "https://cdn.example/x=1/a.ts?x=1x=1"
    assert segment.init_section is not None
    assert segment.init_section.uri == "https://cdn.example/x=1/i.mp4"
    assert segment.key is not None
    assert segment.key.iv == bytes(15) + b"\x0a"


def test_define_by_query_parameter() -> None:
    """QUERYPARAM takes the percent-decoded parameter of the playlist's own address."""
    define = '#EXT-X-DEFINE:QUERYPARAM="t_1"'
    assert uri_of("{$t_1}.ts", "https://o.example/p?u=0&t_1=a%2Fb+c", (define,)) == (
        "https://o.example/a/b+c.ts"
    )


def test_define_by_import() -> None:
    """IMPORT takes what the Multivariant Playlist defined."""
    multivariant = parse_multivariant(
        '#EXT-X-DEFINE:NAME="cdn",VALUE="https://cdn.example"',
        variant_lines("{$cdn}/v.m3u8", BANDWIDTH=1),
    )
    assert multivariant.variants[0].uri == "https://cdn.example/v.m3u8"
    text = media_text(["{$cdn}/a.ts"], head=['#EXT-X-DEFINE:IMPORT="cdn"'])
    playlist = parse_playlist(text, BASE_URL, imports=dict(multivariant.defines))
    assert isinstance(playlist, MediaPlaylist)
    assert playlist.segments[0].uri == "https://cdn.example/a.ts"


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (("#EXT-X-DEFINE:VALUE=1",), "line 4: EXT-X-DEFINE needs one of"),
        (('#EXT-X-DEFINE:NAME="a",IMPORT="b",VALUE="c"',), "line 4: EXT-X-DEFINE needs one of"),
        (('#EXT-X-DEFINE:NAME="ä",VALUE="c"',), "line 4: EXT-X-DEFINE has a malformed variable"),
        (('#EXT-X-DEFINE:NAME="a"',), "line 4: EXT-X-DEFINE has no value for a"),
        (('#EXT-X-DEFINE:IMPORT="a"',), "line 4: EXT-X-DEFINE has no value for a"),
        (('#EXT-X-DEFINE:QUERYPARAM="a"',), "line 4: EXT-X-DEFINE has no value for a"),
        (('#EXT-X-DEFINE:NAME="a",VALUE="{$b}"',), "line 4: EXT-X-DEFINE uses b, which is not"),
        (
            ('#EXT-X-DEFINE:NAME="a",VALUE="1"', '#EXT-X-DEFINE:NAME="a",VALUE="1"'),
            "line 5: EXT-X-DEFINE defines a a second time",
        ),
    ],
)
def test_define_that_cannot_define(head: tuple[str, ...], why: str) -> None:
    """A definition without a name, without a value, or of a name taken fails the playlist."""
    assert refusal(*head).startswith(why)


def test_define_behind_its_use() -> None:
    """A variable that is not defined before it is used fails the playlist."""
    assert refusal(uri="{$a}.ts") == ("line 5: the URI line uses a, which is not defined before it")


# -- the rest --------------------------------------------------------------------------------------


def test_common_tags_in_both_kinds() -> None:
    """EXT-X-VERSION, EXT-X-INDEPENDENT-SEGMENTS and EXT-X-START are read in both kinds."""
    head = [
        "#EXT-X-VERSION:7",
        "#EXT-X-INDEPENDENT-SEGMENTS",
        "#EXT-X-START:TIME-OFFSET=-12.5,PRECISE=YES",
    ]
    playlists = (
        parse_media(media_text(["a.ts"], head=head)),
        parse_multivariant(head, variant_lines("v.m3u8", BANDWIDTH=1)),
    )
    for playlist in playlists:
        assert playlist.version == 7
        assert playlist.independent_segments
        assert playlist.start == Start(time_offset_s=-12.5, precise=True)


@pytest.mark.parametrize("offset", ["", "x", "nan", "1e", "-99999999999"])
def test_start_without_a_usable_offset(offset: str) -> None:
    """A start that cannot be read is no start; `1e` is read as players do."""
    start = parse_media(
        media_text(["a.ts"], head=[f"#EXT-X-START:TIME-OFFSET={offset}", "#EXT-X-VERSION:nan"])
    ).start
    assert start == (Start(time_offset_s=1.0) if offset == "1e" else None)


@pytest.mark.parametrize(
    ("attributes", "why"),
    [
        ('URI="k"', "has no METHOD"),
        ("METHOD=AES-128", "has no URI"),
        ('METHOD=AES-128,URI=""', "has no URI"),
        ('METHOD=AES-128,URI="k",IV=[IV]', "has an IV that is no hexadecimal"),
        (f'METHOD=AES-128,URI="k",IV=0x{"0" * 33}', "has an IV that is no hexadecimal"),
        ('METHOD=AES-128,URI="k",IV=', "has an IV that is no hexadecimal"),
    ],
)
def test_key_that_cannot_be_used(attributes: str, why: str) -> None:
    """A key that would decrypt to noise, or cannot be fetched, is refused."""
    assert refusal(f"#EXT-X-KEY:{attributes}").startswith(f"line 4: EXT-X-KEY {why}")


def test_key_of_a_method_that_is_not_opened() -> None:
    """Keys of DRM are reported as they are, with or without an address."""
    playlist = parse_multivariant(
        '#EXT-X-SESSION-KEY:METHOD=SAMPLE-AES,URI="skd://x",KEYFORMAT="com.apple"',
        "#EXT-X-SESSION-KEY:METHOD=SAMPLE-AES-CTR",
        "#EXT-X-SESSION-KEY:METHOD=NONE",
        variant_lines("v.m3u8", BANDWIDTH=1),
    )
    assert playlist.session_keys == (
        Key(method="SAMPLE-AES", uri="skd://x", key_format="com.apple"),
        Key(method="SAMPLE-AES-CTR"),
    )


def test_repr_shows_no_address() -> None:
    """Addresses and keys stay out of what a log may show."""
    head = ['#EXT-X-MAP:URI="secret.mp4"', '#EXT-X-KEY:METHOD=AES-128,URI="secret",IV=0x5EC2E7']
    media = parse_media(media_text(["secret.ts"], head=head), "https://o.example/?secret")
    multivariant = parse_playlist(
        multivariant_text(
            '#EXT-X-DEFINE:NAME="a",VALUE="secret"',
            rendition_tag(NAME="en", URI="secret.m3u8"),
            variant_lines("secret.m3u8", BANDWIDTH=1),
        ),
        "https://o.example/?secret",
    )
    shown = f"{media} {media.segments} {multivariant}"
    assert "secret" not in shown
    assert "\\xc2" not in shown
