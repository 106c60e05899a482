// Verifies receipts offline, in a browser or in Node: docs/receipts.md is the format, and the steps here have its
// numbers. No dependencies, no build step, nothing is sent anywhere. It cannot build receipts.
//
//   import { verifyReceipt } from "./receipt.js";
//   const proved = await verifyReceipt(bytes, genesisText, trustedHeaderHash);   // throws ReceiptError
//
// Hashes and signatures are the platform's (WebCrypto). Integers are BigInt wherever they are compared or hashed.

import { Malformed as ReceiptError, need, packed, whole } from "./msgpack.js";
import { bigEndian, compare, fromHex, join, same, toHex } from "./msgpack.js";

export { ReceiptError };

// ---- the shapes of docs/receipts.md, "The file"

const digest = (r) => r.bin(32, 32);
const path = (r) => (r.fields(2), { left: r.uint(), siblings: r.array(digest, 63) });
const sealing = (r) => (r.fields(3), { view: r.uint(), sealers: r.uint(), signatures: r.bin(60 * 64) });
const validator = (r) => (r.fields(2), { key: digest(r), institution: r.bin(16, 16) });

const header = (r) =>
  r.withRaw(() => {
    r.fields(13);
    const [version, chainId, height, parent, time, primary, lost] =
      [r.uint(), digest(r), r.uint(), digest(r), r.uint(), digest(r), r.uint()];
    const [batchesRoot, stateRoot, receiptsRoot, validatorsHash, nextValidatorsHash, historyRoot] =
      Array.from({ length: 6 }, () => digest(r));
    return { version, chainId, height, parent, time, primary, lost,
      batchesRoot, stateRoot, receiptsRoot, validatorsHash, nextValidatorsHash, historyRoot };
  });

const proof = (r) => {
  r.fields(2);
  const step = () => (r.fields(2), { bitmap: Number(r.uint(65535n, 1n)), siblings: r.bin(512) });
  return { steps: r.array(step, 64), bucket: r.bin(24 * 64) };
};

function statement(r) {
  const count = r.length(6, 4);
  const kind = r.str(11);
  need(count === { transaction: 6, verdict: 4, state: 4 }[kind], "no such statement");
  if (kind === "state") return { kind, key: r.bin(128, 1), value: r.optional(() => r.bin(65536)), proof: proof(r) };
  const transaction = r.bin(131072);
  if (kind === "verdict") return { kind, transaction, leaf: r.bin(8 * 1024 * 1024), inBlock: path(r) };
  return { kind, transaction, author: digest(r), sequence: r.uint(), inBatch: path(r), inBlock: path(r) };
}

const receiptShape = (r) => {
  r.fields(8);
  need(r.uint() === 1n, "a receipt of another version");
  return {
    statement: statement(r),
    header: header(r),
    extension: r.optional(() => (r.fields(2), { header: header(r), inHistory: path(r) })),
    sealing: r.optional(sealing),
    start: r.optional(() => (r.fields(2), { header: header(r), validators: r.array(validator, 60, 1) })),
    changes: r.array(() => {
      r.fields(4);
      const [at, seals] = [header(r), sealing(r)];
      const removed = r.array(() => Number(r.uint(59n)), 60);
      return { header: at, sealing: seals, removed, added: r.array(validator, 60) };
    }, 1024),
    checksum: digest(r),
  };
};

const transactionShape = (r) => {
  r.fields(8);
  need(r.uint() === 1n, "a transaction of another version");
  const [chainId, sender, key] = [digest(r), r.bin(16, 16), digest(r)];
  r.bin(16, 16); // nonce
  r.uint(); // valid until
  const operations = r.array(() => (r.fields(2), { name: r.str(48, 1), body: toHex(r.bin(16384)) }), 256, 1);
  return { chainId, sender, key, operations, signature: r.bin(64, 64) };
};

const leafShape = (r) => {
  r.fields(4);
  const [transaction, code] = [digest(r), r.str(64)];
  const failed = r.optional(() => Number(r.uint(255n)));
  return { transaction, code, failed, results: r.array(() => r.bin(16384), 256) };
};

// ---- hashes and signatures

const ascii = (text) => Uint8Array.from(text, (letter) => letter.charCodeAt(0));
const sha256 = async (...parts) => new Uint8Array(await crypto.subtle.digest("SHA-256", join(...parts)));
const tagged = (tag, ...parts) => sha256([tag.length], ascii(tag), [0], ...parts);
const headerHash = (at) => tagged("consilium/header/1", at.raw);
const setHash = (set) => tagged("consilium/validators/1", packed([set.map((one) => [one.key, one.institution])]));

async function isGood(key, message, signature) {
  try {
    const imported = await crypto.subtle.importKey("raw", key, { name: "Ed25519" }, false, ["verify"]);
    return await crypto.subtle.verify({ name: "Ed25519" }, imported, signature, message);
  } catch (error) {
    if (error.name === "NotSupportedError") throw new Error("This browser has no Ed25519: use a newer one.");
    return false;
  }
}

