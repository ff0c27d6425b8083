"""`remuxd demo`: see it work, without a network and without a file of one's own.

clip     makes an HLS presentation of three variants with PyAV, in memory
judge    compares what went in with what came out: packets, payload, times
show     serves the clip, runs the proxy beside it, fetches one stream, and says what it saw
"""
