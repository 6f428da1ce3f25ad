// Compares what was built into a directory with what is in dist/, plain and unpacked: browsers get the compressed files, and a compressor of
// another version may write other bytes for the same file.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { brotliDecompressSync, gunzipSync } from "node:zlib";

const built = process.argv[2];
const dist = new URL("dist/", import.meta.url).pathname;
for (const name of ["console.css", "console.js", "icon.svg", "index.html"]) {
    const wanted = readFileSync(join(built, name));
    for (const [file, unpack] of [["", (bytes) => bytes], [".gz", gunzipSync], [".br", brotliDecompressSync]]) {
        if (!unpack(readFileSync(join(dist, name + file))).equals(wanted)) throw new Error(`dist/${name}${file} is not what its sources make: run npm run build`);
    }
}
