// What is said of a schema while it is typed: by the rule of the engine, and without repeating a key.

import { expect, test } from "vitest";
import { secretIn, secretInAddress } from "../src/crypto/secret";
import { newKeyPair, readSecretKey, secretKeyText } from "../src/crypto/keys";
import { wrongName } from "../src/pages/apps";
import { checkSchema } from "../src/pages/names";

const KEY = "ensync_key_q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA";

test("a schema is read by the one rule, and what is wrong has its place", () => {
    for (const [text, part] of [
        ['{"f":"integer","f":"string"}', 'names "f" twice, line 1, column 16'],
        ['{"f":"integer",\n "\\u0066":"string"}', 'names "f" twice, line 2, column 2'],
        ['{"f":"intege', "This is not JSON yet: it cannot be read on line 1, column 6"],
        ['{"f":"\\ud800"}', "This is not JSON yet"],
        ['{"f":1e400}', "This is not JSON yet"],
        ["[]", "A schema is an object"],
        ['"x"', "A schema is an object"],
        ['{"f":"text"}', 'The type of "f" is "text"'],
        ['{"f":{"a":"string"}}', "The type of"],
        ['{"f":7}', 'The type of "f" is "7"'],
    ] as const) {
        expect(checkSchema(text).error, text).toContain(part);
        expect(checkSchema(text).schema, text).toBeNull();
    }
    for (const [text, fields] of [["", null], [" ", null], ["{}", []], ['{"f":"Integer","__proto__":"string"}', ["f", "__proto__"]]] as const) {
        const { error, schema } = checkSchema(text);
        expect(error, text).toBeNull();
        expect(schema && Object.keys(schema), text).toEqual(fields);
    }
});

test("what is said of a schema repeats no key", () => {
    const secret = secretKeyText(newKeyPair());
    for (const held of [KEY, secret]) {
        for (const text of [held, `{"f":${held}}`, `{"${held}":1}`, `{"f":"${held}"}`, `{"${held}":"string","${held}":"string"}`]) {
            const said = checkSchema(text).error;
            expect(said, text).not.toBeNull();
            expect(said, text).not.toContain(held.slice(14, 24));
        }
    }
});

test("a secret is known in each writing, and what is none is not", () => {
    for (let n = 0; n < 8; n += 1) {
        const secret = secretKeyText(newKeyPair());
        for (const text of [secret, `k=${secret};`, `x/${secret}`, secret.replace(/=+$/, ""), secret.replaceAll("/", "\\/"), secret.replaceAll("+", "-").replaceAll("/", "_"), `${secret.slice(0, 40)}\n ${secret.slice(40)}`, encodeURIComponent(secret)]) {
            expect(secretIn(text), text).toBe("a secret key");
        }
        expect(secretInAddress(`#/event/${encodeURIComponent(secret)}`)).toBe("a secret key");
        expect(secretInAddress(`#/apps?${new URLSearchParams({ search: secret })}`)).toBe("a secret key");
        expect(secretIn(secret.slice(0, 44))).toBeNull();
    }
    expect(secretIn(`a ${KEY}`)).toBe("an app key");
    expect(secretIn("-----BEGIN EC PRIVATE KEY-----")).toBe("a private key");
    for (const text of ["", "shop/orders", "audit/ensync_key_rotated", "oV/L7EPzFRvzczcM2MIA4AAPw5N54nmkn5VpSnQftN8=", "AgQw".repeat(63), "%zz%"]) expect(secretIn(text), text).toBeNull();
    expect(secretInAddress("#/event/%zz")).toBeNull();
});

test("a secret key is read from a whole line, and what else one has is called by its name", () => {
    const pair = newKeyPair();
    for (const line of [`ENSYNC_SECRET_KEY=${secretKeyText(pair)}`, ` export ENSYNC_SECRET_KEY="${secretKeyText(pair)}"\n`]) expect(readSecretKey(line).publicKey).toEqual(pair.publicKey);
    expect(() => readSecretKey(KEY)).toThrow("it is the app key");
    expect(() => readSecretKey(`ENSYNC_APP_KEY=${KEY}`)).toThrow("it is the app key");
});

test("a name is refused while it is typed", () => {
    for (const name of ["a\u202eb", "a\u200bb", "a\u3164b", "a\u00adb", "a\nb", "a\u2800b", "é".repeat(129), "oV/L7EPzFRvzczcM2MIA4AAPw5N54nmkn5VpSnQftN8="]) expect(wrongName(name), name).not.toBeNull();
    for (const name of ["", "shop", "Order service (north)", "zamówienia", "木", "x".repeat(256)]) expect(wrongName(name), name).toBeNull();
});
