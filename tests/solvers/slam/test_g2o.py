"""Reading and writing g2o files: what is right is read, what is wrong is named."""

import numpy as np
import pytest

from jaxsci.solvers.slam import G2OError, graph_cost, read_g2o, write_g2o

PLANE = """# a triangle
VERTEX_SE2 0 0 0 0
VERTEX_SE2 1 1 0 0.1
VERTEX_SE2 2 1 1 1.5
FIX 0
EDGE_SE2 0 1 1.1 0 0.1 100 1 2 90 3 400
EDGE_SE2 1 2 0 1 1.4 100 0 0 100 0 400
EDGE_SE2 0 2 1 1 1.5 100 0 0 100 0 400
"""
EYE6 = "1 0 0 0 0 0 1 0 0 0 0 1 0 0 0 1 0 0 1 0 1"
SPACE = f"""VERTEX_SE3:QUAT 3 0 0 0 0 0 0 1
VERTEX_SE3:QUAT 7 1 0 0 0 0 0.6 0.8
VERTEX_TRACKXYZ 9 1 2 3
EDGE_SE3:QUAT 3 7 1 0 0 0 0 1.2 1.6 {EYE6}
PARAMS_SE3OFFSET 5 0.1 0 0 0 0 0.6 0.8
EDGE_SE3_TRACKXYZ 3 9 5 1 2 3.5 4 0 0 5 0 6
"""


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "graph.g2o"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def same(a, b):
    for name in ("ids", "edges", "fixed", "landmark_ids", "landmark_edges"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    for name in ("poses", "measurements", "information", "landmarks", "landmark_measurements"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-15, atol=1e-15)


def test_plane(written):
    graph = read_g2o(written(PLANE))
    assert graph.dim == 2 and graph.fixed.tolist() == [True, False, False]
    np.testing.assert_allclose(graph.poses[1], [np.cos(0.1), np.sin(0.1), 1, 0])
    np.testing.assert_array_equal(graph.information[0], [[100, 1, 2], [1, 90, 3], [2, 3, 400]])
    assert graph.report.lines == 8 and str(graph.report) == "8 lines"


def test_space_with_a_landmark_and_an_offset(written):
    graph = read_g2o(written(SPACE))
    assert graph.dim == 3 and graph.ids.tolist() == [3, 7] and graph.edges.tolist() == [[0, 1]]
    np.testing.assert_allclose(graph.measurements[0, :4], [0.8, 0, 0, 0.6])
    assert graph.report.unnormalised == 1
    # By hand: the sensor stands at (0.1, 0, 0), turned about z by twice atan(0.6 / 0.8).
    turn = np.array([[0.28, -0.96, 0], [0.96, 0.28, 0], [0, 0, 1]])
    r = turn.T @ (np.array([1, 2, 3]) - [0.1, 0, 0]) - [1, 2, 3.5]
    assert graph_cost(graph) == pytest.approx(0.5 * r @ np.diag([4.0, 5, 6]) @ r, rel=1e-12)


@pytest.mark.parametrize("text", [PLANE, SPACE])
def test_written_and_read_again(written, tmp_path, text):
    graph = read_g2o(written(text))
    write_g2o(tmp_path / "again.g2o", graph)
    same(graph, read_g2o(tmp_path / "again.g2o"))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("EDGE_SE2 0 1 1.1 0 0.1 100 1 2 90 3", "expected 12 columns, got 11"),
        ("EDGE_SE2 0 1 1.1 0 0.1 100 1 2 90 3 400 7", "expected 12 columns, got 13"),
        ("EDGE_SE2 0 one 1.1 0 0.1 100 1 2 90 3 400", "a whole number, an id in column 3"),
        ("EDGE_SE2 0 1 1.1 0 0.1 100 1 2 90 3 4oo", "a number in column 12, got '4oo'"),
        ("EDGE_SE2 0 1 1.1 0 0.1 100 1 2 90 3 nan", "not finite"),
        ("EDGE_SE2 0 1 1.1 0 0.1 100 1 2 90 3 1e999", "not finite"),
        ("EDGE_SE2 0 1 1_1 0 0.1 100 1 2 90 3 1", "underscore"),
        ("EDGE_SE2 1 1 1.1 0 0.1 100 1 2 90 3 1", "from a vertex to itself"),
        ("EDGE_SE2 0 -1 1.1 0 0.1 100 1 2 90 3 1", "an id must be"),
        ("EDGE_SE2 0 9223372036854775808 1.1 0 0.1 100 1 2 90 3 1", "an id must be"),
        ("VERTEX_SE2 1 5 5 5", "given differently on line 3"),
        ("FIX", "a whole number, an id in column 2"),
        ("FIX 0 5", "FIX of a vertex that is not a pose"),
        ("FIX 0 x", "in column 2, got 'x'"),
    ],
)
def test_malformed_lines_are_named(written, line, reason):
    path = written(PLANE + line + "\n")
    with pytest.raises(G2OError, match=reason) as info:
        read_g2o(path)
    assert [(bad.number, bad.text) for bad in info.value.lines] == [(9, line)]
    graph = read_g2o(path, malformed="skip")
    assert len(graph.edges) == 3 and graph.report.malformed == info.value.lines
    assert "1 malformed lines skipped; first: line 9" in str(graph.report)


