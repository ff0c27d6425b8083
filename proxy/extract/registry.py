"""The extractors there are, by name.

    @extractor("example_tv")
    def example_tv(document: Document) -> Iterable[Candidate]: ...

An extractor is a pure function of a `Document`.  It yields candidates in the order of the page, and
may give up silently.  Those with a lower `order` are believed first where candidates are equal
otherwise: what knows one site (0) before what knows a standard before what guesses.  Importing its
module registers it; `load` imports every module in `extractors/`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import ModuleType

from proxy.extract.document import Document
from proxy.extract.model import Candidate

__all__ = ["Extract", "Extractor", "extractor", "load", "registered"]

Extract = Callable[[Document], Iterable[Candidate]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Extractor:
    name: str
    order: int
    extract: Extract


_extractors: dict[str, Extractor] = {}


def extractor(name: str, *, order: int = 0) -> Callable[[Extract], Extract]:
    """Register a function under `name`, which `inspect` shows.

    Raises:
        ValueError: the name is taken.
    """

    def register(extract: Extract) -> Extract:
        if name in _extractors:
            msg = f"there is an extractor {name} already"
            raise ValueError(msg)
        _extractors[name] = Extractor(name=name, order=order, extract=extract)
        return extract

    return register


def registered() -> tuple[Extractor, ...]:
    """Return all extractors, in their order."""
    return tuple(sorted(_extractors.values(), key=lambda one: (one.order, one.name)))


def load(package: ModuleType) -> None:
    """Import every module of a package, which registers what is in it."""
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
