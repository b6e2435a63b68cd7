#!/usr/bin/env python3
"""Draws docs/benchmarks.svg from what the last `make bench` left: for each language the slow-down of what computes, and half of its
cycles' time, each beside its target. What it did not run is not drawn.
"""

import json
import math
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GUESTS = {"bench": "Rust", "c-chain": "C", "js-chain": "JavaScript", "python-chain": "Python", "go-chain": "Go"}
LEFT, WIDTH, ROW, BAR = 90, 420, 26, 14


def found(bench, what):
    """The figures of that name, by language: value and target."""
    figures = {}
    for line in map(json.loads, (ROOT / "target/bench/figures.jsonl").read_text().splitlines()):
        subject, _, name = line["metric"].partition(": ")
        if (line["bench"], name) == (bench, what):
            figures[GUESTS.get(subject, subject)] = (line["value"], line["target"])
    return {language: figures[language] for language in GUESTS.values() if language in figures}


def panel(top, title, figures, along, shown):
    """A bar for each language. `along` is how far a value lies to the right, from 0 to 1."""
    yield f'<text x="0" y="{top}" class="title">{title}</text>'
    for row, (language, (value, target)) in enumerate(figures.items()):
        y = top + 14 + row * ROW
        missed = target is not None and value > target
        length = max(along(value) * WIDTH, 1)
        yield f'<text x="{LEFT - 8}" y="{y + 11}" text-anchor="end">{language}</text>'
        yield f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" class="{"missed" if missed else "met"}"/>'
        end = length
        if target is not None:
            at = LEFT + along(target) * WIDTH
            end = max(end, at - LEFT)
            yield f'<path d="M{at:.1f} {y - 3}v{BAR + 6}" class="target"/>'
        yield f'<text x="{LEFT + end + 6:.1f}" y="{y + 11}">{shown(value)}</text>'


def main():
    slower = found("slowdown", "slow-down, geometric mean")
    cycles = found("cycle", "whole cycle p50")
    most = max([value for figure in slower.values() for value in figure] + [1])
    least_ms, most_ms = 0.05, max([value for value, _ in cycles.values()] + [1])
    share = lambda value: max(value, 0) / most
    log = lambda value: math.log(max(value, least_ms) / least_ms) / math.log(most_ms / least_ms)
    second = 20 + 14 + len(slower) * ROW + 26
    height = second + 14 + len(cycles) * ROW + 10
    percent, ms = (lambda value: f"{value:.1f} %"), (lambda value: f"{value:.2f} ms")
    parts = [
        *panel(20, "Slow-down of tasks that compute, geometric mean (line: target)", slower, share, percent),
        *panel(second, "A cycle of restore, resume, capture, drop: median, logarithmic (line: target)", cycles, log, ms),
    ]
    style = (
        "text{font:12px sans-serif;fill:#57606a}.title{font-weight:bold}.met{fill:#4a8f5c}.missed{fill:#c2603e}"
        ".target{stroke:#57606a;stroke-width:2}"
    )
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 600 {height}" width="600" height="{height}"><style>{style}</style>'
    (ROOT / "docs/benchmarks.svg").write_text("\n".join([svg, *parts, "</svg>", ""]))


main()
