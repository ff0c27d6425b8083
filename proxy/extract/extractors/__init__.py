"""One file for each extractor; a file put here is found.  See `proxy.extract.registry`."""
