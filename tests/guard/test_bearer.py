"""The operator's token."""

import pytest

from proxy.errors import Unauthorized
from proxy.guard.bearer import check

TOKEN = "0123456789abcdef-._~+/=="


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_check_takes_the_token(scheme: str) -> None:
    """The scheme may be spelled in any case (RFC 9110, section 11.1)."""
    check(TOKEN, f"{scheme} {TOKEN}")


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}x",
     f"Bearer {TOKEN}, Bearer {TOKEN}", "Bearer \udcff", f"Bearer {TOKEN.upper()}"],
)  # fmt: skip
def test_check_refuses_anything_else(header: str) -> None:
    """Missing, of another scheme, another one, more than one."""
    with pytest.raises(Unauthorized):
        check(TOKEN, header)
