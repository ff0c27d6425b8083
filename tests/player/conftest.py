"""One browser for the tests of a file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest_asyncio

from tests.conftest import missing
from tests.support.browser import chromium, lacking

if TYPE_CHECKING:
    from playwright.async_api import Browser


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    if what := lacking():
        missing(what)
    async with chromium() as found:
        yield found
