// What the page opens is what the SDKs open: held to the same file as the Rust code.

import { readFileSync, writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { toBase64 } from "../src/crypto/bytes";
import { ofSeed } from "../src/crypto/keys";
import { open } from "../src/crypto/open";
import { type Case, RECIPIENT_SEED, cases } from "./strict";

const file = new URL("../../../ensync-core/tests/vectors/strict.json", import.meta.url);
if (process.env.ENSYNC_WRITE) writeFileSync(file, `${JSON.stringify({ recipient_seed_base64: toBase64(RECIPIENT_SEED), cases: cases() }, null, 1)}\n`);
const kept: { recipient_seed_base64: string; cases: Case[] } = JSON.parse(readFileSync(file, "utf8"));

test("the file is what is made here", () => expect(kept.cases).toEqual(cases()));

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
