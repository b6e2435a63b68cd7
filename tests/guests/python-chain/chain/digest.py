"""A running digest (FNV-1a, 64 bits) over whatever a task wants to vouch for."""

import struct


class Digest:
    def __init__(self):
        self.value = 0xCBF29CE484222325

    def bytes(self, data):
        for byte in data:
            self.value = (self.value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF

    def text(self, text):
        self.bytes(text.encode())

    def number(self, number):
        """An integer, wrapped to 64 bits, or a float by its bits."""
        if isinstance(number, float):
            self.bytes(struct.pack("<d", number))
        else:
            self.bytes((number & 0xFFFFFFFFFFFFFFFF).to_bytes(8, "little"))

    def __str__(self):
        return f"{self.value:016x}"
