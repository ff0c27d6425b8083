"""Fuzzing: clips are damaged and sent through the real remux, in child processes.

    python -m fuzz                          # until it is stopped
    python -m fuzz --cases 2000 --seed 7

`seeds` makes and reads the clips, `mutate` (with `mutate_ts`, `mutate_stream` and `mutate_mp4`)
damages them, `judge` runs one case and says what became of it, `child` is the process in which that
happens, and `runner` watches it from outside.  A case is told by two numbers, the seed of the run
and its own.  What fails is kept under `crashers/` and replayed by `tests/test_fuzz.py`.
"""
