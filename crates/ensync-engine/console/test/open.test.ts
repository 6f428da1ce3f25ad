// Both suites, held to the vectors that the Rust code is held to.

import { readFileSync } from "node:fs";
import { gcm } from "@noble/ciphers/aes.js";
import { describe, expect, test } from "vitest";
import { fromBase64, toBase64, utf8 } from "../src/crypto/bytes";
import { exported, setupRecipient } from "../src/crypto/hpke";
import { newKeyPair, ofSeed, publicKeyText, readSecretKey, secretKeyText } from "../src/crypto/keys";
import { open } from "../src/crypto/open";

const vectors = (name: string) =>
    JSON.parse(readFileSync(new URL(`../../../ensync-core/tests/vectors/${name}.json`, import.meta.url), "utf8"));
const hex = (text: string) => Uint8Array.from(text.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

describe("nacl, as the published Python and Node clients write it", () => {
    const { apps, cases, malformed } = vectors("envelopes");
    const pair = (name: string) =>
        readSecretKey(apps.find((app: { name: string }) => app.name === name).app_secret_key_base64);
    test("every envelope opens for each of its recipients and for nobody else", () => {
        let opened = 0;
        for (const item of cases) {
            for (const app of apps) {
                const mine = item.recipients.includes(app.name);
                const attempt = () => open(item.wire_payload_base64, pair(app.name));
                if (mine) {
                    expect(text(attempt().plaintext)).toBe(item.plaintext);
                    expect(attempt().suite).toBe(item.kind === "single" ? "nacl" : "nacl-hybrid");
                    opened += 1;
                } else {
                    expect(attempt, `${item.generator} ${item.kind} for ${app.name}`).toThrow("not sealed for this key");
                }
            }
        }
        expect(opened).toBeGreaterThanOrEqual(36);
    });
    test("what is malformed is refused", () => {
        expect(malformed.length).toBeGreaterThan(10);
        for (const item of malformed) expect(() => open(item.wire_payload_base64, pair("warehouse")), item.why).toThrow();
    });
    test("keys are what the SDKs take them for", () => {
        for (const app of apps) expect(publicKeyText(pair(app.name))).toBe(app.ed25519_public_base64);
    });
});

describe.each(vectors("sealed"))("aes-256-gcm, mode $mode, signed $signed", (vector: Record<string, string>) => {
    const recipient = ofSeed(hex(vector.recipient_seed!));
    const sender = ofSeed(hex(vector.sender_seed ?? "09".repeat(32)));
    const wire = (envelope: string) => toBase64(utf8(envelope));
    test("the vector opens, and its sender is verified", () => {
        const opened = open(wire(vector.envelope!), recipient);
        expect(text(opened.plaintext)).toBe(vector.plaintext);
        expect([opened.sender, opened.signed]).toEqual([vector.mode === "auth" ? publicKeyText(sender) : null, vector.signed]);
        expect(opened.header?.event).toBe("orders/status/updated");
    });
    test("a bit anywhere decides", () => {
        const envelope = JSON.parse(vector.envelope!);
        for (const name of ["header", "key", "ciphertext", "signature"].filter((name) => name in envelope)) {
            const bytes = fromBase64(envelope[name])!;
            for (const at of [0, bytes.length >> 1, bytes.length - 1]) {
                const changed = bytes.slice();
                changed[at]! ^= 1;
                expect(() => open(wire(JSON.stringify({ ...envelope, [name]: toBase64(changed) })), recipient), `${name} ${at}`).toThrow();
            }
        }
        if (vector.signed) {
            const { signature: _, ...unsigned } = envelope;
            expect(() => open(wire(JSON.stringify(unsigned)), recipient)).toThrow("signature");
        }
        expect(() => open(wire(vector.envelope!), sender)).toThrow("not sealed for this key");
    });
});

describe("what it is made of", () => {
    test("HPKE exports what RFC 9180 says", () => {
        let checked = 0;
        for (const item of [vectors("hpke-rfc9180")].flat()) {
            if (![0, 2].includes(item.mode) || item.kem_id !== 32) continue;
            const secret = setupRecipient(hex(item.enc), hex(item.skRm), hex(item.info), item.mode === 2 ? hex(item.pkSm) : undefined);
            expect(secret).toEqual(hex(item.exporter_secret));
            for (const one of item.exports) {
                expect(exported(secret, hex(one.exporter_context), one.L)).toEqual(hex(one.exported_value));
                checked += 1;
            }
        }
        expect(checked).toBeGreaterThanOrEqual(6);
    });
    test("the cipher is AES-256-GCM", () => {
        // NIST's test case 13: nothing under the key of zeros.
        const tag = gcm(new Uint8Array(32), new Uint8Array(12)).encrypt(new Uint8Array());
        expect(tag).toEqual(hex("530f8afbc74536b9a963b4f1c4cb738b"));
    });
});

describe("keys", () => {
    test("one that is made is read back, and no two are the same", () => {
        const [one, other] = [newKeyPair(), newKeyPair()];
        expect(readSecretKey(` ${secretKeyText(one)}\n`)).toEqual(one);
        expect(secretKeyText(one)).not.toBe(secretKeyText(other));
        expect(secretKeyText(one)).toHaveLength(88);
    });
    test("what is no key is refused and not repeated", () => {
        const pair = newKeyPair();
        const mixed = toBase64(new Uint8Array([...pair.seed, ...newKeyPair().publicKey]));
        for (const wrong of ["", "hush!", toBase64(new Uint8Array(31)), toBase64(pair.seed), mixed]) {
            expect(() => readSecretKey(wrong)).toThrow("not a secret key");
            if (wrong) expect(() => readSecretKey(wrong)).not.toThrow(wrong);
        }
    });
});
