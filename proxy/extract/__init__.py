"""Pages to streams: the text of an HTML page in, what it says about its video out.  Pure.

`read_page` parses what the server sent to anyone, runs no script, and asks the registered
extractors, each a small pure function (`registry`), for candidates; `rank` says which comes first,
`refusal` whether the page is no page but a login or a challenge, and `robots` what a robots.txt
means for an address.  Everything here is bounded by counts (`model.Limits`) and linear in the size
of the page, since nothing that a page says can be trusted; nothing in it raises.  It takes up to
some 0.2 s of CPU: whoever calls it from an event loop does so on a thread.

A site is added by one file with one function in `extractors/`.
"""

from proxy.extract.model import Candidate, Limits, Page
from proxy.extract.page import read_page

__all__ = ["Candidate", "Limits", "Page", "read_page"]
