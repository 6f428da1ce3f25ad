// JSON as the SDKs read it: no name twice in an object, no half of a surrogate pair, no number that a double does not reach, at most
// 127 levels. A member's value is kept as it stands there, so that a number is its digits.

export type Members = Map<string, string>;

const SPACE = /[ \t\n\r]*/y;
const SCALAR = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null/y;
const DEEPEST = 127;
const HALF = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/;

/** Where a text in quotes ends that begins at `at`: behind its closing mark, or -1 if it breaks the rule. No regular expression: one that
 * repeats a choice takes room on a stack for each character, and a payload has millions. */
function endOfString(text: string, at: number): number {
    for (let next = at + 1; next < text.length; next++) {
        const code = text.charCodeAt(next);
        if (code === 0x22) return next + 1;
        if (code < 0x20) return -1;
        if (code !== 0x5c) continue;
        const escape = text.charAt(++next);
        if (escape === "u") {
            if (!/^[0-9a-fA-F]{4}$/.test(text.slice(next + 1, next + 5))) return -1;
            next += 4;
        } else if (escape === "" || !'"\\/bfnrt'.includes(escape)) return -1;
    }
    return -1;
}

/** The members of the object that a text consists of; `null` if it is none, or breaks the rule. */
export const readMembers = (text: string): Members | null => readObject(text).members;

/** The same, and where it breaks the rule: the place, and the name that is there twice, if it is that. */
export function readObject(text: string): { members: Members | null; at: number; twice: string | null } {
    let at = 0;
    let top: Members | null = null;
    let twice: string | null = null;
    const take = (what: RegExp): string | null => {
        what.lastIndex = at;
        const found = what.exec(text);
        if (!found) return null;
        at = what.lastIndex;
        return found[0];
    };
    const space = () => void take(SPACE);
    const is = (character: string): boolean => text[at] === character && ++at > 0;
    const string = (): string | null => {
        const end = text[at] === '"' ? endOfString(text, at) : -1;
        if (end < 0) return null;
        const value = JSON.parse(text.slice(at, end)) as string;
        at = end;
        return HALF.test(value) ? null : value;
    };
    const value = (depth: number): boolean => {
        if (text[at] === '"') return string() !== null;
        if (is("{")) {
            if (depth === DEEPEST) return false;
            const members: Members = new Map();
            space();
            if (!is("}")) {
                do {
                    space();
                    const begun = at;
                    const name = string();
                    space();
                    if (name !== null && members.has(name)) {
                        twice = name;
                        at = begun;
                        return false;
                    }
                    if (name === null || !is(":")) return false;
                    space();
                    const begin = at;
                    if (!value(depth + 1)) return false;
                    members.set(name, text.slice(begin, at));
                    space();
                } while (is(","));
                if (!is("}")) return false;
            }
            if (depth === 0) top = members;
            return true;
        }
        if (is("[")) {
            if (depth === DEEPEST) return false;
            space();
            if (is("]")) return true;
            do {
                space();
                if (!value(depth + 1)) return false;
                space();
            } while (is(","));
            return is("]");
        }
        const scalar = take(SCALAR);
        return scalar !== null && (/^[tfn]/.test(scalar) || Number.isFinite(Number(scalar)));
    };
    space();
    const whole = value(0);
    if (whole) space();
    return { members: whole && at === text.length ? top : null, at, twice };
}

/** The text that a value is; `null` if it is none. */
export const asText = (value: string): string | null => (value.startsWith('"') ? (JSON.parse(value) as string) : null);
