"""How many streams does this machine carry before the first client falls behind real time?

    python -m bench.scale [--streams 1 25 50 100 150 200 300 400]

Clients that play at the clip's pace, more and more of them, until one has waited for more than two
seconds in all.  The origin and the clients run on the same cores: what raw pass-through reaches is
what the rig reaches.
"""

from __future__ import annotations

from bench import clip as clips
from bench import paced
from bench.contenders import REMUXD, REMUXD_2, Contender
from bench.options import Options, alone
from bench.results import Result

SHOWN = ("carried", "late_s", "cores", "tree_pss_mb", "pss_per_stream_mb")
STEPS = (1, 10, 25, 50, 75, 100, 150, 200, 250, 300, 400, 500, 600, 800)
LATE_S = 2.0
MB = 1e6


async def run(options: Options) -> Result:
    result = Result(question="scale")
    for contender in _contenders(options):
        await _climb(options, contender, result)
    return result


def _contenders(options: Options) -> list[Contender]:
    able = [contender for contender in options.contenders if not contender.waits]
    if REMUXD in able:
        able.append(REMUXD_2)
    return able


async def _climb(options: Options, contender: Contender, result: Result) -> None:
    bytes_per_s = clips.load(options.folder).bytes_per_s
    for streams in STEPS if options.full else options.streams:
        case = {"streams": streams}
        try:
            one = await paced.run_once(
                options.folder, contender, streams, pace="client", window_s=options.window_s
            )
        except (RuntimeError, TimeoutError) as error:
            print(f"{contender.name} at {streams}: {error}")
            result.add(contender.name, case, carried=0)
            return
        result.add(
            contender.name,
            case,
            carried=int(one.late_s < LATE_S),
            late_s=one.late_s,
            cores=one.cpu_s / one.window_s,
            real_time=one.delivered_bytes / one.window_s / streams / bytes_per_s,
            tree_pss_mb=one.pss_bytes / MB,
            pss_per_stream_mb=(one.pss_bytes - one.idle_pss_bytes) / streams / MB,
        )
        if one.late_s >= LATE_S:
            return


if __name__ == "__main__":
    alone(run, __doc__, SHOWN)
