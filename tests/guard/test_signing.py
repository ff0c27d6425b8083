"""Signed URLs: what holds, and that nothing else does."""

from __future__ import annotations

import base64
import hashlib
import hmac
import string
from urllib.parse import parse_qsl, quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.errors import Forbidden
from proxy.guard.signing import (
    EXPIRED,
    PARAMETERS,
    REFUSED,
    SKEW_S,
    Settings,
    Signatures,
    sign,
)

OLD, NEW = "old-" + "s3cret" * 6, "new-" + "s3cret" * 6
NOW_S = 1_800_000_000
BOTH = Settings(keys={"new": NEW, "old": OLD}, required=True)
WISH = {"url": "https://origin.example/a b.m3u8?token=ä&c=d", "quality": "720p", "audio": "pt-BR"}
QUERY = sign(WISH, key_id="new", secret=NEW, expires=NOW_S + 60)


def refusal(query: str, settings: Settings = BOTH, now_s: float = NOW_S) -> str:
    """The text of the refusal; empty: it passed."""
    try:
        Signatures(settings).check(query, now_s=now_s)
    except Forbidden as error:
        return error.detail
    return ""


def test_sign_writes_the_parameters_sorted_and_encoded() -> None:
    """A signed query says what was asked for, and when it expires, as any server reads it."""
    pairs = parse_qsl(QUERY, strict_parsing=True)
    told = {**WISH, "expires": str(NOW_S + 60), "key_id": "new"}
    assert pairs[:-1] == sorted(told.items())
    assert pairs[-1][0] == "signature"
    assert refusal(QUERY) == ""


def test_sign_is_the_mac_that_the_documentation_says() -> None:
    """Whoever signs elsewhere needs HMAC-SHA256, sorting and base64url, and nothing of ours."""
    covered, _, signature = QUERY.partition("&signature=")
    mac = hmac.new(NEW.encode(), f"remuxd-url-1\n{covered}".encode(), hashlib.sha256).digest()
    assert signature == base64.urlsafe_b64encode(mac).decode().rstrip("=")
    assert len(mac) == 32


@pytest.mark.parametrize("name", ["expires", "key_id", "signature"])
def test_sign_refuses_what_it_adds_itself(name: str) -> None:
    """A wish cannot bring its own expiry."""
    with pytest.raises(ValueError, match=name):
        sign({"url": "http://a/", name: "1"}, key_id="new", secret=NEW, expires=NOW_S)


@given(st.integers(0, len(QUERY) * 8 - 1))
def test_check_refuses_every_flipped_bit(bit: int) -> None:
    """There is no bit that may be changed."""
    raw = bytearray(QUERY.encode())
    raw[bit // 8] ^= 1 << bit % 8
    assert refusal(raw.decode("utf-8", "surrogateescape")) == REFUSED


def test_check_refuses_every_single_flipped_bit() -> None:
    """All of them, for a short query: the property above is a sample."""
    query = sign({"url": "http://a/"}, key_id="new", secret=NEW, expires=NOW_S + 60)
    for bit in range(len(query) * 8):
        raw = bytearray(query.encode())
        raw[bit // 8] ^= 1 << bit % 8
        assert refusal(raw.decode("utf-8", "surrogateescape")) == REFUSED, bytes(raw)


@given(st.data())
def test_check_refuses_parameters_added_removed_and_repeated(data: st.DataObject) -> None:
    """The set of parameters is covered, wherever another one is put."""
    parts = QUERY.split("&")
    at = data.draw(st.integers(0, len(parts) - 1))
    change = data.draw(st.sampled_from(["remove", "repeat", "empty", "add"]))
    if change == "remove":
        del parts[at]
    elif change == "repeat":
        parts.insert(data.draw(st.integers(0, len(parts))), parts[at])
    elif change == "empty":
        parts.insert(at, "")
    else:
        parts.insert(at, data.draw(st.text("&=%+;#" + string.ascii_letters, max_size=20)))
    assert refusal("&".join(parts)) == REFUSED


@given(st.permutations(QUERY.split("&")))
def test_check_takes_any_order(parts: list[str]) -> None:
    """Caches sort the parameters of what passes through them: that changes nothing."""
    assert refusal("&".join(parts)) == ""


SIGNATURE = QUERY.rpartition("=")[2]
RESPELLED = {
    "padded": QUERY + "=",
    "padding encoded": QUERY + "%3D",
    "standard alphabet": QUERY.replace(SIGNATURE, SIGNATURE.replace("-", "+").replace("_", "/")),
    "hexadecimal": QUERY.replace(SIGNATURE, base64.urlsafe_b64decode(SIGNATURE + "=").hex()),
    "cut": QUERY[:-1],
    "cut to nothing": QUERY.replace(SIGNATURE, ""),
    "one character encoded": QUERY.replace(SIGNATURE, f"%{ord(SIGNATURE[0]):02X}" + SIGNATURE[1:]),
    "line feed behind": QUERY + "%0A",
    "space behind": QUERY + "+",
    "lower-case hex": QUERY.replace("%3A", "%3a"),
    "plus for a space": QUERY.replace("%20", "+"),
    "not encoded": QUERY.replace("%3A", ":"),
    "encoded without need": QUERY.replace("720p", "720%70"),
    "name in capitals": QUERY.replace("signature=", "Signature="),
    "name encoded": QUERY.replace("signature=", "%73ignature="),
    "key_id encoded": QUERY.replace("key_id=", "key%5Fid="),
    "no such key": QUERY.replace("key_id=new", "key_id=nobody"),
    "the other key": QUERY.replace("key_id=new", "key_id=old"),
    "later": QUERY.replace(str(NOW_S + 60), str(NOW_S + 61)),
    "a leading zero": QUERY.replace(f"expires={NOW_S}", f"expires=0{NOW_S}"),
    "nothing": "",
    "no signature": QUERY.partition("&signature")[0],
    "signature alone": f"signature={SIGNATURE}",
    "another's": sign(WISH, key_id="new", secret=OLD, expires=NOW_S + 60),
}
# The last character of 43 has two bits to spare: four spellings of the same 32 bytes.
ALPHABET = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
LAST = ALPHABET.index(SIGNATURE[-1])
RESPELLED |= {
    f"spare bits {spare}": QUERY[:-1] + ALPHABET[LAST ^ spare] for spare in (1, 2, 3)
}  # fmt: skip


@pytest.mark.parametrize("name", RESPELLED)
def test_check_refuses_other_spellings(name: str) -> None:
    """What means the same and is written otherwise is refused, in the same words as a forgery."""
    assert refusal(RESPELLED[name]) == REFUSED or RESPELLED[name] == QUERY


@given(st.text(max_size=80) | st.text("&=%+-_signatureexpk_yd0159", max_size=80))
@example("signature=\udcff&expires=1&key_id=new")
def test_check_of_anything_refuses_in_the_same_words(query: str) -> None:
    """Whatever stands there, the answer is the one refusal, and nothing else is raised."""
    assert refusal(query) == REFUSED


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=9).filter(lambda name: name not in PARAMETERS),
        st.text(max_size=9),
        max_size=5,
    ),
    st.integers(NOW_S - SKEW_S, NOW_S + SKEW_S + BOTH.lifetime_s),
)
def test_check_takes_what_sign_gives(wish: dict[str, str], expires: int) -> None:
    """Whatever is asked for, and whenever it expires within the limits, signing makes it pass."""
    assert refusal(sign(wish, key_id="old", secret=OLD, expires=expires)) == ""


