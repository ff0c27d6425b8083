"""How many streams does this machine carry before the first client falls behind real time?

    python -m bench.scale [--streams 1 25 50 100 150 200 300 400]

Clients that play at the clip's pace, more and more of them, until one has waited for more than two
seconds in all; then between the last number that was carried and the first that was not.  The
origin and the clients run on the same cores: what raw pass-through reaches is what the rig reaches.
remuxd is given memory for as many: with its default budget it refuses more than 256.
"""

from __future__ import annotations

from dataclasses import replace

from bench import clip as clips
from bench.attempts import ERRORS
from bench.contenders import REMUXD, REMUXD_2, SETTINGS, Contender
from bench.options import Options, alone
from bench.paced import pacing_origin, run_once
from bench.processes import Origin
from bench.results import Result

SHOWN = ("carried", "late_s", "cores", "tree_pss_mb", "pss_per_stream_mb")
STEPS = (1, 10, 50, 100, 150, 200, 300, 400, 600, 800)
ROOM = {"REMUXD_MEMORY__BUDGET_BYTES": str(256 * 1024 * 1024)}
LATE_S = 2.0
NEAR = 0.1  # how near the number is looked for, of it
MB = 1e6


async def run(options: Options) -> Result:
    result = Result(question="scale")
    async with pacing_origin(options.folder) as source:
        for contender in _contenders(options):
            await _climb(options, contender, source, result)
    return result


def _contenders(options: Options) -> list[Contender]:
    able = [contender for contender in options.contenders if contender.streams]
    if REMUXD in able:
        able.append(REMUXD_2)
    return [_roomy(contender) for contender in able]


def _roomy(contender: Contender) -> Contender:
    """Give a contender of ours memory for all streams that it is asked for."""
    if not SETTINGS.items() <= contender.environment.items():
        return contender
    return replace(contender, environment={**contender.environment, **ROOM})


async def _climb(options: Options, contender: Contender, source: Origin, result: Result) -> None:
    most, too_many = 0, 0
    for streams in STEPS if options.full else options.streams:
        if not await _carries(options, contender, streams, source, result):
            too_many = streams
            break
        most = streams
    while options.full and too_many - most > max(most * NEAR, 1):
        streams = (most + too_many) // 2
        if await _carries(options, contender, streams, source, result):
            most = streams
        else:
            too_many = streams


async def _carries(
    options: Options, contender: Contender, streams: int, source: Origin, result: Result
) -> bool:
    case = {"streams": streams}
    try:
        one = await run_once(
            options.folder, contender, streams,
            source=source, pace="client", seconds=options.seconds, window_s=options.window_s,
        )  # fmt: skip
    except ERRORS as error:
        result.fail(contender.name, case, error)
        result.add(contender.name, case, carried=0)
        return False
    carried = one.late_s < LATE_S
    result.add(
        contender.name,
        case,
        carried=int(carried),
        late_s=one.late_s,
        cores=one.cpu_s / one.window_s,
        real_time=one.delivered_bytes / one.window_s / streams / _bytes_per_s(options),
        tree_pss_mb=one.pss_bytes / MB,
        pss_per_stream_mb=(one.pss_bytes - one.idle_pss_bytes) / streams / MB,
    )
    return carried


def _bytes_per_s(options: Options) -> float:
    return clips.load(options.folder).bytes_per_s


if __name__ == "__main__":
    alone(run, __doc__, SHOWN)
