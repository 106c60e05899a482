// Runs the receipts of a golden file through web/receipt.js, prints what came of each as JSON. Arguments: module, file,
// and the distance between the bytes that are flipped.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [modulePath, goldenPath, stride] = process.argv.slice(2);
const { verifyReceipt, ReceiptError } = await import(pathToFileURL(modulePath));
const golden = JSON.parse(readFileSync(goldenPath, "utf8"));

async function outcome(bytes, entry) {
  try {
    return { proves: await verifyReceipt(bytes, golden.genesis[entry.genesis], entry.trusted) };
  } catch (error) {
    if (error instanceof ReceiptError) return { refused: error.message };
    throw error;
  }
}

function withChecksum(bytes) {
  const tag = Buffer.from("consilium/receipt/1");
  const hash = createHash("sha256").update(Buffer.from([tag.length])).update(tag).update(Buffer.from([0]));
  bytes.set(hash.update(bytes.subarray(0, -34)).digest(), bytes.length - 32);
  return bytes;
}

const results = [];
for (const [number, entry] of golden.receipts.entries()) {
  const bytes = Uint8Array.from(Buffer.from(entry.receipt, "hex"));
  const result = { name: entry.name, ...(await outcome(bytes, entry)), survivors: [] };
  if (result.proves) {
    for (let at = number % Number(stride); at < bytes.length; at += Number(stride)) {
      const flipped = Uint8Array.from(bytes);
      flipped[at] ^= 1 << at % 8;
      if ((await outcome(flipped, entry)).proves) result.survivors.push(at);
      if (at >= bytes.length - 34) continue;
      const mended = await outcome(withChecksum(flipped), entry);
      // Of the absence of a key, a proof may say the same of another key. It says so.
      if (mended.proves && mended.proves.key === result.proves.key) result.survivors.push(at);
    }
  }
  results.push(result);
}
console.log(JSON.stringify(results));
