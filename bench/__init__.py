"""Measurements: one question per file, contenders behind one protocol, ratios within one run.

    python -m bench.ttff --json results.json

Absolute figures belong to the machine they were taken on; what counts is contender / contender.
"""
