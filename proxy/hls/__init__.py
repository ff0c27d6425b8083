"""The hls room: text and numbers in, values out.  No IO, no clock, no threads.

model.py            the nouns of RFC 8216bis as frozen values
parse.py            text + base URL → model; the only importer of m3u8.  Its parts:
  lines.py            bytes → numbered lines; how much text is too much
  tags.py             attribute lists, variables, addresses, keys: what both kinds share
  multivariant.py     lines → MultivariantPlaylist
  segments.py         lines → MediaPlaylist
select.py           which Variant and Rendition a wish means
  codecs.py           what a CODECS attribute promises
cursor.py           SegmentCursor: which segments are new, when to reload, when it has ended
"""
