// Numbers and times, as people read them.

const numbers = new Intl.NumberFormat("en");
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const count = (number: number): string => (number < 100_000 ? numbers.format(number) : compact.format(number));

export function plural(number: number, one: string, many = `${one}s`): string {
    return `${count(number)} ${number === 1 ? one : many}`;
}

export function bytes(number: number): string {
    const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let at = 0;
    while (number >= 1024 && at < units.length - 1) {
        number /= 1024;
        at += 1;
    }
    return `${at === 0 ? number : number.toFixed(number < 10 ? 1 : 0)} ${units[at]}`;
}

export function span(ms: number): string {
    if (ms < 1_000) return `${Math.round(ms)} ms`;
    const seconds = Math.floor(ms / 1_000);
    if (seconds < 60) return `${seconds} s`;
    if (seconds < 3_600) return `${Math.floor(seconds / 60)} min${seconds < 600 && seconds % 60 ? ` ${seconds % 60} s` : ""}`;
    if (seconds < 86_400) return `${Math.floor(seconds / 3_600)} h${seconds % 3_600 >= 60 ? ` ${Math.floor((seconds % 3_600) / 60)} min` : ""}`;
    return `${Math.floor(seconds / 86_400)} d${seconds % 86_400 >= 3_600 ? ` ${Math.floor((seconds % 86_400) / 3_600)} h` : ""}`;
}

export const micros = (us: number): string => (us < 1_000 ? `${us} µs` : `${(us / 1_000).toFixed(us < 10_000 ? 1 : 0)} ms`);

export const rate = (perSecond: number): string =>
    `${perSecond < 10 && perSecond % 1 ? perSecond.toFixed(1) : count(Math.round(perSecond))}/s`;

const moment = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
export const when = (ms: number): string => moment.format(ms);

export function ago(ms: number, now = Date.now()): string {
    const passed = now - ms;
    if (passed < 0) return `in ${span(-passed)}`;
    return passed < 1_000 ? "just now" : `${span(passed)} ago`;
}

/** A key, as short as it can be told by. */
export const short = (key: string): string => (key.length > 12 ? `${key.slice(0, 8)}…` : key);
