// A running digest (FNV-1a, 64 bits) over whatever a task wants to vouch for.

const encoder = new TextEncoder();

export class Digest {
  #value = 0xcbf29ce484222325n;

  bytes(bytes: Iterable<number>) {
    for (const byte of bytes) {
      this.#value = BigInt.asUintN(64, (this.#value ^ BigInt(byte)) * 0x100000001b3n);
    }
  }

  text(text: string) {
    this.bytes(encoder.encode(text));
  }

  /** An integer, wrapped to 64 bits, or a float by its bits. */
  number(number: number | bigint) {
    const cell = new DataView(new ArrayBuffer(8));
    if (typeof number === "bigint" || Number.isInteger(number)) {
      cell.setBigUint64(0, BigInt.asUintN(64, BigInt(number)), true);
    } else {
      cell.setFloat64(0, number, true);
    }
    this.bytes(new Uint8Array(cell.buffer));
  }

  toString() {
    return this.#value.toString(16).padStart(16, "0");
  }
}
