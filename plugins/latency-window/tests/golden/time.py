#!/usr/bin/env python3
"""Prints what a Python list and numpy.percentile cost a value: the yardstick of `cargo run --release --example percentiles`."""

import random
import time

import numpy

COUNT = 1_000_000

r = random.Random(1)
draws = [int(r.lognormvariate(4, 1)) for _ in range(COUNT)]
best = None
for _ in range(5):
    start = time.perf_counter_ns()
    values = []
    for value in draws:
        values.append(value)
    numpy.percentile(values, [50, 75, 90, 99])
    took = (time.perf_counter_ns() - start) / COUNT
    best = took if best is None else min(best, took)
print(f"{best:.1f} ns a value, list append and numpy.percentile, {COUNT} integers")
