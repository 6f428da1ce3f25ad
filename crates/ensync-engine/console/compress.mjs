// Compresses what was built, as the engine serves it. The plain files are kept too: they are what CI compares, for what a compressor
// writes may change with its version.
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const dist = new URL("dist/", import.meta.url);
const wanted = ["console.css", "console.js", "icon.svg", "index.html"];
let brotli = 0;
for (const name of readdirSync(dist)) {
    if (!wanted.includes(name)) {
        if (!/\.(br|gz)$/.test(name)) throw new Error(`${name} was built, and nobody serves it`);
        rmSync(new URL(name, dist));
    }
}
for (const name of wanted) {
    const bytes = readFileSync(new URL(name, dist));
    const params = { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length };
    const small = brotliCompressSync(bytes, { params });
    writeFileSync(new URL(`${name}.br`, dist), small);
    writeFileSync(new URL(`${name}.gz`, dist), gzipSync(bytes, { level: 9 }));
    brotli += small.length;
    console.log(`${name}: ${bytes.length} bytes, ${small.length} compressed`);
}
if (brotli > 150_000) throw new Error(`the page has ${brotli} bytes compressed; it may have 150000`);
console.log(`${brotli} bytes in all`);
