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
    status = 401
    code = "unauthorized"
    public = "This needs credentials."


class Forbidden(ProxyError):
    """The host, the address or the signature is not allowed.  All refusals of addresses read alike,
    so that the proxy cannot be used to find out what listens where; so do those of signatures."""

    status = 403
    code = "forbidden"
    public = "This source is not allowed here."


class NotFound(ProxyError):
    status = 404
    code = "not_found"
    public = "There is nothing here."


class MethodNotAllowed(ProxyError):
    status = 405
    code = "method_not_allowed"
    public = "Only GET and HEAD are answered here."


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


class SourceTooLarge(ProxyError):
    status = 502
    code = "source_too_large"
    public = "The source is larger than the proxy reads."


class KeyUnavailable(ProxyError):
    """The key of an AES-128 source is missing or refused, took too long, or is no key."""

    status = 502
    code = "key_unavailable"
    public = "The key that opens the source could not be had."


# -- the playlist ----------------------------------------------------------------------------------


class PlaylistError(ProxyError):
    """Malformed or empty; the message names the line."""

    status = 502
    code = "playlist_error"
    public = "The playlist is malformed."

    def __init__(
        self, message: str = "", *, line: int | None = None, detail: str | None = None
    ) -> None:
        if line is not None:
            message = f"line {line}: {message}"
        super().__init__(message, detail=detail or (f"The playlist is malformed: {message}."))
        self.line = line


class NotAPlaylist(PlaylistError):
    """The address was taken from a playlist, and something else came (a page, nothing at all)."""

    code = "not_a_playlist"
    public = "An address in the playlist does not lead to a playlist."

    def __init__(self, message: str = "", *, line: int | None = None) -> None:
        super().__init__(message, line=line, detail=self.public)


class NoVideoFound(ProxyError):
    """The page embeds no HLS address."""

    status = 422
    code = "no_video_found"
    public = "This address is a page, and no HLS address was found in it."


class NoPlayableVariant(ProxyError):
    status = 422
    code = "no_playable_variant"
    public = "No variant of this presentation can be put into an MP4."


class EncryptedSource(ProxyError):
    status = 422
    code = "encrypted_source"
    public = "The source is encrypted in a way the proxy does not open."


class NotSupportedYet(ProxyError):
    """A feature of HLS that is not built yet; `detail` names the tag."""

    status = 422
    code = "not_supported_yet"
    public = "The playlist uses a feature that is not supported yet."


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


class StreamAborted(Exception):
    """The stream broke after its first byte: the connection must be cut, never ended politely.

    Not a `ProxyError`: it has no status, since one has been sent.  `cause` is the error behind it.
    """

    def __init__(self, cause: ProxyError) -> None:
        super().__init__(f"{cause.code}: {cause}")
        self.cause = cause
        self.__cause__ = cause