def test_every_malformed_line_is_named(written):
    bad = "".join(f"EDGE_SE2 0 1 {k}\n" for k in range(30))
    with pytest.raises(G2OError, match=r"(?s)30 malformed lines.*line 9.*and 20 more") as info:
        read_g2o(written(PLANE + bad))
    assert [line.number for line in info.value.lines] == list(range(9, 39))


def test_unknown_tags_are_counted(written):
    graph = read_g2o(written(PLANE + "EDGE_FOO 1 2 3\nEDGE_FOO\nBAR \xff\n"))
    assert graph.report.unknown_tags == {"EDGE_FOO": 2, "BAR": 1}
    assert "tag not known: EDGE_FOO (2), BAR (1)" in str(graph.report)


def test_missing_vertices_are_composed_from_the_edges(written):
    edges = [line for line in PLANE.splitlines() if line.startswith("EDGE_SE2 ")][:2]
    graph = read_g2o(written("\n".join(edges)))
    assert graph.report.missing == (0, 1, 2)
    assert graph_cost(graph) < 1e-25
    kept = read_g2o(written(PLANE.replace("VERTEX_SE2 1 1 0 0.1\n", "")))
    assert kept.report.missing == (1,)
    np.testing.assert_allclose(kept.poses[2], [np.cos(1.5), np.sin(1.5), 1, 1])
    np.testing.assert_allclose(kept.poses[1, 2:], [1.1, 0])


def test_duplicates_and_parts(written):
    apart = "VERTEX_SE2 1 1 0 0.1\nEDGE_SE2 10 11 1 0 0 1 0 0 1 0 1\n"
    graph = read_g2o(written(PLANE + apart))
    assert graph.report.duplicates == (1,) and graph.report.components == 2
    assert graph.components.tolist() == [0, 0, 0, 1, 1]
    assert graph.anchors.tolist() == [True, False, False, True, False]


def test_indefinite_information_is_named_or_replaced(written):
    line = "EDGE_SE2 0 2 1 1 1.5 100 120 0 100 0 400"
    path = written(PLANE + line + "\n")
    with pytest.raises(G2OError, match=r"isotropic.*\n.*line 9: edge 0 2 .*eigenvalue -20") as info:
        read_g2o(path)
    assert info.value.lines[0].text == line
    graph = read_g2o(path, information="isotropic")
    np.testing.assert_array_equal(graph.information[3], np.diag([100, 100, 400]))
    assert graph.report.indefinite == info.value.lines
    assert read_g2o(path, information="keep").information[3, 0, 1] == 120
    hopeless = PLANE + "EDGE_SE2 0 2 1 1 1.5 -100 0 0 -100 0 400\n"
    with pytest.raises(G2OError, match="no scale"):
        read_g2o(written(hopeless), information="isotropic")


