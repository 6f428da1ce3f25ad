// What is a secret for certain, in a text that somebody typed: it goes into no address, for browsers keep those, and into no request.

import { fromBase64, same } from "./bytes";
import { ofSeed } from "./keys";

const ISSUED: [RegExp, string][] = [
    [/ensync_key_[A-Za-z0-9_-]{22}/i, "an app key"],
    [/ensync_admin_[A-Za-z0-9_-]{22}/i, "an admin token"],
    [/ensync_session_[A-Za-z0-9_-]{22}/i, "a session's client id"],
    [/-----BEGIN [A-Z ]*PRIVATE/, "a private key"],
];
/** 64 bytes, without padding. */
const LETTERS = 86;

/** Whether these are a seed and its own public half, and so nothing else. */
function isSecretKey(letters: string): boolean {
    const bytes = fromBase64(letters);
    return bytes?.length === 64 && same(ofSeed(bytes.slice(0, 32)).publicKey, bytes.slice(32));
}

/** What of a text is a secret, if something is: the few places are looked at where one begins or ends that was pasted. */
export function secretIn(text: string): string | null {
    // As it is written in an address, in JSON, or in lines.
    const plain = text
        .replace(/%([2-7][0-9A-Fa-f])/g, (_, code: string) => String.fromCharCode(Number.parseInt(code, 16)))
        .replace(/\\\//g, "/")
        .replace(/\s+/g, "");
    for (const one of plain === text ? [text] : [text, plain]) {
        for (const [form, what] of ISSUED) if (form.test(one)) return what;
        for (const run of one.match(/[A-Za-z0-9+/_-]{86,}/g) ?? []) {
            for (const at of new Set([0, run.length - LETTERS, run.lastIndexOf("/", run.length - LETTERS) + 1])) {
                if (at >= 0 && isSecretKey(run.slice(at, at + LETTERS))) return "a secret key";
            }
        }
    }
    return null;
}

/** The same of a part of an address. */
export function secretInAddress(where: string): string | null {
    let text = where.replace(/\+/g, " ");
    try {
        text = decodeURIComponent(text);
    } catch {
        // It is no part of one, and is looked at as it is.
    }
    return secretIn(text);
}
