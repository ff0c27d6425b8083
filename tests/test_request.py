"""What a client asks for: the same is refused, whichever way it asks."""

import math
from typing import Any

import pytest

import proxy
from proxy.errors import InvalidRequest
from proxy.request import StreamRequest

URL = "http://origin.invalid/a.m3u8"

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"url": "origin.invalid/a.m3u8"}, "`url`"),
    ({"url": "file:///etc/passwd"}, "`url`"),
    ({"url": "http://user:secret@origin.invalid/"}, "`url`"),
    ({"url": None}, "`url`"),
    ({"audio": ""}, "`audio`"),
    ({"audio": "a\0"}, "`audio`"),
    ({"audio": 5}, "`audio`"),
    ({"start_s": math.nan}, "`start`"),
    ({"start_s": math.inf}, "`start`"),
    ({"start_s": 1e9}, "`start`"),
    ({"start_s": "5"}, "`start`"),
    ({"start_s": True}, "`start`"),
    ({"end_s": 0}, "`end`"),
    ({"end_s": -1.0}, "`end`"),
    ({"end_s": math.nan}, "`end`"),
    ({"start_s": 10, "end_s": 10}, "`end`"),
    ({"on_gap": "Skip"}, "`on_gap`"),
    ({"on_gap": None}, "`on_gap`"),
    ({"on_splice": "ignore"}, "`on_splice`"),
]


@pytest.mark.parametrize(("told", "named"), WRONG)
def test_request_refused_by_name(told: dict[str, Any], named: str) -> None:
    """A value that means nothing is named, and never shown."""
    with pytest.raises(InvalidRequest) as caught:
        StreamRequest(**{"url": URL, **told})
    assert named in caught.value.detail
    assert "secret" not in caught.value.detail


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"audio": "pt-BR", "start_s": 0, "end_s": 0.001, "on_gap": "skip", "on_splice": "skip"},
        {"start_s": -30.5, "end_s": 10},
        {"url": "HTTPS://origin.invalid:8443/\u00e4?b=c"},
    ],
)
def test_request_taken(told: dict[str, Any]) -> None:
    """What means something is kept as it is."""
    request = StreamRequest(**{"url": URL, **told})
    for name, value in told.items():
        assert getattr(request, name) == value


@pytest.mark.parametrize(("told", "named"), [*WRONG, ({"quality": "huge"}, "`quality`")])
async def test_open_stream_refused_by_name(told: dict[str, Any], named: str) -> None:
    """The library refuses the same, before anything is fetched."""
    with pytest.raises(InvalidRequest) as caught:
        async with proxy.open_stream(**{"url": URL, **told}):
            pass
    assert named in caught.value.detail
