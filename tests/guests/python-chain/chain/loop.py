"""asyncio without sockets, which its own event loops need to be woken by other threads, and which there are none of here."""

import asyncio
import time


class _Sleeper:
    """What an event loop calls when nothing is ready: it has no files to watch, so this sleeps until the next timer."""

    def select(self, timeout):
        if timeout is None:
            raise RuntimeError("nothing that is awaited can ever come")
        if timeout > 0:
            time.sleep(timeout)
        return []


class Loop(asyncio.BaseEventLoop):
    def __init__(self):
        super().__init__()
        self._selector = _Sleeper()

    def _process_events(self, events):
        pass

    def _write_to_self(self):
        pass


def run(coroutine):
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(coroutine)
