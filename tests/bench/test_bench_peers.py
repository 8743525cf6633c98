"""Other engines beside ours: their files, their turns, and that wrong answers and failures show; never their speed."""

import numpy as np
import pytest
from json_tables import tables

from npefficient.bench import process
from npefficient.bench.peers import engines, graph, installed, ncnn_file, peer
from npefficient.bench.peers import rounds as run
from npefficient.bench.peers.peer import Needs, Peer
from npefficient.bench.subject import make_subject
from npefficient.commands import bench
from npefficient.errors import NpefficientError
from npefficient.network import architecture, reference
from npefficient.network.parameters import random_weights

INSTALLED = [one for one in peer.PEERS
             if not one.obstacle("float32", 1) and one.engine != "torch_compile"]  # that takes a minute


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return make_subject("lite0", tmp_path_factory.mktemp("small"), (47, 64))  # odd rows: pads differ from axis to axis


def case(subject, batch=1, threads=1):
    return run.Case(subject, "float32", batch, threads)


def evaluate(nodes, x):
    """The nodes in plain NumPy; x (N, H, W, C)."""
    values = {graph.INPUT: x}
    for node in nodes:
        first, *rest = (values[name] for name in node.inputs)
        if node.op == "add":
            out = first + rest[0]
        elif node.op == "pool":
            out = first.mean((1, 2))
        elif node.op == "classifier":
            out = first @ node.weight.T + node.bias
        else:
            top, left, bottom, right = node.pads
            padded = np.pad(first, ((0, 0), (top, bottom), (left, right), (0, 0)))
            size, stride = node.weight.shape[2], node.stride
            windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), (1, 2))[:, ::stride, ::stride]
            subscripts = "nqrcij,cij->nqrc" if node.op == "depthwise" else "nqrcij,mcij->nqrm"
            weight = node.weight[:, 0] if node.op == "depthwise" else node.weight
            out = np.einsum(subscripts, windows, weight, optimize=True) + node.bias
            out = np.clip(out, 0, 6) if node.relu6 else out
        assert out.shape[1:] in (node.out_size, node.out_size[2:])
        values[node.name] = out
    return values[graph.OUTPUT]


def test_nodes_are_the_network(small):
    weights = random_weights(architecture.build("lite0"))
    x = small.input(2)
    expected = reference.Network(weights.architecture, weights.parameters)(x)
    got = evaluate(graph.nodes(weights, 47, 64), x)
    assert np.abs(got - expected).max() < 2e-5 * np.abs(expected).max()


def test_ncnn_file_counts_its_layers_and_values(small, tmp_path):
    target = tmp_path / "m.param"
    ncnn_file.make(str(small.weights), str(target), 1, 47, 64)
    magic, counts, *lines = target.read_text().splitlines()
    words = [line.split() for line in lines]
    outputs = [name for w in words for name in w[4 + int(w[2]):4 + int(w[2]) + int(w[3])]]
    inputs = [name for w in words for name in w[4:4 + int(w[2])]]
    assert magic == "7767517" and counts == f"{len(lines)} {len(outputs)}"
    assert len(set(outputs)) == len(outputs) and len(set(inputs)) == len(inputs)  # each is read once
    assert set(outputs) - set(inputs) == {graph.OUTPUT}
    network = architecture.build("lite0")
    floats = network.param_count() - sum(conv.out_channels for conv in network.convs)  # a bias for scale and shift
    assert target.with_suffix(".bin").stat().st_size == 4 * (floats + len(network.convs) + 1)


