// Bytes as text, and back. Nothing here is lenient: what is not exactly base64 is refused.

export function concat(...parts: Uint8Array[]): Uint8Array {
    const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of parts) {
        all.set(part, at);
        at += part.length;
    }
    return all;
}

export const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);

export function toBase64(bytes: Uint8Array): string {
    let text = "";
    for (let at = 0; at < bytes.length; at += 0x8000) text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
    return btoa(text);
}

/** The bytes of base64 by the one rule of the SDKs: one of the two alphabets, not both; padded to a multiple of four or not at all; unused
 * bits zero (RFC 4648, section 3.5). `null` if a text breaks it. */
export function fromBase64(text: string): Uint8Array | null {
    const bare = text.replace(/={1,2}$/, "");
    if (bare.length !== text.length && text.length % 4 !== 0) return null;
    if (!/^(?:[A-Za-z0-9+/]*|[A-Za-z0-9_-]*)$/.test(bare) || bare.length % 4 === 1) return null;
    const binary = atob(bare.replace(/-/g, "+").replace(/_/g, "/"));
    const bytes = Uint8Array.from(binary, (character) => character.charCodeAt(0));
    // What is left over of the last character: written anew it would be another.
    const left = bare.length % 4;
    if (left && toBase64(bytes.subarray(-(left - 1))).charAt(left - 1) !== standard(bare.charAt(bare.length - 1))) return null;
    return bytes;
}

const standard = (character: string): string => (character === "-" ? "+" : character === "_" ? "/" : character);

/** The bytes of base64 in the one spelling that we write: the standard alphabet, padded. */
export const fromCanonical = (text: string): Uint8Array | null => (/[-_]/.test(text) || text.length % 4 !== 0 ? null : fromBase64(text));

export const same = (one: Uint8Array, other: Uint8Array): boolean =>
    one.length === other.length && one.every((byte, at) => byte === other[at]);
