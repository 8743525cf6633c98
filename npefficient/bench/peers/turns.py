"""Which engines take part, and their turns: each round runs every engine once."""
from collections.abc import Callable, Iterable

from ..process import ProcessFailed
from ..report import progress
from .peer import OURS, Peer


def usable(peers: Iterable[Peer], precision: str, batches: Iterable[int]) -> dict[int, list[Peer]]:
    """batch -> those that can take part; reports why the others can't."""
    obstacles = {batch: {peer: peer.obstacle(precision, batch) for peer in peers} for batch in batches}
    left_out = [f"left out: {peer.engine} ({obstacle})"
                for found in obstacles.values() for peer, obstacle in found.items() if obstacle]
    for line in dict.fromkeys(left_out):  # each once
        progress(line)
    return {batch: [peer for peer, obstacle in found.items() if not obstacle] for batch, found in obstacles.items()}


def take_turns(peers: Iterable[Peer], rounds: int, title: str,
               time_peer: Callable[[Peer], dict]) -> dict[Peer, list[dict]]:
    """Each round runs every engine once, each time starting with the next one; failures are reported and left out."""
    results: dict[Peer, list[dict]] = {peer: [] for peer in (OURS, *peers)}
    for r in range(rounds):
        order = list(results)
        for peer in order[r % len(order):] + order[: r % len(order)]:
            progress(f"{title}, round {r + 1} of {rounds}: {peer.engine}")
            try:
                results[peer].append(time_peer(peer))
            except ProcessFailed as failure:
                if peer is OURS:  # nothing to compare with
                    raise
                progress(f"left out: {peer.engine}, {title} ({failure})")
                del results[peer]
    return results


def in_units(rounds: list[dict], pictures: int = 1) -> list[dict]:
    """The rounds' results with the names and units of a table's columns; a time is divided by the pictures in it."""
    columns = {"minimum": ("min ms", 1e3 / pictures), "median": ("median", 1e3 / pictures), "start": ("start s", 1),
               "memory": ("peak MB", 1e-6)}

    def renamed(name: str, value):
        column, factor = columns.get(name, (name, 1))
        return column, value if factor == 1 or value is None else value * factor

    return [dict(renamed(*field) for field in one.items()) for one in rounds]