def test_a_singular_matrix_rounded_to_six_digits_is_not_indefinite(written):
    a = np.array([1.234567, 0.345678, 21.98765])
    i = [f"{x:.6g}" for x in np.outer(a, a)[np.triu_indices(3)]]
    assert len(read_g2o(written(PLANE + "EDGE_SE2 0 2 1 1 1 " + " ".join(i))).edges) == 4


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "holds no pose"),
        (b"\x00\xff\n\x80", "holds no pose"),
        (PLANE + SPACE, "mixes poses of the plane and of space"),
        (SPACE + f"EDGE_SE3:QUAT 3 9 1 0 0 0 0 0 1 {EYE6}", "names a landmark"),
        (SPACE + "EDGE_SE3_TRACKXYZ 3 7 5 1 2 3 1 0 0 1 0 1", "from a pose to a landmark"),
        (SPACE + "EDGE_SE3_TRACKXYZ 3 9 6 1 2 3 1 0 0 1 0 1", "no PARAMS_SE3OFFSET"),
        (SPACE + "VERTEX_TRACKXYZ 7 1 2 3", "that of a pose"),
        (SPACE + "VERTEX_SE3:QUAT 8 1 2 3 0 0 0 0", "quaternion is zero"),
    ],
)
def test_what_cannot_be_read(written, text, match):
    with pytest.raises(G2OError, match=match):
        read_g2o(written(text))


def test_bad_arguments(written, tmp_path):
    with pytest.raises(OSError):
        read_g2o(tmp_path / "absent.g2o")
    with pytest.raises(ValueError, match="did you mean 'skip'"):
        read_g2o(written(PLANE), malformed="skp")


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "poses", "edges", "log", "g2o"),
    [
        ("tinyGrid3D", 9, 11, 143.3178735635, 106.5321853177),
        ("intel", 1728, 2512, 276.998, 275.868),
        ("manhattan", 3500, 5453, None, None),
    ],
)
def test_public_graphs(data_dir, name, poses, edges, log, g2o):
    graph = read_g2o(data_dir / "pose_graphs" / f"{name}.g2o")
    assert (len(graph.poses), len(graph.edges)) == (poses, edges)
    assert len(graph.report.missing) == (3500 if name == "manhattan" else 0)
    if log is not None:
        assert graph_cost(graph) == pytest.approx(log, abs=5e-4)
        assert graph_cost(graph, "g2o") == pytest.approx(g2o, abs=5e-4)


def test_lines_of_mixed_tags_are_read_alike_in_blocks_of_any_size(tmp_path, monkeypatch):
    lines = []
    for i in range(40):
        lines += [f"VERTEX_SE2 {i} {i}.5 -0.25 1e-3", f"  VERTEX_XY {100 + i} 1 2", "# a comment"]
        if i:
            lines += [f"EDGE_SE2 {i - 1} {i} 1 0 0 1 0 0 1 0 1", "UNKNOWN 1 2 3", ""]
        lines.append(f"EDGE_SE2_XY\t{i} {100 + i} 1 2 1 0 1")
    lines[77] = "EDGE_SE2 1 2 1 0 x 1 0 0 1 0 1"
    path = tmp_path / "mixed.g2o"
    path.write_text("\n".join(lines))
    graphs = []
    for block in (1, 64, 1000, 1 << 18):
        monkeypatch.setattr("jaxsci.solvers.slam._g2o_lines._BLOCK", block)
        with pytest.raises(ValueError, match="line 78: expected a number in column 6, got 'x'"):
            read_g2o(path)
        graphs.append(read_g2o(path, malformed="skip"))
    for graph in graphs[1:]:
        assert str(graph.report) == str(graphs[0].report)
        for name in ("poses", "edges", "measurements", "landmarks", "landmark_edges", "ids"):
            assert np.array_equal(getattr(graph, name), getattr(graphs[0], name))
    assert graphs[0].report.unknown_tags == {"UNKNOWN": 39}
