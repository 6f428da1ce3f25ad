// Opens what was sealed for somebody: both suites. Everything happens in this page, and nothing of it leaves the page.

import { gcm } from "@noble/ciphers/aes.js";
import { hsalsa, xsalsa20poly1305 } from "@noble/ciphers/salsa.js";
import { ed25519, x25519 } from "@noble/curves/ed25519.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { concat, fromBase64, same, toBase64, toHex, utf8 } from "./bytes";
import { exported, setupRecipient } from "./hpke";
import { type KeyPair, agreementPublic, agreementSecret } from "./keys";

export interface Opened {
    plaintext: Uint8Array;
    suite: "nacl" | "nacl-hybrid" | "aes-256-gcm";
    /** The public key that the envelope proves its sender to have; `null` where it proves none. */
    sender: string | null;
    /** Whether that is shown by a signature too, which others could check. */
    signed: boolean;
    /** What the sealed header says. */
    header: { event: string; id: string; created: number } | null;
}

const malformed = (why: string): Error => new Error(`This is not an envelope that can be opened: ${why}.`);
const notForKey = (): Error => new Error("This event was not sealed for this key. Its recipient's key opens it.");

/** Opens a payload as it travels: base64 of an envelope. */
export function open(payload: string, pair: KeyPair): Opened {
    const bytes = fromBase64(payload);
    if (!bytes) throw malformed("it is not base64");
    let envelope: unknown;
    try {
        envelope = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    } catch {
        throw malformed("it is not JSON");
    }
    const members = object(envelope, "the envelope");
    switch (members.type) {
        case undefined:
            return openSingle(members, pair);
        case "hybrid":
            return openHybrid(members, pair);
        case "sealed":
            return openSealed(members, pair);
        default:
            throw malformed("it is of a kind that this console does not know");
    }
}

function openSingle(members: Record<string, unknown>, pair: KeyPair): Opened {
    const plaintext = openBox(members, "ciphertext", pair);
    if (!plaintext) throw notForKey();
    return { plaintext, suite: "nacl", sender: null, signed: false, header: null };
}

function openHybrid(members: Record<string, unknown>, pair: KeyPair): Opened {
    const payload = object(members.payload, "payload");
    const [nonce, ciphertext] = [binary(payload, "nonce", 24), binary(payload, "ciphertext")];
    for (const [name, wrapped] of Object.entries(object(members.keys, "keys"))) {
        if (!names(name, pair.publicKey)) continue;
        const entry = object(wrapped, "an entry of keys");
        let key = openBox(entry, entry.encryptedKey === undefined ? "ciphertext" : "encryptedKey", pair);
        if (key?.length === 44) key = fromBase64(new TextDecoder().decode(key));
        if (key?.length !== 32) continue;
        const plaintext = attempt(() => xsalsa20poly1305(key, nonce).decrypt(ciphertext));
        if (!plaintext) throw new Error("This event was changed after it was sealed, or is damaged: its key does not open it.");
        return { plaintext, suite: "nacl-hybrid", sender: null, signed: false, header: null };
    }
    throw notForKey();
}

/** Whether an entry is named after a key: base64 of either alphabet, padded or not, or hex. */
function names(name: string, publicKey: Uint8Array): boolean {
    if (/^[0-9a-f]{64}$/i.test(name)) return name.toLowerCase() === toHex(publicKey);
    const bytes = fromBase64(name);
    return bytes !== null && same(bytes, publicKey);
}

/** NaCl's box: the key is HSalsa20 of the agreement. */
function openBox(members: Record<string, unknown>, name: string, pair: KeyPair): Uint8Array | null {
    const nonce = binary(members, "nonce", 24);
    const ephemeral = binary(members, "ephemeralPublicKey", 32);
    const boxed = binary(members, name);
    if (boxed.length < 16) throw malformed(`${name} is too short`);
    return attempt(() => xsalsa20poly1305(boxKey(agreementSecret(pair), ephemeral), nonce).decrypt(boxed));
}