// The chain id, the network's name and the founders' set.
async function readGenesis(text) {
  try {
    return await foundersOf(JSON.parse(text));
  } catch (error) {
    if (error instanceof TypeError || error instanceof SyntaxError) throw new ReceiptError("this is no genesis file");
    throw error;
  }
}

async function foundersOf(file) {
  need(Number.isSafeInteger(file.time_ms) && file.time_ms >= 0, "the genesis file's time");
  const set = file.validators.map((one) => ({ key: fromHex(one.key), institution: fromHex(one.institution) }));
  const validators = set.map((one) => [one.key, one.institution]);
  const operations = file.operations.map((one) => [one.name, fromHex(one.body)]);
  const contents = [1n, file.network, BigInt(file.time_ms), validators, operations];
  const chainId = await tagged("consilium/genesis/1", packed(contents));
  need(toHex(chainId) === file.chain_id, "the genesis file was changed");
  return { chainId, network: file.network, set: inOrder(set.sort((one, other) => compare(one.key, other.key))) };
}

function inOrder(set) {
  need(set.every((one, i) => i === 0 || compare(set[i - 1].key, one.key) < 0), "validators are not in order");
  return set;
}

// ---- the steps of docs/receipts.md, "How it is checked"

// What the receipt (Uint8Array) proves to who has the genesis file (its text), and trusts the header with this hash
// (hexadecimal; null or undefined: trusts genesis alone).
export async function verifyReceipt(bytes, genesisText, trustedHeader) {
  const genesis = await readGenesis(genesisText);
  const receipt = whole(bytes, 16 * 1024 * 1024, receiptShape);
  need(same(receipt.checksum, await tagged("consilium/receipt/1", bytes.subarray(0, -34))), "checksum"); // 1
  const top = receipt.extension ? receipt.extension.header : receipt.header;
  const headers = [receipt.header, top, ...receipt.changes.map((change) => change.header)];
  if (receipt.start) headers.push(receipt.start.header);
  for (const at of headers) need(at.version === 1n && same(at.chainId, genesis.chainId), "another chain's header"); // 2
  const trusted = await trustedOf(receipt, top, headers, trustedHeader ?? null); // 3
  if (receipt.sealing) await checkSealed(top, receipt.sealing, await setOfTop(receipt, top, genesis.set)); // 4
  if (receipt.extension) {
    const root = await rootAbove(await headerHash(receipt.header), receipt.extension.inHistory); // 5
    need(receipt.header.height < top.height && same(root, top.historyRoot), "the later header's history");
  }
  const proved = await checkStatement(receipt.statement, receipt.header, genesis.chainId);
  return { network: genesis.network, chainId: toHex(genesis.chainId), ...proved,
    certifiedHeight: Number(receipt.header.height), timeMs: Number(receipt.header.time), topHeight: Number(top.height),
    setChanges: receipt.changes.length, trustedHeight: trusted ? Number(trusted.height) : null };
}

async function trustedOf(receipt, top, headers, hash) {
  const isTrusted = async (at) => toHex(await headerHash(at)) === hash;
  if (!receipt.sealing) need(!receipt.start && receipt.changes.length === 0, "whose seals, where there are none?");
  else if (!receipt.start && hash === null) return null;
  const candidates = !receipt.sealing ? [top] : receipt.start ? [receipt.start.header] : headers;
  for (const at of candidates) if (await isTrusted(at)) return at;
  throw new ReceiptError("it does not rest on a header that you trust");
}

async function setOfTop(receipt, top, founders) {
  let [set, height] = [founders, 0n];
  if (receipt.start) {
    [set, height] = [inOrder(receipt.start.validators), receipt.start.header.height];
    need(same(await setHash(set), receipt.start.header.nextValidatorsHash), "the start's validators");
    need(height < top.height, "the start is not below the top");
  }
  for (const { header: at, sealing: seals, removed, added } of receipt.changes) {
    need(height < at.height && at.height < top.height, "the changes are out of order");
    await checkSealed(at, seals, set);
    need(removed.length + added.length > 0, "a change changes nothing");
    need(removed.every((place, i) => place < set.length && (i === 0 || removed[i - 1] < place)), "removed validators");
    const isThere = (one) => set.some((old) => same(old.key, one.key) && same(old.institution, one.institution));
    need(!inOrder(added).some(isThere), "a validator is added that was there");
    const next = [...set.filter((_, place) => !removed.includes(place)), ...added];
    set = inOrder(next.sort((one, other) => compare(one.key, other.key)));
    need(set.length >= 1 && set.length <= 60, "the size of a set");
    need(same(await setHash(set), at.nextValidatorsHash), "a header hands over to another set");
    height = at.height;
  }
  return set;
}

