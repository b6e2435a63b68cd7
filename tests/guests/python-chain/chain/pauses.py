"""The waits of a run: at most as many as asked for, of the kind asked for, each leaving its trace."""

import asyncio
import json
import time

from wit_world.imports import telemetry, wait

from .digest import Digest


class Pauses:
    def __init__(self, count, mode, ms):
        self.left = count
        self.done = 0
        self.mode = mode
        self.ms = ms
        self.digest = Digest()

    def pause(self, seen):
        """Waits if a wait is left, and notes `seen` before and after it."""
        if not self.left:
            return
        number = self._begin(seen)
        if self._sleeps(number):
            time.sleep(self.ms / 1000)
        else:
            self._wait_on_the_host(number)
        self._end(seen, number)

    async def sleep(self, seen):
        """The same where one may await: the event loop sleeps."""
        if not self.left:
            return
        number = self._begin(seen)
        if self._sleeps(number):
            await asyncio.sleep(self.ms / 1000)
        else:
            self._wait_on_the_host(number)
        self._end(seen, number)

    def _begin(self, seen):
        self.left -= 1
        self.done += 1
        self.digest.number(seen)
        print(f"pause {self.done}: {seen}")
        return self.done

    def _sleeps(self, number):
        return self.mode == "sleep" or self.mode == "mixed" and number % 2 == 1

    def _wait_on_the_host(self, number):
        if number % 4 == 0:
            wait.until(int(time.time() * 1000 + self.ms), None)
        else:
            wait.for_duration(int(self.ms), None)

    def _end(self, seen, number):
        self.digest.number(seen)
        self.digest.number(number)
        if number % 7 == 0:
            telemetry.log(telemetry.Level.INFO, "woken", json.dumps({"number": number, "digest": str(self.digest)}), None)
