"""One family of errors, for every room.

Each class says three things: `status`, the HTTP status it becomes while nothing has been sent;
`code`, a stable snake_case word for programs; `public`, a sentence that may be shown to anyone.
What the constructor is given (the message) goes to the log only, and may name redacted addresses.
After the first byte of a response no status can be sent any more: then any of these travels as the
cause of a `StreamAborted`, and the face cuts the connection.

This module imports nothing, so that every room can raise from it.
"""


class ProxyError(Exception):
    """Base of the family; raised itself only for what is certainly our own fault.

    `detail` replaces `public` in the answer where the text is known to be safe (it names a
    parameter, a tag or a codec, never an address).  `retry_after_s` becomes a Retry-After header.
    """

    status = 500
    code = "internal_error"
    public = "The proxy failed on this request."
    upstream_status: int | None = None  # what the source answered, where that was the trouble

    def __init__(
        self, message: str = "", *, detail: str | None = None, retry_after_s: int | None = None
    ) -> None:
        super().__init__(message or detail or self.public)
        self.detail = detail or self.public
        self.retry_after_s = retry_after_s


# -- the request -----------------------------------------------------------------------------------


class InvalidRequest(ProxyError):
    """A parameter is missing, unknown, repeated or malformed; `detail` names it."""

    status = 400
    code = "invalid_request"
    public = "The request is malformed."


class Unauthorized(ProxyError):
    """The operator's token is missing or wrong.  The answer carries WWW-Authenticate."""

    status = 401
    code = "unauthorized"
    public = "This needs the operator's token, as `Authorization: Bearer`."


class Forbidden(ProxyError):
    """The host, the address or the signature is not allowed.  All refusals of addresses read alike,
    so that the proxy cannot be used to find out what listens where; so do those of signatures."""

    status = 403
    code = "forbidden"
    public = "This source is not allowed here."

    def __init__(
        self, message: str = "", *, detail: str | None = None, rule: str = "malformed"
    ) -> None:
        super().__init__(message, detail=detail)
        self.rule = rule  # what it ran against, in a word: for the operator, not for the answer


class NotFound(ProxyError):
    status = 404
    code = "not_found"
    public = "There is nothing here."


class MethodNotAllowed(ProxyError):
    status = 405
    code = "method_not_allowed"
    public = "Only GET and HEAD are answered here."

    def __init__(
        self,
        message: str = "",
        *,
        detail: str | None = None,
        allow: tuple[str, ...] = ("GET", "HEAD"),
    ) -> None:
        super().__init__(message, detail=detail)
        self.allow = allow


class StartBeyondEnd(ProxyError):
    status = 416
    code = "start_beyond_end"
    public = "`start` lies beyond the end of the presentation."


class RateLimited(ProxyError):
    status = 429
    code = "rate_limited"
    public = "This client has as many streams as it may have."


class Overloaded(ProxyError):
    """No worker, no memory budget, or draining."""

    status = 503
    code = "overloaded"
    public = "The proxy is busy. Try again soon."

    def __init__(
        self, message: str = "", *, detail: str | None = None, retry_after_s: int | None = 2
    ) -> None:
        super().__init__(message, detail=detail, retry_after_s=retry_after_s)


class HttpVersionUnsupported(ProxyError):
    """HTTP/1.0 over ASGI: a cut response could not be told from a finished one."""

    status = 505
    code = "http_version_unsupported"
    public = "Use HTTP/1.1: over HTTP/1.0 this server could not show you a broken stream."


class LoopDetected(ProxyError):
    status = 508
    code = "loop_detected"
    public = "This request came back to the proxy that sent it."


# -- the source ------------------------------------------------------------------------------------


class SourceNotFound(ProxyError):
    """The playlist answered 404 or 410."""

    status = 404
    code = "source_not_found"
    public = "The source says that there is no such playlist."


class SourceUnavailable(ProxyError):
    """Another 4xx, a 5xx, refused, reset, TLS, DNS, or a body that ends too early."""

    status = 502
    code = "source_unavailable"
    public = "The source could not be read."


class SourceTimeout(ProxyError):
    status = 504
    code = "source_timeout"
    public = "The source took too long."


class HeadersTimeout(SourceTimeout):
    """From the first address of a request, over its redirects, to the headers of the answer."""

    code = "headers_timeout"
    public = "The source took too long to begin its answer."


class TooManyRedirects(SourceUnavailable):
    code = "too_many_redirects"
    public = "The source leads from one address to the next, and to none in the end."


class SourceTooLarge(ProxyError):
    """More bytes than a page may have; what has a limit of its own has a class of its own."""

    status = 502
    code = "source_too_large"
    public = "The source is larger than the proxy reads."


class PlaylistTooLarge(SourceTooLarge):
    code = "playlist_too_large"
    public = "A playlist of the source has more bytes than the proxy reads."


class SegmentTooLarge(SourceTooLarge):
    """By its announced length, by the range asked for, or by what came."""

    code = "segment_too_large"
    public = "A segment of the source has more bytes than the proxy reads."


class InitSectionTooLarge(SourceTooLarge):
    code = "init_section_too_large"
    public = "An init section of the source has more bytes than the proxy reads."


