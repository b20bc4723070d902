"""Run seeds of the simulation: `python tests/simulation/simulate.py 17` replays one; `0:100000` runs many.

A seed that breaks a rule is printed with the rule; replayed, it prints what happened before.
"""

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from sim_cluster import Cluster
from sim_world import Violation


def broken(seed, trace=None):
    """Run one seed; return the rule that it breaks, or None. Any other error counts, too."""
    try:
        Cluster(seed, trace).run()
    except Violation as violation:
        return str(violation)
    except Exception as error:
        if trace is not None:
            raise
        return f"{type(error).__name__}: {error}"
    return None


def each_broken(seeds):
    """Yield each seed of these that breaks a rule, with the rule."""
    return ((seed, rule) for seed in seeds if (rule := broken(seed)) is not None)


def all_broken(seeds):
    return list(each_broken(seeds))


def first_broken(seeds):
    return next(each_broken(seeds), None)


def search(start, end, processes=None, report=None):
    """Run the seeds in processes, 500 at a time; return those that break a rule, with their rules."""
    chunks = [range(at, min(at + 500, end)) for at in range(start, end, 500)]
    found = []
    with ProcessPoolExecutor(processes or os.cpu_count()) as pool:
        for number, results in enumerate(pool.map(all_broken, chunks), 1):
            found += results
            for seed, rule in results:
                print(f"seed {seed}: {rule}", flush=True)
            if report and number % 20 == 0:
                report(f"{number * 500} of {end - start} seeds, {len(found)} broken")
    return found


def main(seeds):
    if ":" in seeds:
        start, end = map(int, seeds.split(":"))
        return bool(search(start, end, report=partial(print, flush=True)))
    trace = []
    rule = broken(int(seeds), trace)
    for line in trace:
        print(*line)
    print(f"seed {seeds}: {rule or 'every rule held'}")
    return rule is not None


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
