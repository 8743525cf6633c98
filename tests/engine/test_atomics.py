"""Each chunk is claimed by one thread, whatever the threads do; a thread that comes late touches nothing."""
import platform
import re
import threading

import llvmlite.binding as llvm
import numpy as np
import pytest
from numba import njit

from npefficient.engine.atomics import atomic_add, atomic_load, claim, compare_and_swap, finished, relax
from npefficient.engine.records import COUNTERS_SIZE, DONE, EPOCH_BITS, STALE

THREADS = 4
WAIT = 120  # seconds
PAUSE = {"x86_64": "pause", "amd64": "pause", "aarch64": "isb", "arm64": "isb"}.get(platform.machine().lower())


def word(value=0):
    return np.array([value], np.int64)


def at(epoch, chunk):
    return (epoch << EPOCH_BITS) + chunk


@njit(nogil=True)
def load(address):
    return atomic_load(address)


@njit(nogil=True)
def add(address, amount, times):
    before = 0
    for _ in range(times):
        before = atomic_add(address, amount)
    return before


@njit(nogil=True)
def add_by_swapping(address, times):
    """Count up with compare_and_swap; returns how often another thread was faster."""
    lost = 0
    for _ in range(times):
        while True:
            seen = atomic_load(address)
            if compare_and_swap(address, seen, seen + 1):
                break
            lost += 1
    return lost


@njit(nogil=True)
def swap(address, expected, new):
    return compare_and_swap(address, expected, new)


@njit(nogil=True)
def wait_until(address, value):
    """Spin as the driver does; returns how often it read the word."""
    reads = 1
    while atomic_load(address) != value:
        relax()
        reads += 1
    return reads


@njit(nogil=True)
def take_part(claimed, done, epoch, chunks, marks):
    """Claim until nothing is left, marking each chunk with a plain, unprotected addition; returns how many it took."""
    taken = 0
    while True:
        chunk = claim(claimed, epoch, chunks)
        if chunk == STALE or chunk == chunks:
            break
        marks[chunk] += 1
        taken += 1
        atomic_add(done, 1)
    while not finished(done, epoch, chunks):
        relax()
    return taken


def together(function, threads=THREADS):
    """Call function(number) in several threads at the same moment; returns the results."""
    start, results = threading.Barrier(threads), [None] * threads

    def run(number):
        start.wait()
        results[number] = function(number)

    workers = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(WAIT)
    assert not any(worker.is_alive() for worker in workers), "a thread hangs"
    return results


# --- single operations -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, 1, -1, 2**62, -(2**63)])
def test_atomic_load(value):
    cell = word(value)
    assert load(cell.ctypes.data) == value


def test_atomic_add_returns_the_value_before():
    cells = np.array([7, 40, 7], np.int64)
    assert add(cells.ctypes.data + 8, 2, 1) == 40
    assert cells.tolist() == [7, 42, 7]
    assert add(cells.ctypes.data + 8, -50, 1) == 42
    assert cells.tolist() == [7, -8, 7]


def test_compare_and_swap():
    cells = np.array([7, 40, 7], np.int64)
    assert swap(cells.ctypes.data + 8, 41, 1) is False
    assert cells.tolist() == [7, 40, 7]
    assert swap(cells.ctypes.data + 8, 40, 1) is True
    assert cells.tolist() == [7, 1, 7]


def test_atomic_add_from_several_threads_loses_nothing():
    cell, times = word(), 200_000
    add(cell.ctypes.data, 0, 0)  # compiled before the threads start
    together(lambda number: add(cell.ctypes.data, number + 1, times))
    assert cell[0] == times * sum(range(1, THREADS + 1))


def test_compare_and_swap_from_several_threads_loses_nothing():
    cell, times = word(), 100_000
    add_by_swapping(cell.ctypes.data, 0)
    together(lambda number: add_by_swapping(cell.ctypes.data, times))
    assert cell[0] == times * THREADS


def test_relax_changes_nothing_and_comes_back():
    """A waiting thread sees what another one stores."""
    cell = word()
    assert wait_until(cell.ctypes.data, 0) == 1  # compiled before the threads start
    results = together(lambda number: wait_until(cell.ctypes.data, 7) if number else add(cell.ctypes.data, 7, 1), 2)
    assert results[0] == 0 and results[1] >= 1 and cell[0] == 7