export function boxKey(secret: Uint8Array, publicKey: Uint8Array): Uint8Array {
    const words = (bytes: Uint8Array): Uint32Array => {
        const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
        return Uint32Array.from({ length: bytes.length / 4 }, (_, at) => view.getUint32(4 * at, true));
    };
    const out = new Uint32Array(8);
    const agreed = x25519.getSharedSecret(secret, publicKey);
    hsalsa(words(utf8("expand 32-byte k")), words(agreed), new Uint32Array(4), out);
    const key = new Uint8Array(32);
    out.forEach((word, at) => new DataView(key.buffer).setUint32(4 * at, word, true));
    return key;
}

function openSealed(members: Record<string, unknown>, pair: KeyPair): Opened {
    const headerBytes = binary(members, "header");
    const [wrapped, ciphertext] = [binary(members, "key", 48), binary(members, "ciphertext")];
    if (headerBytes.length > 4096) throw malformed("its header is too long");
    let header: Record<string, unknown>;
    try {
        header = object(JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(headerBytes)), "the header");
    } catch {
        throw malformed("its header is not JSON");
    }
    if (header.v !== 1) throw malformed("it is of a version that this console does not read");
    const [to, enc] = [binary(header, "to", 32), binary(header, "enc", 32)];
    const from = header.from === undefined ? undefined : binary(header, "from", 32);
    if (!same(to, pair.publicKey)) throw notForKey();
    if (typeof header.event !== "string" || typeof header.id !== "string" || !Number.isSafeInteger(header.created)) {
        throw malformed("its header is not complete");
    }
    const signed = header.signed === true;
    const signature = members.signature === undefined ? undefined : binary(members, "signature", 64);
    if (signed !== (signature !== undefined) || (signed && !from)) throw malformed("its signature is not where its header says");

    const info = concat(utf8("ensync/sealed/1"), to, from ?? new Uint8Array());
    const sender = from && agreementPublic(from);
    const transcript = concat(sha256(headerBytes), sha256(ciphertext));
    const key = attempt(() => {
        const secret = setupRecipient(enc, agreementSecret(pair), info, sender);
        const wrap = exported(secret, concat(utf8("ensync/sealed/1/key"), transcript), 32);
        return gcm(wrap, new Uint8Array(12)).decrypt(wrapped);
    });
    const plaintext = key && attempt(() => gcm(key, new Uint8Array(12)).decrypt(ciphertext));
    if (!key || !plaintext) {
        throw new Error("This event was changed after it was sealed, or is damaged, or its sender is not who it says: it does not open.");
    }
    if (from && signature) {
        const message = concat(utf8("ensync/sealed/1/sig"), transcript, sha256(key));
        // As the SDKs check it: without the cofactor.
        if (!attempt(() => ed25519.verify(signature, message, from, { zip215: false }))) {
            throw new Error("The signature of this event is not its sender's.");
        }
    }
    return {
        plaintext,
        suite: "aes-256-gcm",
        sender: from ? toBase64(from) : null,
        signed,
        header: { event: header.event, id: header.id, created: header.created as number },
    };
}

function attempt<T>(work: () => T): T | null {
    try {
        return work();
    } catch {
        return null;
    }
}

function object(value: unknown, what: string): Record<string, unknown> {
    if (typeof value !== "object" || value === null || Array.isArray(value)) throw malformed(`${what} is not an object`);
    return value as Record<string, unknown>;
}

function binary(members: Record<string, unknown>, name: string, length?: number): Uint8Array {
    const text = members[name];
    const bytes = typeof text === "string" ? fromBase64(text) : null;
    if (!bytes) throw malformed(`${name} is missing, or is not base64`);
    if (length !== undefined && bytes.length !== length) throw malformed(`${name} has ${bytes.length} bytes, not ${length}`);
    return bytes;
}