@pytest.mark.parametrize(
    ("ahead_s", "text"),
    [
        (-SKEW_S - 1, EXPIRED),
        (-SKEW_S, ""),
        (0, ""),
        (24 * 3600 + SKEW_S, ""),
        (24 * 3600 + SKEW_S + 1, REFUSED),
    ],
)
def test_check_at_the_edges_of_the_lifetime(ahead_s: int, text: str) -> None:
    """30 s of difference between clocks are forgiven at both ends, and not a second more."""
    assert refusal(sign(WISH, key_id="new", secret=NEW, expires=NOW_S + ahead_s)) == text


@pytest.mark.parametrize("expires", ["0", "-1", "1e9", "", "9" * 13, "+1", " 1", "\u0661"])
def test_check_refuses_an_expiry_that_is_no_number_of_seconds(expires: str) -> None:
    """Not even a right signature makes a time of anything else."""
    parts = [f"expires={quote(expires)}", "key_id=new"]
    mac = hmac.digest(NEW.encode(), b"remuxd-url-1\n" + "&".join(sorted(parts)).encode(), "sha256")
    signature = base64.urlsafe_b64encode(mac).decode().rstrip("=")
    assert refusal("&".join([*parts, f"signature={signature}"])) == REFUSED


def test_check_tells_of_expiry_only_what_did_hold() -> None:
    """A forged link that is old is a forged one: the expiry is looked at behind the signature."""
    forged = sign(WISH, key_id="new", secret=OLD, expires=NOW_S - 1000)
    assert refusal(forged) == REFUSED


@pytest.mark.parametrize("name", ["no such key", "key_id encoded", "cut", "signature alone"])
def test_check_makes_a_mac_whatever_the_key(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """How long a refusal takes does not tell which key ids there are: one MAC each."""
    macs: list[bytes] = []

    def counted(key: bytes, message: bytes, digest: str) -> bytes:
        macs.append(key)
        return bytes(32)

    monkeypatch.setattr(hmac, "digest", counted)
    assert refusal(RESPELLED[name]) == REFUSED
    (key,) = macs
    assert len(key) >= 32


def test_check_with_two_keys_takes_links_of_both() -> None:
    """While keys change, links of the old one hold on; once it is taken out, they do not."""
    old = sign(WISH, key_id="old", secret=OLD, expires=NOW_S + 60)
    assert refusal(old) == refusal(QUERY) == ""
    assert refusal(old, Settings(keys={"new": NEW}, required=True)) == REFUSED


def test_check_without_need_of_signatures_still_checks_them() -> None:
    """Where none is required, a query without one passes, and a bad one does not."""
    lax = Settings(keys={"new": NEW})
    assert refusal("url=http%3A%2F%2Fa%2F", lax) == ""
    assert refusal(QUERY, lax) == ""
    for query in (QUERY[:-1], "url=a&expires=1", "url=a&%6Bey_id=", "signature"):
        assert refusal(query, lax) == REFUSED
        assert refusal(query, Settings()) == REFUSED


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"a": "x" * 31}, "'a'"),
        ({"good": NEW, "short": "s3cret"}, "'short'"),
        ({"": NEW}, "an id"),
        ({"a b": NEW}, "an id"),
        ({NEW: "id"}, "an id"),
    ],
)
def test_settings_refuse_weak_keys(keys: dict[str, str], named: str) -> None:
    """A secret below 32 bytes is refused by the name of its key; no secret is shown."""
    with pytest.raises(ValueError, match=named) as caught:
        Settings(keys=keys)
    assert "s3cret" not in str(caught.value)


def test_settings_repr_without_secrets() -> None:
    """Settings can be logged."""
    assert "s3cret" not in repr(BOTH)
    assert "s3cret" not in repr(Signatures(BOTH))
