"""Measurements: one question per file, contenders behind one protocol, ratios within one run.

    python -m bench            what the promised figures need, and the report
    python -m bench.ttff       one question by itself

Absolute figures belong to the machine they were taken on; what counts is contender / contender.
"""
