"""One function for each kind of call stack and state that a wait may find. Every value that lives across a wait goes into the
digest after it.
"""

import asyncio
import bisect
import collections
import contextlib
import dataclasses
import decimal
import functools
import heapq
import io
import itertools
import json
import math
import re
import struct

from . import loop

MODULUS = 1_000_003


def recursion(pauses, depth, seed):
    """A frame with a text, an object and a float in each of `depth` calls."""
    text = f"level {depth}"
    ratio = seed / (depth + 1)
    held = {"depth": depth, "marks": [seed, depth]}
    if depth == 0:
        pauses.pause(seed)
        below = seed
    else:
        below = recursion(pauses, depth - 1, (seed * 31 + depth) % MODULUS)
    if depth % 8 == 0:
        pauses.pause(below)
    pauses.digest.text(text)
    pauses.digest.number(ratio)
    return (below + held["marks"][0] * 7 + held["depth"] + len(text)) % MODULUS


def ackermann(pauses, m, n):
    """Recursion in argument position: the caller's operands lie on the interpreter's stack when the wait comes."""
    if m == 0:
        pauses.pause(n)
        return n + 1
    if n == 0:
        return ackermann(pauses, m - 1, 1)
    return n * 1000 + ackermann(pauses, m - 1, ackermann(pauses, m, n - 1) % 5) + m


def numbers(pauses, round):
    x, y = math.sqrt(round), math.sin(round)
    wide = round << 200 | 0x123456789ABCDEF0
    exact = decimal.Decimal(round) / 7
    for step in range(1, 5):
        pauses.pause(x)
        x, y = x * 1.5 + y, y - x / step + (pauses.pause(y) or 0)
        wide = wide * 7 ^ step << 64
        pauses.pause(wide)
        exact = exact.sqrt() + step
    pauses.digest.text(f"{x} {y!r} {wide:x} {exact} {-0.0} {math.nan} {complex(x, y):.3f}")
    return wide ^ wide >> 64


def sort(pauses, round):
    """Waits inside comparators and keys, below the frames of the interpreter's own sort, and of the modules bisect and heapq."""
    comparisons = itertools.count(1)

    def compare(left, right):
        number = next(comparisons)
        if number % 50 == 0:
            pauses.pause(number * 65_536 + left)
        return left - right

    def key(value):
        if value % 11 == 0:
            pauses.pause(value)
        return -(value % 100)

    values = [(i * 7_919 + round * 104_729) % 1_009 for i in range(48)]
    values.sort(key=functools.cmp_to_key(compare))
    assert all(left <= right for left, right in itertools.pairwise(values))
    by_key = sorted(values, key=key)
    assert all(left % 100 >= right % 100 for left, right in itertools.pairwise(by_key))
    at = bisect.bisect(values, 500, key=lambda value: pauses.pause(value) or value)
    largest = heapq.nlargest(3, values, key=key)
    total = max(values, key=key) + sum(largest) + at
    return functools.reduce(lambda total, value: (total * 31 + value) % MODULUS, by_key, total)


def counted(pauses, start, stop):
    total = 0
    try:
        for at in range(start, stop):
            pauses.pause(at)
            total += (yield at * 2) or 1
    except LookupError as error:
        pauses.pause(len(str(error)))
        yield 77
    finally:
        pauses.pause(total)
    return total


def nested(pauses, round):
    yield from (round, round + 1)
    total = yield from counted(pauses, 1, 4)
    yield total


class Countdown:
    def __init__(self, pauses, start):
        self.pauses = pauses
        self.start = start

    def __iter__(self):
        return self

    def __next__(self):
        self.pauses.pause(self.start)
        if self.start == 0:
            raise StopIteration
        self.start -= 1
        return self.start + 1


def iterators(pauses, round):
    """Generators, and iterators that the interpreter itself calls."""
    total = 0
    for value in nested(pauses, round):
        total = total * 3 + value
    closed = counted(pauses, 10, 20)
    next(closed)
    closed.close()
    spoken = counted(pauses, 0, 5)
    next(spoken)
    told = [spoken.send(5), spoken.send(7), spoken.throw(LookupError("gone"))]
    first, *rest = Countdown(pauses, 4)
    mapped = list(map(lambda left, right: left * right, Countdown(pauses, 3), itertools.cycle(told)))
    lengths = {word: len(word) for word in "the quick brown fox jumps over the lazy dog".split() if not pauses.pause(len(word))}
    folded = sum(pauses.pause(at) or at * length for at, length in enumerate(lengths.values()))
    longest = max(zip(lengths.values(), Countdown(pauses, 2)), default=(0, 0))
    return functools.reduce(lambda a, b: (a * 31 + b) % MODULUS, [total, first, *rest, *mapped, folded, *longest, *told])


