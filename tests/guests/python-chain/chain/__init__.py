"""The task that waits from everywhere."""

import sys

from .pauses import Pauses
from .scenes import SCENES


def chain(payload):
    """Goes through all scenes until the waits are used up. What it returns depends on `n` alone.

    payload: n, how many waits; mode, how to wait: "wait", "sleep" or "mixed"; ms, how long each takes; scene, the only one to
    play, to look into it.
    """
    pauses = Pauses(payload["n"], payload.get("mode", "wait"), payload.get("ms", 1))
    played = {name: play for name, play in SCENES.items() if payload.get("scene", name) == name}
    words = ["dormouse"]
    rounds = 0
    while pauses.left:
        rounds += 1
        for name, play in played.items():
            pauses.digest.text(name)
            pauses.digest.number(play(pauses, rounds))
        words.append(f"{len(words[-1])}-{rounds}")
        pauses.digest.text("".join(words))
        print(f"round {rounds} done after {pauses.done} waits")
    print(len(words), "words at the end", file=sys.stderr)
    return {"digest": str(pauses.digest), "waits": pauses.done, "rounds": rounds, "words": words}
