// HPKE (RFC 9180), of which the sealed envelope needs Setup and Export of a recipient, in the modes base and auth: KEM 0x0020, KDF 0x0001,
// AEAD 0x0002. Labels and names are the RFC's.

import { x25519 } from "@noble/curves/ed25519.js";
import { expand, extract } from "@noble/hashes/hkdf.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { concat, utf8 } from "./bytes";

const EMPTY = new Uint8Array();
const VERSION = utf8("HPKE-v1");
const KEM = concat(utf8("KEM"), Uint8Array.of(0x00, 0x20));
const SUITE = concat(utf8("HPKE"), Uint8Array.of(0x00, 0x20, 0x00, 0x01, 0x00, 0x02));

const labeledExtract = (salt: Uint8Array, suite: Uint8Array, label: string, ikm: Uint8Array): Uint8Array =>
    extract(sha256, concat(VERSION, suite, utf8(label), ikm), salt);

const labeledExpand = (prk: Uint8Array, suite: Uint8Array, label: string, info: Uint8Array, length: number): Uint8Array =>
    expand(sha256, prk, concat(Uint8Array.of(length >> 8, length & 0xff), VERSION, suite, utf8(label), info), length);

/** The exporter secret of a recipient: section 5.1, with section 4.1's Decap, or AuthDecap if the sender is known. */
export function setupRecipient(enc: Uint8Array, secret: Uint8Array, info: Uint8Array, sender?: Uint8Array): Uint8Array {
    const own = x25519.getPublicKey(secret);
    const agreed = [x25519.getSharedSecret(secret, enc)];
    if (sender) agreed.push(x25519.getSharedSecret(secret, sender));
    const kemContext = sender ? concat(enc, own, sender) : concat(enc, own);
    const prk = labeledExtract(EMPTY, KEM, "eae_prk", concat(...agreed));
    const shared = labeledExpand(prk, KEM, "shared_secret", kemContext, 32);
    const mode = Uint8Array.of(sender ? 2 : 0);
    const context = concat(
        mode,
        labeledExtract(EMPTY, SUITE, "psk_id_hash", EMPTY),
        labeledExtract(EMPTY, SUITE, "info_hash", info),
    );
    const schedule = labeledExtract(shared, SUITE, "secret", EMPTY);
    return labeledExpand(schedule, SUITE, "exp", context, 32);
}

/** Section 5.3. */
export const exported = (exporterSecret: Uint8Array, context: Uint8Array, length: number): Uint8Array =>
    labeledExpand(exporterSecret, SUITE, "sec", context, length);