async function checkSealed(at, { view, sealers, signatures }, set) {
  const faulty = Math.floor((set.length - 1) / 3);
  const quorum = Math.ceil((set.length + faulty + 1) / 2);
  const places = Array.from({ length: 63 }, (_, i) => i).filter((i) => (sealers >> BigInt(i)) & 1n);
  need(same(at.validatorsHash, await setHash(set)), "a header names another set");
  need(places.length === quorum && places.every((place) => place < set.length), "not exactly a quorum of seals");
  need(signatures.length === 64 * quorum, "not one signature for each sealer");
  const hash = await headerHash(at);
  const message = await tagged("consilium/seal/1", at.chainId, bigEndian(at.height, 8), bigEndian(view, 8), hash);
  for (const [number, place] of places.entries()) {
    const signature = signatures.subarray(64 * number, 64 * number + 64);
    need(await isGood(set[place].key, message, signature), `the seal of validator ${place} is not good`);
  }
}

async function rootAbove(data, { left, siblings }) { // 6
  need(left >> BigInt(siblings.length) === 0n, "sides beyond the end of a path");
  let running = await sha256([0], data);
  for (const [i, sibling] of siblings.entries()) {
    const isLeft = ((left >> BigInt(i)) & 1n) === 1n;
    need(!isLeft || !same(sibling, running), "an equal half on the left");
    running = isLeft ? await sha256([1], sibling, running) : await sha256([1], running, sibling);
  }
  return running;
}

async function checkStatement(it, at, chainId) { // 7
  const { kind } = it;
  const height = Number(at.height);
  if (kind === "transaction") {
    const { id, operations } = await checkTransaction(it.transaction, chainId);
    const root = await rootAbove(it.transaction, it.inBatch);
    const batch = await tagged("consilium/batch/1", chainId, it.author, bigEndian(it.sequence, 8), root);
    need(same(await rootAbove(batch, it.inBlock), at.batchesRoot), "the transaction is not in the block");
    return { kind, height, transaction: id, operations };
  }
  need(height >= 1, "the genesis header certifies no execution");
  if (kind === "state") {
    await checkState(at.stateRoot, it);
    return { kind, height: height - 1, key: toHex(it.key), value: it.value && toHex(it.value) };
  }
  const { id, operations } = await checkTransaction(it.transaction, chainId);
  const leaf = whole(it.leaf, 8 * 1024 * 1024, leafShape);
  need(toHex(leaf.transaction) === id, "the verdict is on another transaction");
  need(same(await rootAbove(it.leaf, it.inBlock), at.receiptsRoot), "the verdict is not in the block");
  const results = leaf.results.map(toHex);
  return { kind, height: height - 1, transaction: id, operations, code: leaf.code, failed: leaf.failed, results };
}

async function checkTransaction(raw, chainId) {
  const transaction = whole(raw, 131072, transactionShape);
  need(same(transaction.chainId, chainId), "a transaction of another chain");
  // The id is over the first seven fields: another head, and without the signature's two and 64 bytes.
  const id = await tagged("consilium/transaction/1", [0x97], raw.subarray(1, -66));
  need(await isGood(transaction.key, id, transaction.signature), "the transaction's signature is not good");
  return { id: toHex(id), operations: transaction.operations };
}

async function checkState(root, { key, value, proof: { steps, bucket } }) { // docs/state.md, "A proof"
  const nibbles = toHex(await tagged("consilium/state-key/1", key));
  let node = null;
  if (bucket.length > 0) {
    need(bucket.length % 64 === 0, "a bucket is of pairs");
    const pairs = Array.from({ length: bucket.length / 64 }, (_, i) => toHex(bucket.subarray(64 * i, 64 * i + 64)));
    const keys = pairs.map((pair) => pair.slice(0, 64));
    need(keys.every((one, i) => i === 0 || keys[i - 1] < one), "a bucket is not in order");
    need(keys.every((one) => one.startsWith(nibbles.slice(0, steps.length))), "a bucket of another path");
    const found = pairs[keys.indexOf(nibbles)]?.slice(64) ?? null;
    need(found === (value && toHex(await tagged("consilium/state-value/1", value))), "the bucket says otherwise");
    node = await tagged("consilium/state-bucket/1", bucket);
  } else {
    need(value === null, "a value, and no bucket that holds it");
    if (steps.length === 0) node = await tagged("consilium/state-empty/1");
  }
  for (let depth = steps.length - 1; depth >= 0; depth--) {
    const slot = parseInt(nibbles[depth], 16);
    const { bitmap, siblings } = steps[depth];
    const others = Array.from({ length: 16 }, (_, i) => i).filter((i) => i !== slot && (bitmap >> i) & 1);
    need(((bitmap >> slot) & 1) === (node ? 1 : 0), "a branch says otherwise");
    need(siblings.length === 32 * others.length, "a branch's siblings");
    const before = 32 * others.filter((i) => i < slot).length;
    const children = [siblings.subarray(0, before), node ?? [], siblings.subarray(before)];
    node = await tagged("consilium/state-branch/1", bigEndian(bitmap, 2), ...children);
  }
  need(same(node, root), "the proof does not lead to the header's state root");
}
