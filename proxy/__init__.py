"""remuxd: HLS in, one continuous fragmented MP4 out."""

__version__ = "0.1.0"
