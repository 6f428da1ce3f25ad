// What the SDKs open of what is nearly an envelope, and what they do not: each of these differs from a good one in one thing, and what is
// encrypted in it fits, so that a lenient reader opens it. The Rust code and the page are both held to the file that is made of this
// (`ENSYNC_WRITE=1 npm test` writes it anew).

import { gcm } from "@noble/ciphers/aes.js";
import { xsalsa20poly1305 } from "@noble/ciphers/salsa.js";
import { ed25519, x25519 } from "@noble/curves/ed25519.js";
import { sha256, sha512 } from "@noble/hashes/sha2.js";
import { concat, toBase64, utf8 } from "../src/crypto/bytes";
import { exported, setupRecipient } from "../src/crypto/hpke";
import { agreementPublic, agreementSecret, ofSeed } from "../src/crypto/keys";
import { boxKey } from "../src/crypto/open";

export interface Case {
    name: string;
    payload: string;
    /** The reason for which it is refused, by the SDKs' name; `null` if it opens. */
    refused: string | null;
}

const { Point } = ed25519;
const seed = (byte: number) => new Uint8Array(32).fill(byte);
export const RECIPIENT_SEED = seed(2);
const recipient = ofSeed(RECIPIENT_SEED);
const sender = ofSeed(seed(1));
const ephemeral = seed(3);
const K = seed(4);
const plaintext = utf8('{"order":7}');
const none = new Uint8Array(12);
const wire = (text: string | Uint8Array) => toBase64(typeof text === "string" ? utf8(text) : text);
const b64 = toBase64;
const little = (number: bigint) => Uint8Array.from({ length: 32 }, (_, at) => Number((number >> BigInt(8 * at)) & 255n));
const big = (bytes: Uint8Array) => bytes.reduceRight((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
/** A point of order eight. */
const torsion = Point.fromHex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a");

interface How {
    header?: (members: Record<string, string>) => string;
    envelope?: (members: Record<string, string>) => string;
    from?: Uint8Array;
    sign?: (message: Uint8Array) => Uint8Array;
}

const text = (members: Record<string, string>) => `{${Object.entries(members).map(([name, value]) => `${JSON.stringify(name)}:${value}`).join(",")}}`;
const quoted = (value: string) => JSON.stringify(value);

/** A sealed envelope, right but for what `how` changes. */
function sealed(how: How): string {
    const enc = x25519.getPublicKey(ephemeral);
    const to = recipient.publicKey;
    const members: Record<string, string> = {
        v: "1",
        event: quoted("orders/paid"),
        to: quoted(b64(to)),
        ...(how.from ? { from: quoted(b64(how.from)) } : {}),
        id: quoted("01JD8Z3V9K6Q4W2N7X5T1B0C8E"),
        created: "1763769600000",
        enc: quoted(b64(enc)),
        ...(how.sign ? { signed: "true" } : {}),
    };
    const header = utf8((how.header ?? text)(members));
    const ciphertext = gcm(K, none).encrypt(plaintext);
    const info = concat(utf8("ensync/sealed/1"), to, how.from ?? new Uint8Array());
    // What a sender agrees on, from the recipient's side: it is the same.
    const secret = setupRecipient(enc, agreementSecret(recipient), info, how.from && agreementPublic(how.from));
    const transcript = concat(sha256(header), sha256(ciphertext));
    const wrap = exported(secret, concat(utf8("ensync/sealed/1/key"), transcript), 32);
    const message = concat(utf8("ensync/sealed/1/sig"), transcript, sha256(K));
    const envelope: Record<string, string> = {
        type: quoted("sealed"),
        header: quoted(b64(header)),
        key: quoted(b64(gcm(wrap, none).encrypt(K))),
        ciphertext: quoted(b64(ciphertext)),
        ...(how.sign ? { signature: quoted(b64(how.sign(message))) } : {}),
    };
    return (how.envelope ?? text)(envelope);
}

/** A signature by a secret scalar, with a part added to `R`. */
function signature(message: Uint8Array, key: Uint8Array, part: typeof torsion): Uint8Array {
    const a = big(sha512(sender.seed).subarray(0, 32).map((byte, at) => (at === 0 ? byte & 248 : at === 31 ? (byte & 127) | 64 : byte))) % Point.Fn.ORDER;
    const r = 7n;
    const R = Point.BASE.multiply(r).add(part).toBytes();
    const k = big(sha512(concat(R, key, message))) % Point.Fn.ORDER;
    return concat(R, little((r + k * a) % Point.Fn.ORDER));
}

const set = (name: string, value: string) => (members: Record<string, string>) => text({ ...members, [name]: value });
const also = (more: string) => (members: Record<string, string>) => text(members).replace(/\}$/, `,${more}}`);
const spelled = (name: string, change: (base64: string) => string) => (members: Record<string, string>) => text({ ...members, [name]: quoted(change(JSON.parse(members[name]!))) });

function box(extra: Record<string, string> = {}, secret = recipient, inside = plaintext): Record<string, string> {
    const nonce = new Uint8Array(24).fill(5);
    const key = boxKey(ephemeral, agreementPublic(secret.publicKey));
    return {
        nonce: quoted(b64(nonce)),
        ciphertext: quoted(b64(xsalsa20poly1305(key, nonce).encrypt(inside))),
        ephemeralPublicKey: quoted(b64(x25519.getPublicKey(ephemeral))),
        ...extra,
    };
}

function hybrid(names: string[]): string {
    const nonce = new Uint8Array(24).fill(6);
    const payload = text({ nonce: quoted(b64(nonce)), ciphertext: quoted(b64(xsalsa20poly1305(K, nonce).encrypt(plaintext))) });
    const entry = text(box({}, recipient, K));
    return text({ type: quoted("hybrid"), payload, keys: text(Object.fromEntries(names.map((name) => [name, entry]))) });
}

const MALFORMED = "malformed_envelope";

export function cases(): Case[] {
    const all: [string, string | Uint8Array, string | null][] = [];
    const add = (name: string, envelope: string | Uint8Array, refused: string | null) => all.push([name, envelope, refused]);
    add("as it should be", sealed({}), null);
    add("spaces between its members", ` ${sealed({ header: (members) => text(members).replace(/,/g, " ,\n") })}\r\n`, null);
    add("a byte order mark", concat(Uint8Array.of(0xef, 0xbb, 0xbf), utf8(sealed({}))), MALFORMED);
    for (const [where, key] of [["envelope", "key"], ["header", "created"]] as const) {
        add(`${where}: a member twice`, sealed({ [where]: (members: Record<string, string>) => also(`${quoted(key)}:${members[key]}`)(members) }), MALFORMED);
        add(`${where}: a member twice, once with an escape`, sealed({ [where]: (members: Record<string, string>) => also(`"\\u00${key.charCodeAt(0).toString(16)}${key.slice(1)}":${members[key]}`)(members) }), MALFORMED);
        add(`${where}: a member that nobody knows`, sealed({ [where]: also('"more":1') }), MALFORMED);
        add(`${where}: a member that is null`, sealed({ [where]: also(where === "header" ? '"from":null' : '"signature":null') }), MALFORMED);
        add(`${where}: something behind it`, sealed({ [where]: (members: Record<string, string>) => `${text(members)} x` }), MALFORMED);
        add(`${where}: a comma too many`, sealed({ [where]: (members: Record<string, string>) => text(members).replace(/\}$/, ",}") }), MALFORMED);
    }
    for (const value of ["-1", "1e3", "1763769600000.0", '"1763769600000"', "9007199254740992", "null", "true"]) {
        add(`header: created is ${value}`, sealed({ header: set("created", value) }), MALFORMED);
    }
    add("header: created is the last moment", sealed({ header: set("created", "9007199254740991") }), null);
    for (const value of ["false", "null", "1"]) add(`header: signed is ${value}`, sealed({ header: set("signed", value) }), MALFORMED);
    for (const name of ["", "/a", "a//b", "a/..", "a b", "a;b", "a\u200bb", 'a"b', "a".repeat(256)]) {
        add(`header: event is ${JSON.stringify(name).slice(0, 20)}`, sealed({ header: set("event", quoted(name)) }), MALFORMED);
    }
    add("header: event is zamówienia/status", sealed({ header: set("event", quoted("zamówienia/status")) }), null);
    for (const id of ["", "a b", "a".repeat(65), "é"]) add(`header: id is ${JSON.stringify(id).slice(0, 20)}`, sealed({ header: set("id", quoted(id)) }), MALFORMED);
    for (const value of ['"1"', "1.0", "-1"]) add(`header: v is ${value}`, sealed({ header: set("v", value) }), MALFORMED);
    add("header: v is 2", sealed({ header: set("v", "2") }), "unsupported_envelope");
    add("header: to in the other alphabet", sealed({ header: spelled("to", (to) => to.replace(/\+/g, "-").replace(/\//g, "_")) }), /[+/]/.test(b64(recipient.publicKey)) ? MALFORMED : null);
    add("header: to without padding", sealed({ header: spelled("to", (to) => to.replace(/=+$/, "")) }), MALFORMED);
    add("header: enc with a bit of its last character set", sealed({ header: spelled("enc", bit) }), MALFORMED);
    add("envelope: ciphertext without padding", sealed({ envelope: spelled("ciphertext", (base64) => base64.replace(/=+$/, "")) }), b64(gcm(K, none).encrypt(plaintext)).endsWith("=") ? MALFORMED : null);
    add("envelope: key with a line break", sealed({ envelope: spelled("key", (base64) => `${base64}\n`) }), MALFORMED);
    add("envelope: type in capitals", sealed({ envelope: set("type", '"SEALED"') }), MALFORMED);
    add("envelope: type is null", sealed({ envelope: set("type", "null") }), MALFORMED);
    const proved = sender.publicKey;
    add("from and signed", sealed({ from: proved, sign: (message) => ed25519.sign(message, sender.seed) }), null);
    add("from and signed, another nonce", sealed({ from: proved, sign: (message) => signature(message, proved, Point.ZERO) }), null);
    add("a signature whose R has a torsion part", sealed({ from: proved, sign: (message) => signature(message, proved, torsion) }), "bad_signature");
    add("a signature whose S is not reduced", sealed({ from: proved, sign: (message) => {
        const good = signature(message, proved, Point.ZERO);
        return concat(good.subarray(0, 32), little(big(good.subarray(32)) + Point.Fn.ORDER));
    } }), "bad_signature");
    const mixed = Point.fromBytes(proved).add(torsion).toBytes();
    add("a sender's key with a torsion part", sealed({ from: mixed }), "does_not_open");
    add("a sender's key with a torsion part, signed", sealed({ from: mixed, sign: (message) => signature(message, mixed, Point.ZERO) }), "does_not_open");
    add("signed without from", sealed({ header: set("signed", "true") }), MALFORMED);

    add("box", text(box()), null);
    add("box: a member that nobody knows", text(box({ more: "1" })), null);
    add("box: a member twice", also(`"nonce":${box().nonce}`)(box()), MALFORMED);
    add("box: twice in what nobody reads", text(box({ more: '{"a":1,"a":1}' })), MALFORMED);
    add("box: half of a pair in what nobody reads", text(box({ more: '"\\ud800"' })), MALFORMED);
    add("box: without padding", text(box({ nonce: quoted(b64(new Uint8Array(24).fill(5)).replace(/=+$/, "")) })), null);
    add("box: a padding too many", text(box({ ephemeralPublicKey: quoted(`${b64(x25519.getPublicKey(ephemeral))}=`) })), MALFORMED);
    add("box: a bit of the last character set", text(box({ ephemeralPublicKey: quoted(bit(b64(x25519.getPublicKey(ephemeral)))) })), MALFORMED);
    add("hybrid", hybrid([b64(recipient.publicKey)]), null);
    add("hybrid: named after nobody", hybrid(["warehouse"]), null);
    add("hybrid: named after somebody else", hybrid([b64(sender.publicKey)]), "not_for_me");
    add("hybrid: no entries", hybrid([]), MALFORMED);

    const good = wire(sealed({}));
    const made = all.map(([name, envelope, refused]) => ({ name, payload: wire(envelope), refused }));
    const raw = (name: string, payload: string, refused: string | null) => made.push({ name: `payload: ${name}`, payload, refused });
    raw("empty", "", MALFORMED);
    raw("without padding", good.replace(/=+$/, ""), null);
    raw("a padding too many", `${good}=`, MALFORMED);
    raw("a line break at its end", `${good}\n`, MALFORMED);
    raw("both alphabets", `${wire(`${sealed({})}    `).replace(/=+$/, "")}-_+/`, MALFORMED);
    return made;
}

/** The same bytes to a lenient reader: a bit of the last character that none of them is made of. */
function bit(base64: string): string {
    const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const at = base64.replace(/=+$/, "").length - 1;
    return base64.slice(0, at) + letters[letters.indexOf(base64[at]!) + 1] + base64.slice(at + 1);
}
