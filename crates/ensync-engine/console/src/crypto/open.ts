// Opens what was sealed for somebody: both suites. Everything happens in this page, and nothing of it leaves the page.

import { gcm } from "@noble/ciphers/aes.js";
import { hsalsa, xsalsa20poly1305 } from "@noble/ciphers/salsa.js";
import { ed25519, x25519 } from "@noble/curves/ed25519.js";
import { sha256, sha512 } from "@noble/hashes/sha2.js";
import { concat, fromBase64, fromCanonical, same, toBase64, utf8 } from "./bytes";
import { exported, setupRecipient } from "./hpke";
import { type Members, asText, readMembers } from "./json";
import { type KeyPair, agreementPublic, agreementSecret } from "./keys";

const { Point } = ed25519;

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
    const text = utf8Text(bytes);
    if (text === null) throw malformed("it is not UTF-8");
    const members = object(text, "the envelope");
    const type = members.get("type");
    switch (type === undefined ? undefined : asText(type)) {
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

function openSingle(members: Members, pair: KeyPair): Opened {
    const plaintext = openBox(members, "ciphertext", pair);
    if (!plaintext) throw notForKey();
    return { plaintext, suite: "nacl", sender: null, signed: false, header: null };
}

/** How many entries that are named after nobody are tried: whoever made the envelope chose how many there are. */
const TRIES = 8;

function openHybrid(members: Members, pair: KeyPair): Opened {
    const payload = object(required(members, "payload"), "payload");
    const [nonce, ciphertext] = [binary(payload, "nonce", 24), binary(payload, "ciphertext")];
    if (ciphertext.length < 16) throw malformed("ciphertext is too short");
    const entries = [...object(required(members, "keys"), "keys")].map(([name, wrapped]) => ({ to: named(name), wrapped }));
    if (entries.length === 0) throw malformed("keys is empty");
    const own = entries.filter(({ to }) => to && same(to, pair.publicKey));
    for (const { to, wrapped } of [...own, ...entries.filter(({ to }) => !to).slice(0, TRIES)]) {
        const key = to ? messageKey(wrapped, pair) : attempt(() => messageKey(wrapped, pair));
        if (!key) continue;
        const plaintext = attempt(() => xsalsa20poly1305(key, nonce).decrypt(ciphertext));
        if (!plaintext) throw new Error("This event was changed after it was sealed, or is damaged: its key does not open it.");
        return { plaintext, suite: "nacl-hybrid", sender: null, signed: false, header: null };
    }
    if (own.length) throw new Error("This event was changed after it was sealed, or is damaged: it names this key, and its entry does not open.");
    throw notForKey();
}

/** What the payload of several recipients is sealed with, as one entry has it. */
function messageKey(wrapped: string, pair: KeyPair): Uint8Array | null {
    const entry = object(wrapped, "an entry of keys");
    const key = openBox(entry, entry.has("encryptedKey") ? "encryptedKey" : "ciphertext", pair);
    const raw = key?.length === 44 ? fromBase64(new TextDecoder().decode(key)) : key;
    return raw?.length === 32 ? raw : null;
}

/** Whom an entry is named after: base64 of either alphabet, padded or not, or hex; `null` if after nobody. */
function named(name: string): Uint8Array | null {
    if (/^[0-9a-f]{64}$/i.test(name)) return Uint8Array.from(name.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
    const bytes = fromBase64(name);
    return bytes?.length === 32 ? bytes : null;
}

/** NaCl's box: the key is HSalsa20 of the agreement. */
function openBox(members: Members, name: string, pair: KeyPair): Uint8Array | null {
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

/** The longest header, in bytes, and the time that none says: what every reader of JSON reads exactly is below it. */
const [HEADER, CREATED] = [4_096, 2 ** 53];

function openSealed(members: Members, pair: KeyPair): Opened {
    const headerBytes = strict(members, "header");
    if (headerBytes.length > HEADER) throw malformed("its header is too long");
    const headerText = utf8Text(headerBytes);
    if (headerText === null) throw malformed("its header is not UTF-8");
    const header = object(headerText, "its header");
    // First, because a later version may have members that this one has not.
    const version = digits(header, "v");
    if (version !== "1") throw new Error("This event is sealed in a version that this console does not read. A newer engine has a console that does.");
    only(header, ["v", "event", "to", "from", "id", "created", "enc", "signed"]);
    const [event, id] = [text(header, "event"), text(header, "id")];
    if (!isEventName(event)) throw malformed("event is not an event name");
    if (!/^[A-Za-z0-9_-]{1,64}$/.test(id)) throw malformed("id is not 1 to 64 letters, digits, underscores and hyphens");
    const created = Number(digits(header, "created"));
    if (created >= CREATED) throw malformed("created is too large");
    const signed = header.has("signed");
    if (signed && header.get("signed") !== "true") throw malformed("signed is not true");
    const [to, enc] = [strict(header, "to", 32), strict(header, "enc", 32)];
    const from = header.has("from") ? strict(header, "from", 32) : undefined;
    if (signed && !from) throw malformed("signed is there, but from is not");
    only(members, ["type", "header", "key", "ciphertext", "signature"]);
    const [wrapped, ciphertext] = [strict(members, "key", 48), strict(members, "ciphertext")];
    if (ciphertext.length < 16) throw malformed("ciphertext is too short");
    const signature = members.has("signature") ? strict(members, "signature", 64) : undefined;
    if (signed !== (signature !== undefined)) throw malformed("its signature is not where its header says");
    if (!same(to, pair.publicKey)) throw notForKey();
    if (from && !isUsable(from)) throw new Error("The key that this event names as its sender's is none that a sender can have.");

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
        if (!attempt(() => verify(signature, message, from))) {
            throw new Error("The signature of this event is not its sender's.");
        }
    }
    return {
        plaintext,
        suite: "aes-256-gcm",
        sender: from ? toBase64(from) : null,
        signed,
        header: { event, id, created },
    };
}

function attempt<T>(work: () => T): T | null {
    try {
        return work();
    } catch {
        return null;
    }
}

/** Whether a key is the canonical encoding of a point of the prime-order group. */
function isUsable(key: Uint8Array): boolean {
    const point = attempt(() => Point.fromBytes(key));
    return point !== null && same(point.toBytes(), key) && !point.isSmallOrder() && point.isTorsionFree();
}

/** RFC 8032, section 5.1.7, as the SDKs check it: without the cofactor, and `R` is not of small order. */
function verify(signature: Uint8Array, message: Uint8Array, key: Uint8Array): boolean {
    const [r, s] = [signature.subarray(0, 32), number(signature.subarray(32))];
    if (s >= Point.Fn.ORDER) return false;
    const k = number(sha512(concat(r, key, message))) % Point.Fn.ORDER;
    const found = Point.BASE.multiplyUnsafe(s).subtract(Point.fromBytes(key).multiplyUnsafe(k));
    return same(found.toBytes(), r) && !found.isSmallOrder();
}

const number = (little: Uint8Array): bigint => little.reduceRight((sum, byte) => (sum << 8n) | BigInt(byte), 0n);

/** The SDKs' rule of event names. */
function isEventName(name: string): boolean {
    return utf8(name).length <= 255 && name.split("/").every((part) => part !== "" && part !== "." && part !== "..") && !/[\s\p{Cc}\p{Cf};,{}"\\\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\u{e0000}-\u{e0fff}]/u.test(name);
}

function utf8Text(bytes: Uint8Array): string | null {
    return attempt(() => new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes));
}

function object(json: string, what: string): Members {
    const members = readMembers(json);
    if (!members) throw malformed(`${what} is not a JSON object with each member once`);
    return members;
}

function only(members: Members, names: string[]): void {
    for (const name of members.keys()) if (!names.includes(name)) throw malformed("it has a member that does not belong there");
}

function required(members: Members, name: string): string {
    const value = members.get(name);
    if (value === undefined) throw malformed(`${name} is missing`);
    return value;
}

function text(members: Members, name: string): string {
    const value = asText(required(members, name));
    if (value === null) throw malformed(`${name} is not text`);
    return value;
}

function digits(members: Members, name: string): string {
    const value = required(members, name);
    if (!/^[0-9]+$/.test(value)) throw malformed(`${name} is not a whole number in digits`);
    return value;
}

function binary(members: Members, name: string, length?: number, read = fromBase64): Uint8Array {
    const bytes = read(text(members, name));
    if (!bytes) throw malformed(`${name} is not base64`);
    if (length !== undefined && bytes.length !== length) throw malformed(`${name} has ${bytes.length} bytes, not ${length}`);
    return bytes;
}

/** Base64 in its one spelling: what is sealed so, we wrote. */
const strict = (members: Members, name: string, length?: number): Uint8Array => binary(members, name, length, fromCanonical);
