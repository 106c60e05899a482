// Reads [[shape, hexadecimal], ...] from standard input and prints, for each, what web/msgpack.js reads and writes again.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const { Malformed, packed, toHex, whole } = await import(pathToFileURL(process.argv[2]));
const LONGEST = 1 << 20;
const shapes = {
  uint: (r) => r.uint(),
  bin: (r) => r.bin(LONGEST),
  str: (r) => r.str(LONGEST),
  array: (r) => r.array((inner) => inner.uint(), LONGEST),
};

function outcome(shape, hexadecimal) {
  try {
    return toHex(packed(whole(Uint8Array.from(Buffer.from(hexadecimal, "hex")), LONGEST, shapes[shape])));
  } catch (error) {
    if (error instanceof Malformed) return null;
    throw error;
  }
}

const cases = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify(cases.map(([shape, hexadecimal]) => outcome(shape, hexadecimal))));
