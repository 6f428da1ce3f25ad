// JSON as the SDKs read it: no name twice in an object, no half of a surrogate pair, no number that a double does not reach, at most
// 127 levels. A member's value is kept as it stands there, so that a number is its digits.

export type Members = Map<string, string>;

const SPACE = /[ \t\n\r]*/y;
const STRING = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
const SCALAR = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null/y;
const DEEPEST = 127;
const HALF = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/;

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
        const raw = take(STRING);
        const value = raw === null ? null : (JSON.parse(raw) as string);
        return value === null || HALF.test(value) ? null : value;
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