@dataclasses.dataclass(order=True)
class Weighted:
    weight: int
    pauses: object = dataclasses.field(compare=False, repr=False)

    def __hash__(self):
        self.pauses.pause(self.weight)
        return self.weight % 3

    def __eq__(self, other):
        self.pauses.pause(self.weight * 100 + other.weight)
        return self.weight == other.weight

    def __index__(self):
        self.pauses.pause(self.weight)
        return self.weight

    def __format__(self, spec):
        self.pauses.pause(len(spec))
        return f"<{self.weight:{spec}}>"

    def __getattr__(self, name):
        self.pauses.pause(len(name))
        return len(name)

    def __missing__(self, key):
        return key


class Described:
    """A descriptor: attributes whose reading and writing waits."""

    def __set_name__(self, owner, name):
        self.name = "_" + name

    def __get__(self, instance, owner):
        instance.pauses.pause(1)
        return getattr(instance, self.name)

    def __set__(self, instance, value):
        instance.pauses.pause(value)
        setattr(instance, self.name, value + 1)


class Meta(type):
    def __call__(cls, pauses, *args):
        pauses.pause(len(args))
        made = super().__call__(pauses, *args)
        pauses.pause(len(vars(made)))
        return made


class Made(metaclass=Meta):
    value = Described()

    def __init__(self, pauses, value):
        self.pauses = pauses
        self.value = value

    @property
    def double(self):
        self.pauses.pause(self.value)
        return self.value * 2

    def __call__(self, *args, **kwargs):
        self.pauses.pause(len(args) * 10 + len(kwargs))
        return sum(args) + sum(kwargs.values())


def methods(pauses, round):
    """Waits in everything that the interpreter calls by a special name."""
    made = Made(pauses, round)
    partial = functools.partial(made, 1, 2, three=3)
    cached = functools.lru_cache(lambda x: pauses.pause(x) or x * x)
    weights = {Weighted(i % 4, pauses): i for i in range(7)}
    listed = list(range(10))[Weighted(2, pauses) : Weighted(5, pauses)]
    text = f"{Weighted(9, pauses):>4} {Weighted(1, pauses).unknown}"
    pauses.digest.text(text)
    return made.double + partial(4, five=5) + cached(3) + cached(3) + sum(weights.values()) + sum(listed)


def formatting(pauses, round):
    """Waits in what the interpreter's C code calls while it formats, parses and replaces."""

    def default(value):
        pauses.pause(round)
        return sorted(value)

    def hook(pairs):
        pauses.pause(len(pairs))
        return collections.OrderedDict(pairs)

    def replace(match):
        pauses.pause(match.start())
        return f"[{match[0]}]"

    text = json.dumps({"first": {3, 1, 2}, "list": [{5}, '"\U0001f400"']}, default=default)
    parsed = json.loads(text, object_pairs_hook=hook, parse_int=lambda digits: pauses.pause(int(digits)) or int(digits) + 1)
    replaced = re.sub(r"\d+", replace, text * 2)
    buffer = io.StringIO()
    print(replaced, parsed["first"], sep="|", file=buffer)
    pauses.digest.text(buffer.getvalue())
    return len(text)


def buffers(pauses, round):
    """Much data, written before and read after the wait; a view of it held meanwhile."""
    table = bytearray(struct.pack("<2048I", *((at * 2_654_435_761 + round) % 2**32 for at in range(2_048))))
    view = memoryview(table).cast("I")
    pauses.pause(view[round])
    view[7] ^= recursion(pauses, 2, 9)
    pauses.pause(view[7])
    return functools.reduce(lambda total, cell: (total * 33 ^ cell) % 2**32, view)


class Refused(Exception):
    pass


