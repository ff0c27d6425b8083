"""What the README shows of the measurements: three pictures and a few figures, from the results.

It is written between two markers there; nothing else is touched.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from bench.contenders import REMUXD
from bench.figures import NETWORK, PACES, against_pipe, usual
from bench.results import Result

__all__ = ["BEGIN", "END", "PICTURES", "asked_for", "fill"]

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
PICTURES = {
    "first-fragment.png": "Time to the first whole fragment",
    "memory.png": "Memory per stream",
    "cpu.png": "CPU per megabyte delivered",
}


def fill(readme: Path, results: Mapping[str, Result], pictures: Path, report: Path) -> bool:
    """Write the figures between the markers of a README; tell whether it has them."""
    text = readme.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or not results:
        return False
    shown = "\n".join(_lines(results, readme.parent, pictures, report))
    readme.write_text(f"{before}{BEGIN}\n{shown}\n{END}{after}")
    return True


def _lines(
    results: Mapping[str, Result], root: Path, pictures: Path, report: Path
) -> Iterator[str]:
    for name, title in PICTURES.items():
        if (pictures / name).is_file():
            yield f"![{title}]({_link(pictures / name, root)})\n"
    yield from (f"- {line}" for line in asked_for(results))
    about = next(iter(results.values())).about
    yield (
        f"\nMeasured at commit `{about['commit']}` on {about['cores']} cores ({about['cpu']}); "
        f"[all figures]({_link(report, root)})."
    )


def _link(file: Path, root: Path) -> str:
    return Path(os.path.relpath(file, root)).as_posix()


def asked_for(results: Mapping[str, Result]) -> Iterator[str]:
    """Say in figures of one's own what users ask for: how soon, and how much memory is saved."""
    if "ttff" in results:
        for source in ("master", "media"):
            sides = [
                results["ttff"].median(
                    REMUXD.name, value, source=source, connections="cold", **NETWORK
                )
                for value in ("first_byte_ms", "first_fragment_ms")
            ]
            _, pipe = against_pipe(
                results,
                "ttff",
                "first_byte_ms",
                {"source": source, "connections": "cold", **NETWORK},
            )
            if sides[0] is not None and sides[1] is not None and pipe is not None:
                yield (
                    f"First byte, {source} playlist, {NETWORK['delay_ms']} ms delay, "
                    f"{NETWORK['rate_mbit']} Mbit/s: **{sides[0]:.0f} ms** (ffmpeg pipe: "
                    f"{pipe:.0f} ms); first whole fragment: {sides[1]:.0f} ms."
                )
    for pace in PACES if "memory" in results else ():
        case = usual(results["memory"], pace)
        ours, theirs = against_pipe(results, "memory", "pss_per_stream_mb", case)
        if ours is not None and theirs:
            yield (
                f"Memory saved against the ffmpeg pipe, {case['streams']} streams, {pace}-paced: "
                f"**{1 - ours / theirs:.0%}** ({ours:.2g} instead of {theirs:.2g} MB per stream)."
            )
