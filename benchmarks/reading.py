"""How fast g2o files are read: `python benchmarks/reading.py FOLDER`.

FOLDER holds the public files. Edges per second, of the best of several readings, everything
included: numbers, checks of every line, information matrices. By the processor's clock too, which
other work on the machine disturbs less than the wall's. GTSAM's reader, where it is installed.
"""

import argparse
import importlib
import importlib.util
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from timing import Measurement, report

from jaxsci.solvers.slam import read_g2o

NAMES = ("sphere2500", "city10000", "torus3D")


def best(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, tuple[float, float]]:
    """The least seconds by the wall and of the processor, of functions called in turn."""
    found = dict.fromkeys(calls, (float("inf"), float("inf")))
    for _ in range(repeats):
        for name, call in calls.items():
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            seconds = time.perf_counter() - wall, time.process_time() - cpu
            found[name] = min(seconds[0], found[name][0]), min(seconds[1], found[name][1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repeats", type=int, default=40)
    arguments = parser.parse_args()
    rows = []
    for name in NAMES:
        path = arguments.folder / f"{name}.g2o"
        graph = read_g2o(path)
        calls: dict[str, Callable[[], Any]] = {"ours": partial(read_g2o, path)}
        if importlib.util.find_spec("gtsam"):
            peer: Any = importlib.import_module("gtsam").readG2o
            calls["GTSAM"] = partial(peer, str(path), graph.dim == 3)
        seconds = best(calls, arguments.repeats)
        wall, cpu = (len(graph.edges) / each for each in seconds["ours"])
        rows += [
            Measurement(f"{name}: thousand edges per second", wall / 1e3, "", "higher", 100),
            Measurement(f"{name}: the same, per second of processor", cpu / 1e3, "", "higher"),
        ]
        if "GTSAM" in seconds:
            ratio = seconds["ours"][1] / seconds["GTSAM"][1]
            rows.append(
                Measurement(f"{name}: processor time / GTSAM's reader", ratio, "x", "lower")
            )
    print(
        report(
            "reading",
            "Reading g2o files",
            "python benchmarks/reading.py ../shared/data/pose_graphs",
            rows,
            "The best of 40 readings. sphere2500: every information matrix is another.",
        )
    )


if __name__ == "__main__":
    main()