@contextlib.contextmanager
def guarded(pauses, number):
    pauses.pause(number)
    try:
        yield number * 2
    except ZeroDivisionError:
        pauses.pause(number + 1)
    finally:
        pauses.pause(number + 2)


class Farewell:
    def __init__(self, pauses, name):
        self.pauses = pauses
        self.name = name

    def __del__(self):
        self.pauses.pause(len(self.name))
        self.pauses.digest.text(self.name)


def exceptions(pauses, round):
    """Waits in `except`, `finally`, context managers and destructors, and while errors pass through C frames."""

    def attempt(number):
        try:
            pauses.pause(number)
            if number % 3 == 0:
                raise Refused(number)
            return list(map(lambda value: pauses.pause(value) or 10 // (value % 3 - 1), [number]))[0]
        except ZeroDivisionError as error:
            pauses.pause(99)
            raise Refused(number * 100) from error
        finally:
            pauses.pause(number + 100)

    total = 0
    for number in range(round, round + 3):
        try:
            total += attempt(number)
        except Refused as error:
            total += error.args[0] * 1_000 + len(str(error.__cause__ or ""))
    with guarded(pauses, round) as doubled, contextlib.suppress(Refused):
        total += doubled // (round % 2)
    farewell = Farewell(pauses, f"farewell {round}")
    del farewell
    try:
        raise ExceptionGroup("several", [Refused(1), ValueError(2)])
    except* Refused as group:
        pauses.pause(len(group.exceptions))
    except* ValueError as group:
        pauses.pause(len(group.exceptions) + 10)
    return total


def coroutines(pauses, round):
    """Other tasks, futures and timers are pending while one sleeps, and waits happen in their steps and callbacks."""
    return loop.run(among_others(pauses, round))


async def nested_coroutine(pauses, depth, seed):
    text = f"async level {depth}"
    if depth == 0:
        await pauses.sleep(seed)
        below = seed
    else:
        below = await nested_coroutine(pauses, depth - 1, (seed * 31 + depth) % MODULUS) + depth
    if depth % 4 == 0:
        await pauses.sleep(below)
    pauses.digest.text(text)
    return (below + len(text)) % MODULUS


async def ticks(pauses, count):
    try:
        for tick in range(count):
            await pauses.sleep(tick)
            yield tick * 3
            pauses.pause(tick + 50)
    finally:
        pauses.pause(count)


async def among_others(pauses, round):
    order = []
    running = asyncio.get_running_loop()
    later = running.create_future()
    far = running.call_later(3_600, order.append, "far")

    async def chained():
        value = await later
        pauses.pause(value)
        order.append("chained")
        return value * 2

    async def refused():
        try:
            await asyncio.sleep(7_200)
        except asyncio.CancelledError:
            pauses.pause(len(order))
            raise Refused(round) from None

    async with asyncio.timeout(9_000):
        first, second = asyncio.create_task(chained()), asyncio.create_task(refused())
        await asyncio.sleep(0)  # both have begun
        total = await nested_coroutine(pauses, 1 + round % 12, round)
        later.set_result(round + 4)
        second.add_done_callback(lambda task: order.append(pauses.pause(5) or str(task.exception())))
        await pauses.sleep(total)
        second.cancel()
        settled = await asyncio.gather(first, second, pauses.sleep(round * 2), return_exceptions=True)
    async for tick in ticks(pauses, 3):
        total = total * 5 + tick
    far.cancel()
    pauses.digest.text(",".join(order) + repr(settled))
    return total


def files(pauses, round):
    """A file that is open, with a buffer that is half full, while the run waits."""
    with open(f"scratch-{round}.txt", "w+") as file:
        file.write(f"written before the wait {round}\n")
        pauses.pause(round)
        file.write("and after it\n")
        file.flush()
        pauses.pause(file.tell())
        file.seek(8)
        read = file.read(6)
        pauses.pause(len(read))
        pauses.digest.text(read + file.read())
    return file.closed


SCENES = {
    "recursion": lambda pauses, round: recursion(pauses, 1 + round % 40, round),
    "ackermann": lambda pauses, round: ackermann(pauses, 2, round % 3 + 1),
    "numbers": numbers,
    "sort": sort,
    "iterators": iterators,
    "methods": methods,
    "formatting": formatting,
    "buffers": buffers,
    "exceptions": exceptions,
    "coroutines": coroutines,
    "files": files,
}
