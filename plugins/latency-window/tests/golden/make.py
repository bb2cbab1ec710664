#!/usr/bin/env python3
"""Makes percentiles.jsonl beside this file: what numpy itself answers, for the tests to compare bit by bit.

Run by hand with any numpy of 2.x (`pip install numpy`), then commit the result. Each line is one case:
  name         shape, size and seed
  values       [value, times] pairs; a value with a decimal point was a float for numpy, else all were ints
  percentiles  what was asked
  answers      the doubles of the answers as hexadecimal bits, in that order
"""

import json
import pathlib
import random
import struct
from collections import Counter

import numpy

SIZES = [1, 2, 3, 4, 5, 7, 10, 11, 50, 99, 100, 101, 1000, 1001]
PERCENTILES = [50, 75, 90, 99]
MORE_PERCENTILES = [0, 0.1, 1, 5, 10, 25, 33.3, 50, 66.7, 75, 90, 95, 99, 99.9, 99.99, 100]
DISTINCT_VALUES_MAX = 2048

# An append time (unix ms) as Kafka gives it; fractional latencies are append time - start time, in doubles.
APPENDED_MS = 1_732_280_000_123


def integer_shapes(r):
    return {
        "constant": lambda: 12,
        "two_values": lambda: r.choice([10, 10_000]),
        "uniform_1000": lambda: r.randrange(1000),
        "uniform_wide": lambda: r.randrange(10**9),
        "skewed_clock": lambda: r.randrange(-50, 50),
        "negative": lambda: -r.randrange(1, 100_000),
        "lognormal": lambda: int(r.lognormvariate(4, 1)),
        "pareto": lambda: int(10 * r.paretovariate(1.1)),
        "delay_10s": lambda: 10_000 + int(r.expovariate(1 / 20)),
        "plateau_99": lambda: 10 if r.random() < 0.99 else r.randrange(1_000, 60_000),
        "replay_hour": lambda: r.randrange(3_600_000),
        "fifty_years": lambda: r.randrange(-(10**12), 10**12),
    }


def float_shapes(r):
    return {
        "microsecond_starts": lambda: APPENDED_MS - (APPENDED_MS - r.expovariate(1 / 40)),
        "tenths": lambda: APPENDED_MS - (APPENDED_MS - r.randrange(10_000) / 10),
        "halves_and_negatives": lambda: float(APPENDED_MS) - (APPENDED_MS + r.randrange(-400, 400) / 2),
        "any_start": lambda: APPENDED_MS - r.random() * 2 * APPENDED_MS,
        "tiny_append_times": lambda: 5 - r.random() * 10,
    }


def case(name, values, percentiles):
    answers = numpy.percentile(values, percentiles)
    return {
        "name": name,
        "values": sorted(Counter(values).items()),
        "percentiles": percentiles,
        "answers": [struct.pack(">d", answer).hex() for answer in answers],
    }


def cases():
    for family, shapes in (("int", integer_shapes), ("float", float_shapes)):
        for seed in range(7):
            r = random.Random(f"{family}/{seed}")
            for shape, draw in shapes(r).items():
                # The large sizes once: they make nine tenths of the file.
                for size in SIZES if seed == 0 else [size for size in SIZES if size <= 50]:
                    percentiles = MORE_PERCENTILES if seed == 0 else PERCENTILES
                    yield case(f"{family}/{shape}/{size}/{seed}", [draw() for _ in range(size)], percentiles)
    # As many distinct values as are promised to be exact, each several times.
    r = random.Random("full")
    full = r.sample(range(10**6), DISTINCT_VALUES_MAX)
    yield case("int/full", full + r.choices(full, k=50_000), MORE_PERCENTILES)
    full = [APPENDED_MS - (APPENDED_MS - value / 1000) for value in r.sample(range(10**8), DISTINCT_VALUES_MAX)]
    full = list(set(full))
    yield case("float/full", full + r.choices(full, k=50_000), MORE_PERCENTILES)


def main():
    target = pathlib.Path(__file__).with_name("percentiles.jsonl")
    with target.open("w") as out:
        for line in cases():
            out.write(json.dumps(line, separators=(",", ":")) + "\n")


main()
