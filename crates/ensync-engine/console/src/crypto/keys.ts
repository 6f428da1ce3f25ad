// An app's key pair: Ed25519 (RFC 8032), used for X25519 too (RFC 7748) by the usual map between the curves.

import { ed25519 } from "@noble/curves/ed25519.js";
import { concat, fromBase64, same, toBase64 } from "./bytes";

export interface KeyPair {
    /** Raw, 32 bytes. */
    publicKey: Uint8Array;
    seed: Uint8Array;
}

export const ofSeed = (seed: Uint8Array): KeyPair => ({ seed, publicKey: ed25519.getPublicKey(seed) });

export const newKeyPair = (): KeyPair => ofSeed(crypto.getRandomValues(new Uint8Array(32)));

/** As the SDKs take a secret key: base64 of seed and public key. */
export const secretKeyText = (pair: KeyPair): string => toBase64(concat(pair.seed, pair.publicKey));

export const publicKeyText = (pair: KeyPair): string => toBase64(pair.publicKey);

/** Reads a secret key: 64 bytes (seed and public key) in base64. What is wrong is said without repeating it. */
export function readSecretKey(text: string): KeyPair {
    // A whole line of a file of keys.
    const value = text.trim().replace(/^(?:export\s+)?ENSYNC_SECRET_KEY\s*=\s*/, "").replace(/^(["'])(.*)\1$/, "$2");
    if (/^(?:ENSYNC_APP_KEY=|ENSYNC_ACCESS_KEY=)?ensync_key_/.test(value)) throw new Error("This is not a secret key: it is the app key.");
    if (/^ensync_admin_/.test(value)) throw new Error("This is not a secret key: it is an admin token.");
    const bytes = fromBase64(value);
    if (!bytes) throw new Error("This is not a secret key: it is not base64.");
    if (bytes.length === 32) {
        throw new Error("This is not a secret key as it is needed here: it has 32 bytes, which may be an address, a seed or a bare X25519 secret. Give the key of 64 bytes, seed and public key.");
    }
    if (bytes.length !== 64) throw new Error(`This is not a secret key: it has ${bytes.length} bytes, and a secret key has 64.`);
    const seed = bytes.slice(0, 32);
    const publicKey = ed25519.getPublicKey(seed);
    if (!same(bytes.slice(32), publicKey)) {
        throw new Error("This is not a secret key: its two halves do not belong together.");
    }
    return { seed, publicKey };
}

export const agreementPublic = (publicKey: Uint8Array): Uint8Array => ed25519.utils.toMontgomery(publicKey);
export const agreementSecret = (pair: KeyPair): Uint8Array => ed25519.utils.toMontgomerySecret(pair.seed);
