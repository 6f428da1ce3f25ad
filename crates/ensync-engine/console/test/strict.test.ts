// What the page opens is what the SDKs open: held to the same file as the Rust code.

import { readFileSync, writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { toBase64 } from "../src/crypto/bytes";
import { ofSeed } from "../src/crypto/keys";
import { readMembers } from "../src/crypto/json";
import { open } from "../src/crypto/open";
import { type Case, RECIPIENT_SEED, cases } from "./strict";

const file = new URL("../../../ensync-core/tests/vectors/strict.json", import.meta.url);
if (process.env.ENSYNC_WRITE) writeFileSync(file, `${JSON.stringify({ recipient_seed_base64: toBase64(RECIPIENT_SEED), cases: cases() }, null, 1)}\n`);
const kept: { recipient_seed_base64: string; cases: Case[] } = JSON.parse(readFileSync(file, "utf8"));

test("the file is what is made here", () => expect(kept.cases).toEqual(cases()));

test("a text of any length is read", () => {
    for (const part of ["x", "\\n", "\\u00e9"]) {
        const text = `"${part.repeat(9_000_000 / part.length)}"`;
        expect(readMembers(`{"a":${text}}`)?.get("a") === text, part).toBe(true);
        expect(readMembers(`{"a":${text.slice(0, -1)}`)).toBe(null);
    }
    for (const wrong of ['{"a":"\u0001"}', '{"a":"\\x"}', '{"a":"\\', '{"a":"\\u', '{"a":"\\u12', '{"a":"\\u12g4"}', '{"a":"\\ud800"}', '{"a":"', '{a:1}']) expect(readMembers(wrong)).toBe(null);
    const blank = " ".repeat(9_000_000);
    expect(readMembers(`{${blank}"a"${blank}:${"1".repeat(300)}${blank}}`)?.size).toBe(1);
});

test("each is opened or refused, as the SDKs do", () => {
    const pair = ofSeed(RECIPIENT_SEED);
    expect(kept.cases.length).toBeGreaterThanOrEqual(60);
    expect(kept.cases.filter((one) => one.refused === null).length).toBeGreaterThanOrEqual(12);
    const wrong = kept.cases.flatMap(({ name, payload, refused }) => {
        let opened = false;
        try {
            opened = new TextDecoder().decode(open(payload, pair).plaintext) === '{"order":7}';
        } catch {
            // Refused.
        }
        return opened === (refused === null) ? [] : [name];
    });
    expect(wrong).toEqual([]);
});
