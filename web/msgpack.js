// Canonical MessagePack, as much of it as the ledger uses: arrays, byte strings, texts, unsigned integers, nil. A
// reader is driven by the shape that it expects, and refuses what has another, or is not in its shortest form, so bytes from
// elsewhere never grow into more than their shape allows. And the few things that one does with byte strings.

export class Malformed extends Error {}

export function need(condition, what) {
  if (!condition) throw new Malformed(what);
}

// ---- bytes

const UINT_MAX = 2n ** 63n - 1n;
const utf8 = new TextEncoder();

export const toHex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

export function fromHex(text) {
  need(typeof text === "string" && /^([0-9a-f]{2})*$/.test(text), "not hexadecimal");
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

export function join(...parts) {
  const joined = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

// Lexicographic, as byte strings are ordered everywhere: below 0, 0 or above 0.
export function compare(one, other) {
  for (let i = 0; i < Math.min(one.length, other.length); i++) {
    if (one[i] !== other[i]) return one[i] - other[i];
  }
  return one.length - other.length;
}

export const same = (one, other) => compare(one, other) === 0;

export function bigEndian(number, size) {
  const bytes = new Uint8Array(size);
  for (let i = size - 1, rest = BigInt(number); i >= 0; i--, rest >>= 8n) bytes[i] = Number(rest & 255n);
  return bytes;
}

// ---- reading

export class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.at = 0;
  }

  take(size) {
    need(this.at + size <= this.bytes.length, "the bytes end too soon");
    this.at += size;
    return this.bytes.subarray(this.at - size, this.at);
  }

  // A number behind its head byte. `least` is the first number that needs so many bytes.
  wide(size, least) {
    const value = this.take(size).reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
    need(value >= least, "not in its shortest form");
    return value;
  }

  uint(highest = UINT_MAX, lowest = 0n) {
    const head = this.take(1)[0];
    let value;
    if (head < 0x80) value = BigInt(head);
    else if (head === 0xcc) value = this.wide(1, 0x80n);
    else if (head === 0xcd) value = this.wide(2, 0x100n);
    else if (head === 0xce) value = this.wide(4, 0x10000n);
    else if (head === 0xcf) value = this.wide(8, 0x100000000n);
    else throw new Malformed("a number was expected");
    need(lowest <= value && value <= highest, "a number is out of its bounds");
    return value;
  }

  bin(longest, shortest = 0) {
    const head = this.take(1)[0];
    let size;
    if (head === 0xc4) size = this.wide(1, 0n);
    else if (head === 0xc5) size = this.wide(2, 0x100n);
    else if (head === 0xc6) size = this.wide(4, 0x10000n);
    else throw new Malformed("a byte string was expected");
    need(shortest <= size && size <= longest, "a byte string is out of its bounds");
    return this.take(Number(size));
  }

  str(longest, shortest = 0) {
    const head = this.take(1)[0];
    let size;
    if ((head & 0xe0) === 0xa0) size = BigInt(head & 31);
    else if (head === 0xd9) size = this.wide(1, 32n);
    else if (head === 0xda) size = this.wide(2, 0x100n);
    else throw new Malformed("a text was expected");
    const bytes = this.take(Number(size));
    let text;
    try {
      text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      throw new Malformed("a text is not UTF-8");
    }
    const length = [...text].length;
    need(shortest <= length && length <= longest, "a text is out of its bounds");
    return text;
  }

  length(longest, shortest = 0) {
    const head = this.take(1)[0];
    let size;
    if ((head & 0xf0) === 0x90) size = BigInt(head & 15);
    else if (head === 0xdc) size = this.wide(2, 16n);
    else throw new Malformed("an array was expected");
    need(shortest <= size && size <= longest, "an array is out of its bounds");
    return Number(size);
  }

  fields(count) {
    this.length(count, count);
  }

  array(read, longest, shortest = 0) {
    return Array.from({ length: this.length(longest, shortest) }, () => read(this));
  }

  optional(read) {
    if (this.bytes[this.at] !== 0xc0) return read(this);
    this.at += 1;
    return null;
  }

  // What `read` gives, with the bytes that it was read from as `raw`.
  withRaw(read) {
    const start = this.at;
    const value = read(this);
    return { ...value, raw: this.bytes.subarray(start, this.at) };
  }

  end() {
    need(this.at === this.bytes.length, "there are bytes behind the end");
  }
}

// One value of a shape, and nothing behind it.
export const whole = (bytes, longest, read) => {
  need(bytes.length <= longest, "too long");
  const reader = new Reader(bytes);
  const value = read(reader);
  reader.end();
  return value;
};

// ---- writing

// bigint, Uint8Array, string, or an array of such.
export function packed(value) {
  const sized = (size, heads) => {
    const [head, bytes] = heads.find(([, width]) => BigInt(size) < 1n << BigInt(8 * width));
    return join([head], bigEndian(size, bytes));
  };
  if (typeof value === "bigint") {
    return value < 128n ? bigEndian(value, 1) : sized(value, [[0xcc, 1], [0xcd, 2], [0xce, 4], [0xcf, 8]]);
  }
  if (value instanceof Uint8Array) return join(sized(value.length, [[0xc4, 1], [0xc5, 2], [0xc6, 4]]), value);
  if (typeof value === "string") {
    const bytes = utf8.encode(value);
    const head = bytes.length < 32 ? [0xa0 + bytes.length] : sized(bytes.length, [[0xd9, 1], [0xda, 2], [0xdb, 4]]);
    return join(head, bytes);
  }
  const head = value.length < 16 ? [0x90 + value.length] : sized(value.length, [[0xdc, 2], [0xdd, 4]]);
  return join(head, ...value.map(packed));
}
