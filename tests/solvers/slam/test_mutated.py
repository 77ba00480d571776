"""Mutated files: a clean error that names a line, or a correct read; never a crash or a hang."""

import random
import time

import numpy as np
import pytest

from jaxsci.solvers.slam import (
    G2OError,
    PoseGraph,
    graph_cost,
    manhattan,
    read_g2o,
    sphere,
    write_g2o,
)

LANDMARKS = """VERTEX_XY 900 1 2
EDGE_SE2_XY 0 900 1 2 4 0 5
EDGE_SE2_XY 3 901 1 1 4 0.1 5
FIX 0 2
"""
NUMBERS = "nan inf -inf 1e999 -1 0 1e308 1e-320 1_0 0x1p3 \u0661 NaN(3) --1 1..2 1e"
TAGS = "EDGE_SE2 VERTEX_SE2 EDGE_SE3:QUAT VERTEX_SE3:QUAT FIX # PARAMS_SE3OFFSET EDGE_SE2_XY"
TOKENS = f"{NUMBERS} {TAGS}".split(" ")


def mutate(text: bytes, chance: random.Random) -> bytes:
    """A few random edits: bytes, tokens, columns, lines."""
    lines = text.split(b"\n")
    for _ in range(chance.choice((1, 1, 2, 5))):
        k = chance.randrange(len(lines))
        tokens = lines[k].split(b" ")
        t = chance.randrange(len(tokens))
        kind = chance.randrange(10)
        if kind == 0:
            raw = bytearray(lines[k] or b" ")
            raw[chance.randrange(len(raw))] = chance.randrange(256)
            lines[k] = bytes(raw)
        elif kind == 1:
            tokens[t] = chance.choice(TOKENS).encode()
        elif kind == 2:
            del tokens[t]
        elif kind == 3:
            tokens.insert(t, chance.choice(TOKENS).encode())
        elif kind == 4:
            tokens[t] = b"-" + tokens[t]
        elif kind == 5:
            tokens[t] = b"%d" % chance.randrange(2000)
        elif kind == 6:
            lines.insert(k, chance.choice(lines))
        elif kind == 7 and len(lines) > 1:
            del lines[k]
            continue
        elif kind == 8:
            lines[k] = lines[k][: chance.randrange(len(lines[k]) + 1)]
        else:
            tokens[t] = tokens[t].replace(b"e", b"").replace(b".", b"")
        if kind in (1, 2, 3, 4, 5, 9):
            lines[k] = b" ".join(tokens)
    out = b"\n".join(lines)
    return out[: chance.randrange(len(out) + 1)] if chance.random() < 0.05 else out


def plainly(path) -> PoseGraph | None:
    """A second reader, slow and simple: what the file says if every line of it is plain."""
    poses: dict[int, list[float]] = {}
    edges = []
    for line in path.read_bytes().split(b"\n"):
        tokens = line.split()
        if not tokens or tokens[0] not in (b"VERTEX_SE2", b"EDGE_SE2"):
            continue
        k = 2 if tokens[0] == b"VERTEX_SE2" else 3
        ids, numbers = [int(t) for t in tokens[1:k]], [float(t) for t in tokens[k:]]
        if k == 2:
            poses.setdefault(ids[0], numbers)
        else:
            edges.append((ids, numbers))
    if not all(i in poses for ids, _ in edges for i in ids):
        return None
    names = sorted(poses)
    upper = np.zeros((len(edges), 3, 3))
    row, column = np.triu_indices(3)
    for k, (_, numbers) in enumerate(edges):
        upper[k, row, column] = upper[k, column, row] = numbers[3:]

    def pose(x, y, angle, *_):
        return [np.cos(angle), np.sin(angle), x, y]

    return PoseGraph(
        np.array([pose(*poses[name]) for name in names]),
        np.array([[names.index(i) for i in ids] for ids, _ in edges]),
        np.array([pose(*numbers) for _, numbers in edges]),
        upper,
    )


def check(path, text):
    """Reads a mutated file in every way there is."""
    path.write_bytes(text)
    for settings in ({}, {"malformed": "skip", "information": "isotropic"}):
        try:
            graph = read_g2o(path, **settings)
        except G2OError as error:
            lines = text.split(b"\n")
            for line in error.lines:
                shown = lines[line.number - 1].strip().decode(errors="backslashreplace")
                assert line.reason and line.text[:50] == shown[:50]
            # What can be skipped or replaced is; what is left has no remedy.
            hopeless = ("holds no pose", "mixes poses", "leave no scale")
            assert (error.lines and not settings) or any(text in str(error) for text in hopeless)
            continue
        assert len(graph.poses) and np.isfinite(graph.poses).all()
        length = np.linalg.norm(graph.poses[:, : -graph.dim], axis=1)
        np.testing.assert_allclose(length, 1, atol=1e-12)
        assert str(graph.report)
        if not settings and graph.dim == 2 and len(graph.edges):
            with np.errstate(all="ignore"):
                again, cost = plainly(path), graph_cost(graph)
                if again is not None and np.isfinite(cost):
                    marks = 0.5 * sum_of_sightings(graph)
                    np.testing.assert_allclose(cost, graph_cost(again) + marks, rtol=1e-9)


def sum_of_sightings(graph):
    """Twice the landmarks' share of the cost, by hand."""
    total = 0.0
    for k, (i, m) in enumerate(graph.landmark_edges):
        c, s, x, y = graph.poses[i]
        dx, dy = graph.landmarks[m] - [x, y]
        off = np.array([c * dx + s * dy, -s * dx + c * dy]) - graph.landmark_measurements[k]
        total += off @ graph.landmark_information[k] @ off
    return total


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("g2o")
    write_g2o(folder / "plane.g2o", manhattan(12, block=2, blocks=2, closures=1.0, seed=0))
    write_g2o(folder / "space.g2o", sphere(2, 4, seed=0))
    plane = (folder / "plane.g2o").read_bytes() + LANDMARKS.encode()
    return plane, (folder / "space.g2o").read_bytes()


@pytest.mark.parametrize(
    ("start", "count"), [(0, 300), pytest.param(300, 10_000, marks=pytest.mark.slow)]
)
def test_mutated_files(tmp_path, originals, start, count):
    slowest = 0.0
    for seed in range(start, start + count):
        text = mutate(originals[seed % 2], random.Random(seed))
        began = time.process_time()
        try:
            check(tmp_path / "graph.g2o", text)
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error
        slowest = max(slowest, time.process_time() - began)
    assert slowest < 2.0
