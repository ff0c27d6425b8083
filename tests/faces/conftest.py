"""Every test that takes `serve` runs over both faces."""

import pytest

from tests.support.served import Serve, over_aiohttp, over_asgi


@pytest.fixture(params=[over_aiohttp, over_asgi], ids=["aiohttp", "asgi"])
def serve(request: pytest.FixtureRequest) -> Serve:
    face: Serve = request.param
    return face