def arm64(function):
    """The instructions that LLVM writes for ARM64, of a function that has been called here."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    (text,) = function.inspect_llvm().values()
    module = llvm.parse_assembly(re.sub(r"^target .*$", "", text, flags=re.MULTILINE))
    target = llvm.Target.from_triple("aarch64-unknown-linux-gnu").create_target_machine(opt=3)
    return set(re.findall(r"^\t([a-z]\w*)\t", target.emit_assembly(module), re.MULTILINE))


@pytest.mark.parametrize("function, arguments, loads, stores", [
    (load, [], {"ldar"}, set()), (add, [1, 1], {"ldaxr"}, {"stlxr"}), (swap, [7, 8], {"ldaxr"}, {"stlxr"}),
], ids=["load", "add", "compare_and_swap"])
def test_what_threads_hand_over_is_in_memory_before(function, arguments, loads, stores):
    """x86 keeps the order by itself. On ARM64 the instructions have to: loads acquire, stores release."""
    cell = word()
    function(cell.ctypes.data, *arguments)
    found = arm64(function)
    assert {one for one in found if re.match(r"ld(a|x)", one)} == loads
    assert {one for one in found if re.match(r"st(l|x)", one)} == stores


@pytest.mark.skipif(not PAUSE, reason="waiting: no instruction for it is known on this processor")
def test_relax_tells_the_processor():
    cell = word()
    wait_until(cell.ctypes.data, 0)
    (text,) = wait_until.inspect_asm().values()
    assert re.search(rf"^\t{PAUSE}$", text, re.MULTILINE)


# --- claiming --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epoch", [0, 1, 5, 2**31, (1 << 63 - EPOCH_BITS) - 1], ids=["0", "1", "5", "2**31", "last"])
def test_claim_hands_out_chunks_in_order(epoch):
    cell = word(at(epoch, 0))
    assert [claim(cell.ctypes.data, epoch, 3) for _ in range(5)] == [0, 1, 2, 3, 3]
    assert cell[0] == at(epoch, 3), "a claim that finds nothing left changes nothing"


def test_claim_of_a_step_without_chunks():
    cell = word(at(4, 0))
    assert claim(cell.ctypes.data, 4, 0) == 0
    assert cell[0] == at(4, 0)


def test_claim_up_to_the_last_chunk_a_word_can_count():
    chunks = (1 << EPOCH_BITS) - 1
    cell = word(at(1, chunks - 1))
    assert [claim(cell.ctypes.data, 1, chunks) for _ in range(3)] == [chunks - 1, chunks, chunks]
    assert not finished(word(at(1, chunks - 1)).ctypes.data, 1, chunks) and finished(cell.ctypes.data, 1, chunks)


@pytest.mark.parametrize("found", [0, 4, 6, 2**31], ids=["never_run", "older", "newer", "much_newer"])
def test_claim_stale(found):
    cell = word(at(found, 1))
    assert claim(cell.ctypes.data, 5, 3) == STALE < 0
    assert cell[0] == at(found, 1), "a late thread changes nothing"


@pytest.mark.parametrize("epoch, done, expected", [
    pytest.param(5, 0, False, id="nothing"), pytest.param(5, 2, False, id="all_but_one"),
    pytest.param(5, 3, True, id="all"),
    pytest.param(6, 0, True, id="run_is_over"), pytest.param(4, 0, True, id="another_run"),
])
def test_finished(epoch, done, expected):
    cell = word(at(epoch, done))
    assert finished(cell.ctypes.data, 5, 3) is expected
    assert cell[0] == at(epoch, done)


def counters(epoch):
    """Two counters, each on a cache line of its own, as in a run."""
    cells = np.zeros(COUNTERS_SIZE // 8, np.int64)
    cells[[0, DONE // 8]] = epoch << EPOCH_BITS
    return cells, cells.ctypes.data, cells.ctypes.data + DONE


def test_each_chunk_is_claimed_once():
    chunks = 300_000
    cells, claimed, done = counters(9)
    marks = np.zeros(chunks, np.int64)
    take_part(claimed, done, 8, 0, marks)
    taken = together(lambda number: take_part(claimed, done, 9, chunks, marks))
    assert sum(taken) == chunks and (marks == 1).all()
    assert cells[0] == cells[DONE // 8] == at(9, chunks)


def test_two_threads_may_share_the_work():
    """Claims of two threads interleave; if one thread took all chunks, the tests above would prove nothing."""
    chunks = 2_000_000  # longer than a turn on a processor of one's own
    marks, most = np.zeros(chunks, np.int64), chunks
    for epoch in range(1, 50):
        cells, claimed, done = counters(epoch)
        most = max(together(lambda number, epoch=epoch: take_part(claimed, done, epoch, chunks, marks)))
        if most < chunks:
            break
    assert most < chunks


def test_run_after_run_on_the_same_counters():
    """Workers fall behind by whole runs; still each chunk of each run is done once, and late workers leave."""
    chunks, runs = 40, 3000
    cells, claimed, done = counters(0)
    marks = np.zeros((runs + 1, chunks), np.int64)
    now = [-1]

    def worker():
        while now[0] <= runs:
            epoch = now[0]  # by the time it claims, this run may be over
            take_part(claimed, done, epoch, chunks, marks[epoch])

    take_part(claimed, done, 1, chunks, marks[0])  # compiled; another epoch: nothing to do
    others = [threading.Thread(target=worker, daemon=True) for _ in range(THREADS - 1)]
    for thread in others:
        thread.start()
    for epoch in range(1, runs + 1):
        now[0] = epoch
        cells[[DONE // 8, 0]] = at(epoch, 0)  # as the engine does, between runs
        take_part(claimed, done, epoch, chunks, marks[epoch])
        assert cells[DONE // 8] == at(epoch, chunks)
    now[0] = runs + 1
    for thread in others:
        thread.join(WAIT)
    assert not any(thread.is_alive() for thread in others), "a thread hangs"
    assert (marks[1:] == 1).all() and not marks[0].any()
