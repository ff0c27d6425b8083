"""The hls room: text and numbers in, values out.  No IO, no clock, no threads.

model.py    the nouns of RFC 8216bis as frozen values
lines.py    bytes → numbered lines; the limits of a text
parse.py    lines + base URL → model; the only importer of m3u8
select.py   which Variant and Rendition a wish means
cursor.py   SegmentCursor: which segments are new, when to reload, when it has ended
"""
