"""Faces: each translates `app` to one kind of server, and knows nothing below it."""