def test_all_installed_peers_agree_with_us(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(peer, "PEERS", tuple(INSTALLED))
    monkeypatch.setattr(run, "make_subject", lambda name, directory: make_subject(name, directory, (47, 64)))
    code, out, _ = bench("peers", "--rounds", "1", "--seconds", "0.01", "--json", tmp_path / "p.json")
    rows = tables(tmp_path / "p.json")["peers"]
    assert code == 0 and "left out" not in out
    assert [row["engine"] for row in rows] == ["npefficient", *(one.engine for one in INSTALLED)]
    assert rows[0]["/ ours"] == rows[0]["min / ours"] == 1
    for row in rows:
        assert row["min ms"] <= row["median"] and row["start s"] > 0
        assert row["peak MB"] > 20 and row["installed MB"] > 10


@pytest.mark.parametrize("engine", ["npefficient", *(one.engine for one in INSTALLED)])
def test_wrong_logits_of_a_peer_are_found(small, tmp_path, engine):
    logits = np.load(small._file("float32-logits"))
    for suffix in ("weights", "input"):
        source = small.weights if suffix == "weights" else small._file("input")
        (tmp_path / source.name).write_bytes(source.read_bytes())
    np.save(tmp_path / small._file("float32-logits").name, logits + np.float32(0.01))
    other = type(small)(small.name, small.height, small.width, tmp_path)
    chosen = next(one for one in (peer.OURS, *peer.PEERS) if one.engine == engine)
    assert run.prepared(chosen, case(other))
    with pytest.raises(NpefficientError, match=f"{engine}, lite0 47x64, float32, batch 1, 1 thread: WRONG RESULT"):
        run.time_peer(chosen, case(other), 0.01)


# --- turns -----------------------------------------------------------------------------------------------------------


def result(median):
    return {"minimum": median / 2, "median": median, "start": 1.0, "memory": 10**8, "differs": 0.0}


class Rows:
    def __init__(self):
        self.rows = []

    def add(self, **row):
        self.rows.append(row)


def test_ratios_are_of_the_same_round(small):
    table = Rows()
    run.add_rows(table, case(small), {peer.OURS: [result(1.0), result(2.0), result(4.0)],
                                      Peer("numpy", "numpy"): [result(2.0), result(3.0), result(12.0)]})
    row = table.rows[1]
    assert (row["/ ours"], row["from"], row["to"]) == (2.0, 1.5, 3.0)
    assert (row["min / ours"], row["min ms"], row["median"]) == (2.0, 1000, 3000)
    assert row["version"] == np.__version__
    assert row["rounds"][1] == {"min ms": 1500, "median": 3000, "start s": 1.0, "peak MB": 100, "differs": 0.0}


def test_rounds_take_turns_and_leave_out_what_fails(monkeypatch, small, capsys):
    turns = []

    def time_peer(one, *arguments):
        turns.append(one.engine)
        if one.engine == "b" and turns.count("b") == 2:
            raise process.ProcessFailed("it fell over")
        return result(1.0)

    monkeypatch.setattr(run, "time_peer", time_peer)
    results = run.run_rounds(case(small), [Peer("a", "a"), Peer("b", "b")], 3, 1.0)
    assert turns == ["npefficient", "a", "b", "a", "b", "npefficient", "npefficient", "a"]
    assert {one.engine: len(rounds) for one, rounds in results.items()} == {"npefficient": 3, "a": 3}
    assert "left out: b, lite0 47x64, float32, batch 1, 1 thread (it fell over)" in capsys.readouterr().err


def test_our_own_failure_is_no_peer_left_out(monkeypatch, small):
    def time_peer(*arguments):
        raise process.ProcessFailed("ours fell over")

    monkeypatch.setattr(run, "time_peer", time_peer)
    with pytest.raises(process.ProcessFailed, match="ours fell over"):
        run.run_rounds(case(small), [], 1, 1.0)


def test_what_is_not_installed_is_named(bench, monkeypatch, small):
    monkeypatch.setattr(peer, "PEERS", (Peer("ghost", "ghost", Needs(("no_such_module",))),
                                      Peer("single", "numpy", Needs(("numpy",)), batches=False)))
    monkeypatch.setattr(run, "time_peer", lambda *arguments: result(1.0))
    monkeypatch.setattr(run, "make_subject", lambda name, directory: small)
    code, out, err = bench("peers", "--batch", "1,2", "--threads", "1,2", "--rounds", "1")
    assert code == 0 and err.count("left out: ghost (not installed: no_such_module)") == 1
    assert err.count("left out: single (takes one picture at a time, not 2)") == 1
    rows = [line.split() for line in out.splitlines() if line.startswith("lite0 ")]
    assert [(engine, threads, batch) for _, _, engine, _, threads, batch, *_ in rows] == [
        ("npefficient", "1", "1"), ("single", "1", "1"), ("npefficient", "2", "1"), ("single", "2", "1"),
        ("npefficient", "1", "2"), ("npefficient", "2", "2")]


def test_the_table_is_whole_and_progress_is_beside_it(bench, monkeypatch, small):
    """After an interruption, what was measured until then is printed too."""
    calls = []

    def time_peer(*arguments):
        calls.append(arguments)
        if len(calls) > 4:
            raise KeyboardInterrupt
        return result(1.0)

    monkeypatch.setattr(peer, "PEERS", (Peer("numpy", "numpy"),))
    monkeypatch.setattr(run, "time_peer", time_peer)
    monkeypatch.setattr(run, "make_subject", lambda name, directory: small)
    code, out, err = bench("peers", "--rounds", "1", "--threads", "1,1,2")
    assert code == 130 and "lite0 47x64, float32, batch 1, 1 thread, round 1 of 1: numpy" in err
    assert "round" not in err.splitlines()[-1]
    lines = out.splitlines()
    heading = next(i for i, line in enumerate(lines) if line.startswith("model "))
    assert lines[heading - 1].startswith("float32, 1 round of ")
    assert [line.split()[2] for line in lines[heading + 1:heading + 5]] == ["npefficient", "numpy"] * 2
    assert lines[heading + 5] == run.LEGEND.splitlines()[0]


def test_help_names_every_peer():
    assert bench.PEERS == tuple(one.engine for one in peer.PEERS)


def test_a_model_that_cannot_be_made_is_named(monkeypatch, small, capsys):
    broken = Peer("broken", "numpy", Needs((), ("graph", "nothing")))  # graph has no `make`
    assert not run.prepared(broken, case(small))
    assert "left out: broken, lite0 47x64 (its model can't be made: AttributeError" in capsys.readouterr().err


def test_every_peer_has_its_engine_and_file():
    for one in (peer.OURS, *peer.PEERS):
        assert callable(getattr(engines, one.engine))


def test_installed_size_counts_all_that_is_needed_once():
    assert installed.needed(["numba"]) >= {"numba", "llvmlite", "numpy"}
    each = {name: installed.size_of_files(name) for name in installed.needed(["numba"])}
    assert installed.installed_size("numba") == sum(each.values()) > each["numba"] > 1e6
    assert installed.installed_size("npefficient") > installed.installed_size("numba")
