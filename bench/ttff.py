"""How long until the first byte, and until the first whole fragment?

    python -m bench.ttff [--runs 7] [--delay-ms 20] [--rate-mbit 50] [--json FILE]

From a multivariant playlist with three variants, and from a media playlist.  The contenders take
turns, so that what else the machine does hits them alike.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp

from bench.contenders import Contender, address, ffmpeg_pipe, process, remuxd, said_port, serving
from proxy.demo import clip

TIMEOUT_S = 30


def first_fragment_size(data: bytes | bytearray) -> int | None:
    """Return how many bytes lead to the end of the first whole `moof` and `mdat`."""
    place, seen = 0, False
    while place + 8 <= len(data):
        size, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        place += size
        seen = seen or kind == b"moof"
        if kind == b"mdat" and seen:
            return place if place <= len(data) else None
    return None


async def measure(url: str) -> tuple[float, float]:
    """Return the seconds to the first byte of the body and to the first whole fragment."""
    began_s = time.perf_counter()
    first_byte_s = 0.0
    data = bytearray()
    # A connection of its own for each run, as a player would make one.
    async with (
        asyncio.timeout(TIMEOUT_S),
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.get(url) as response,
    ):
        response.raise_for_status()
        async for chunk in response.content.iter_any():
            first_byte_s = first_byte_s or time.perf_counter() - began_s
            data += chunk
            if first_fragment_size(data) is not None:
                return first_byte_s, time.perf_counter() - began_s
    raise RuntimeError("the stream ended before its first fragment")


def summary(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    p95 = ordered[min(len(ordered) - 1, round(0.95 * len(ordered)))]
    return {"median_ms": statistics.median(ordered) * 1000, "p95_ms": p95 * 1000}


async def run(options: argparse.Namespace) -> dict[str, object]:
    contenders: list[Contender] = [
        remuxd(),
        ffmpeg_pipe("empty_moov"),
        ffmpeg_pipe("delay_moov"),
    ]
    origin = (
        sys.executable, "-m", "bench.origin",
        "--delay-ms", str(options.delay_ms), "--rate-mbit", str(options.rate_mbit),
    )  # fmt: skip
    results: dict[str, dict[str, object]] = {}
    async with AsyncExitStack() as stack:
        port = await said_port(await stack.enter_async_context(process(origin)))
        ports = {c.name: await stack.enter_async_context(serving(c)) for c in contenders}
        for question, path in (
            ("multivariant", clip.MASTER),
            ("media", f"{clip.VARIANTS[0].name}/index.m3u8"),
        ):
            source = f"http://127.0.0.1:{port}/{path}"
            times: dict[str, list[tuple[float, float]]] = {c.name: [] for c in contenders}
            for turn in range(options.runs + 1):
                for name, all_taken in times.items():
                    taken = await measure(address(ports[name], source))
                    if turn:  # the first turn warms everybody up
                        all_taken.append(taken)
            results[question] = {
                name: {
                    "first_byte": summary([first for first, _ in taken]),
                    "first_fragment": summary([fragment for _, fragment in taken]),
                }
                for name, taken in times.items()
            }
    return {
        "question": "time to first byte and first fragment",
        "runs": options.runs,
        "delay_ms": options.delay_ms,
        "rate_mbit": options.rate_mbit,
        "machine": platform.platform(),
        "python": platform.python_version(),
        "results": results,
    }


def show(report: dict[str, object]) -> None:
    results = report["results"]
    assert isinstance(results, dict)
    for question, by_name in results.items():
        print(f"\n{question} playlist ({report['delay_ms']} ms, {report['rate_mbit']} Mbit/s)")
        print(f"{'':24}{'first byte':>14}{'first fragment':>18}{'ratio':>8}")
        pipes = [v["first_fragment"]["median_ms"] for n, v in by_name.items() if n != "remuxd"]
        for name, values in by_name.items():
            fragment = values["first_fragment"]["median_ms"]
            first = values["first_byte"]["median_ms"]
            print(f"{name:24}{first:11.1f} ms{fragment:15.1f} ms{fragment / min(pipes):8.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--delay-ms", type=float, default=20)
    parser.add_argument("--rate-mbit", type=float, default=50, help="per connection; 0: unlimited")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report = asyncio.run(run(options))
    show(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
