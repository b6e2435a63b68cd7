"""Pure computation, to see what being able to suspend costs code that does not wait: each task takes `n`, the amount of work, and
returns a checksum that depends on nothing else. The guests of the other languages have the same ones.
"""

import json
import math
from functools import reduce

WORD = 0xFFFFFFFF


def sequence(x):
    """Reproducible (xorshift, 32 bits)."""
    while True:
        x ^= x << 13 & WORD
        x ^= x >> 17
        x ^= x << 5 & WORD
        yield x


def fold(total, value):
    return (total ^ value) * 0x01000193 & WORD


def fib(payload):
    """The n-th Fibonacci number by plain recursion: nothing but calls."""
    return fibonacci(payload["n"])


def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


def sort(payload):
    """Sorts n numbers with the interpreter's own sort and a key."""
    numbers = [number for _, number in zip(range(payload["n"]), sequence(42))]
    numbers.sort(key=lambda number: (number % 1000, -number))
    return reduce(fold, numbers, 0)


def orders(payload):
    """Writes and reads n orders as JSON."""
    total = 0
    for _, number in zip(range(payload["n"]), sequence(7)):
        read = json.loads(json.dumps(order(number)))
        price = sum(line["price"] * line["count"] for line in read["lines"])
        total = fold(total, math.floor(price * 100 + 0.5) + read["id"] + len(read["note"] or "") & WORD)
    return total


def order(number):
    lines = [
        {"sku": f"SKU-{(number >> at) % 100000:05}", "price": (number >> at + 3 & 0xFFFF) / 100, "count": at + 1}
        for at in range(number % 8 + 1)
    ]
    note = None if number % 3 else 'leave it "at the door"'
    return {"id": number, "customer": f"customer {number % 1000}", "lines": lines, "note": note}


def sha256(payload):
    """Digests n KiB: one long loop over integers."""
    state, k = constants()
    block = bytes(number & 0xFF for _, number in zip(range(1024), sequence(3)))
    for at in range(16 * payload["n"]):
        state = digest_block(state, k, block[at % 16 * 64 :][:64])
    return reduce(fold, state, 0)


def constants():
    primes = []
    number = 2
    while len(primes) < 64:
        if all(number % prime for prime in primes):
            primes.append(number)
        number += 1
    fraction = lambda root: math.floor((root - math.floor(root)) * 2**32)
    return [fraction(math.sqrt(prime)) for prime in primes[:8]], [fraction(math.cbrt(prime)) for prime in primes]


def turn(x, by):
    return (x >> by | x << 32 - by) & WORD


def digest_block(state, k, block):
    w = [int.from_bytes(block[at : at + 4], "big") for at in range(0, 64, 4)]
    for t in range(16, 64):
        small0 = turn(w[t - 15], 7) ^ turn(w[t - 15], 18) ^ w[t - 15] >> 3
        small1 = turn(w[t - 2], 17) ^ turn(w[t - 2], 19) ^ w[t - 2] >> 10
        w.append(w[t - 16] + small0 + w[t - 7] + small1 & WORD)
    a, b, c, d, e, f, g, h = state
    for t in range(64):
        big1 = turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)
        choice = e & f ^ ~e & g
        first = h + big1 + choice + k[t] + w[t] & WORD
        big0 = turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)
        majority = a & b ^ a & c ^ b & c
        h, g, f, e = g, f, e, d + first & WORD
        d, c, b, a = c, b, a, first + big0 + majority & WORD
    return [word + add & WORD for word, add in zip(state, (a, b, c, d, e, f, g, h))]


def trees(payload):
    """Builds and drops n trees of 2,047 nodes: nothing but the allocator."""
    total = 0
    for _ in range(payload["n"]):
        total = fold(total, count(plant(10)))
    return total


class Tree:
    def __init__(self, left, right):
        self.left = left
        self.right = right


def plant(depth):
    return Tree(plant(depth - 1), plant(depth - 1)) if depth else Tree(None, None)


def count(tree):
    return 1 + count(tree.left) + count(tree.right) if tree.left else 1


TASKS = {"fib": fib, "sort": sort, "json": orders, "sha256": sha256, "trees": trees}
