"""Which engines take part, and their turns: each round runs every engine once."""
from collections.abc import Callable, Iterable

from ..process import ProcessFailed
from ..report import progress
from .peer import OURS, Peer


def usable(peers: Iterable[Peer], precision: str, batch: int) -> list[Peer]:
    """Those that can take part; reports why the others can't."""
    there = []
    for peer in peers:
        if obstacle := peer.obstacle(precision, batch):
            progress(f"left out: {peer.engine} ({obstacle})")
        else:
            there.append(peer)
    return there


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
