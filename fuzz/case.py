"""A case: what the inputs of one remux play, and how that is kept in a file."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import asdict, dataclass, field
from typing import get_args

from proxy.media.section import Format, Section
from proxy.media.sniff import recognise
from proxy.media.wish import Wish
from tests.support.sources import Script

_FORMATS = get_args(Format)


@dataclass(frozen=True, slots=True)
class Piece:
    """The bytes of one section."""

    format: Format
    data: bytes = field(repr=False)
    discontinuity: bool = True

    def section(self) -> Section:
        """Describe it as the intake would: what tells its streams at its beginning is explicit, and
        goes through our own demuxer as far as it is plain."""
        found = recognise(self.data, complete=True) if self.format == "mpegts" else None
        explicit = found is not None and found.explicit and found.start == 0
        return Section(format=self.format, discontinuity=self.discontinuity, explicit=explicit)


@dataclass(frozen=True, slots=True)
class Case:
    """One or two inputs, each of one or more sections, and what a client wants of them; `recipe`
    says how it was made."""

    inputs: tuple[tuple[Piece, ...], ...]
    recipe: str = ""
    wish: Wish = field(default_factory=Wish)

    @property
    def size(self) -> int:
        """Bytes of all sections."""
        return sum(len(piece.data) for pieces in self.inputs for piece in pieces)

    def scripts(self, sizes: tuple[int, ...]) -> list[Script]:
        """Return fresh inputs that hand out pieces of at most these sizes, over and over."""
        return [
            Script(*((one.section(), one.data) for one in pieces), sizes=sizes)
            for pieces in self.inputs
        ]

    def dump(self) -> str:
        """Return the text of a file that `load` reads."""
        inputs = [
            [
                {
                    "format": piece.format,
                    "discontinuity": piece.discontinuity,
                    "data": base64.b64encode(zlib.compress(piece.data, 9)).decode(),
                }
                for piece in pieces
            ]
            for pieces in self.inputs
        ]
        document = {"recipe": self.recipe, "wish": asdict(self.wish), "inputs": inputs}
        return json.dumps(document, indent=1) + "\n"


def load(text: str) -> Case:
    """Read what `Case.dump` wrote.

    Raises:
        ValueError, KeyError: it is something else.
    """
    document = json.loads(text)
    inputs = []
    for pieces in document["inputs"]:
        for piece in pieces:
            if piece["format"] not in _FORMATS:
                raise ValueError(f"unknown format {piece['format']}")
        inputs.append(
            tuple(
                Piece(
                    piece["format"],
                    zlib.decompress(base64.b64decode(piece["data"])),
                    piece["discontinuity"],
                )
                for piece in pieces
            )
        )
    return Case(tuple(inputs), document["recipe"], Wish(**document.get("wish", {})))