class KeyUnavailable(ProxyError):
    """The key of an AES-128 source is missing or refused, took too long, or is no key."""

    status = 502
    code = "key_unavailable"
    public = "The key that opens the source could not be had."


class KeyTooLarge(KeyUnavailable):
    code = "key_too_large"
    public = "What should be the key of the source has more bytes than the proxy reads."


# -- the playlist ----------------------------------------------------------------------------------


class PlaylistError(ProxyError):
    """Malformed or empty.  The message names the line, never shows it, and stands in the answer."""

    status = 502
    code = "playlist_error"
    public = "The playlist is malformed."

    def __init__(
        self, message: str = "", *, line: int | None = None, detail: str | None = None
    ) -> None:
        if line is not None:
            message = f"line {line}: {message}"
        told = f"{self.public.removesuffix('.')}: {message}." if message else self.public
        super().__init__(message, detail=detail or told)
        self.line = line


class NotAPlaylist(PlaylistError):
    """The address was taken from a playlist, and something else came (a page, nothing at all)."""

    code = "not_a_playlist"
    public = "An address in the playlist does not lead to a playlist."

    def __init__(self, message: str = "", *, line: int | None = None) -> None:
        super().__init__(message, line=line, detail=self.public)


class NestedPlaylist(PlaylistError):
    """Multivariant playlists lead to media playlists (RFC 8216bis 4.1): deeper would be a loop."""

    code = "nested_playlist"
    public = "A multivariant playlist leads to another one."


class LineTooLong(PlaylistError):
    code = "line_too_long"
    public = "A line of the playlist is too long."


class TooManyLines(PlaylistError):
    code = "too_many_lines"
    public = "The playlist has too many lines."


class TooManySegments(PlaylistError):
    code = "too_many_segments"
    public = "The playlist has too many segments."


class TooManyVariants(PlaylistError):
    code = "too_many_variants"
    public = "The playlist has too many variants."


class TooManyRenditions(PlaylistError):
    code = "too_many_renditions"
    public = "The playlist has too many renditions."


class TooManyKeys(PlaylistError):
    code = "too_many_keys"
    public = "The playlist has too many keys."


class TooManyInitSections(PlaylistError):
    code = "too_many_init_sections"
    public = "The playlist has too many init sections."


class TooManyAttributes(PlaylistError):
    code = "too_many_attributes"
    public = "The playlist has too many attributes."


class PlaylistExpandsTooFar(PlaylistError):
    """Small text, large meaning: relative addresses made absolute, variables written out."""

    code = "playlist_expands_too_far"
    public = "The addresses and variables of the playlist grow too long."


class NoVideoFound(ProxyError):
    """The page embeds no HLS address."""

    status = 422
    code = "no_video_found"
    public = "This address is a page, and no HLS address was found in it."


class PlainMp4(NoVideoFound):
    """The video of the page is a file, which needs no proxy; `file` is its address, without the
    query, which may hold a secret."""

    code = "plain_file"
    public = "The video of this page is a plain MP4, which can be fetched directly."
    file = ""


class PageRefused(ProxyError):
    """In the place of the page stands a login, a challenge or a refusal, or its robots.txt asks not
    to read it.  None of that is ever worked around."""

    status = 422
    code = "page_refused"
    public = (
        "The site does not give this page to programs. Nothing is done against that: use its "
        "official API, or the address of the playlist where you may have it."
    )


class NoPlayableVariant(ProxyError):
    status = 422
    code = "no_playable_variant"
    public = "No variant of this presentation can be put into an MP4."


class EncryptedSource(ProxyError):
    status = 422
    code = "encrypted_source"
    public = "The source is encrypted in a way the proxy does not open."


# -- the media -------------------------------------------------------------------------------------


class UnsupportedCodec(ProxyError):
    """Players of fragmented MP4 do not take this codec; `detail` names it."""

    status = 422
    code = "unsupported_codec"
    public = "The source uses a codec that players of MP4 do not take."


class CorruptMedia(ProxyError):
    status = 502
    code = "corrupt_media"
    public = "The media of the source is damaged, or is no media."


class SpliceIncompatible(ProxyError):
    """The configuration changes in mid-stream in a way one sample entry cannot tell."""

    status = 502
    code = "splice_incompatible"
    public = "The source changes its audio or its codec in mid-stream."


class RemuxFailed(ProxyError):
    """Our own fault."""

    status = 500
    code = "remux_failed"
    public = "The proxy failed to remux the source."


# -- after the first byte --------------------------------------------------------------------------


class StreamTooLong(ProxyError):
    """It has been running for longer than one stream may; only ever the cause of a cut."""

    status = 503
    code = "stream_too_long"
    public = "The stream has been running for longer than the proxy lets one run."


class Stopped(ProxyError):
    """The operator ended it: a status while it is being opened, and a cut behind the first byte."""

    status = 503
    code = "stopped"
    public = "The operator has stopped this stream."


class StreamAborted(Exception):
    """The stream broke after its first byte: the connection must be cut, never ended politely.

    Not a `ProxyError`: it has no status, since one has been sent.  `cause` is the error behind it.
    """

    def __init__(self, cause: ProxyError) -> None:
        super().__init__(f"{cause.code}: {cause}")
        self.cause = cause
        self.__cause__ = cause
