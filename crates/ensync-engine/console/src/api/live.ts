// What is counted, each second, over one connection. Says when that is cut off, and tries again.

import { useEffect, useState } from "preact/hooks";
import { type Sample, credentials, ended } from "./client";

export interface Live {
    now: Sample | undefined;
    /** Why what is shown may be old; `null` if it is not. */
    cut: string | null;
}

/** Without a sample for so long, in milliseconds, what is shown counts as old; without anything, the connection as lost. */
const [OLD, LOST, AGAIN] = [5_000, 20_000, 3_000];
const GONE = "The connection to the engine is cut off. What you see may be old; it comes back by itself.";
const SILENT = "The engine has not said for some seconds how it is. What you see may be old.";

/** Takes Server-Sent Events out of text, and returns what is not whole yet. */
export function events(text: string, take: (data: string) => void): string {
    const parts = text.split("\n\n");
    const rest = parts.pop() ?? "";
    for (const part of parts) {
        const data = part.split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6));
        if (data.length) take(data.join("\n"));
    }
    return rest;
}

export function useLive(): Live {
    const [live, set] = useState<Live>({ now: undefined, cut: null });
    useEffect(() => {
        let stop: AbortController | undefined;
        let again = 0;
        let old = 0;
        const cut = (why: string) => set((before) => ({ ...before, cut: why }));
        const follow = async () => {
            window.clearTimeout(again);
            if (document.hidden || stop) return;
            const own = new AbortController();
            stop = own;
            let lost = 0;
            const alive = () => {
                window.clearTimeout(lost);
                lost = window.setTimeout(() => own.abort(), LOST);
            };
            const sampled = () => {
                window.clearTimeout(old);
                old = window.setTimeout(() => cut(SILENT), OLD);
            };
            let why = GONE;
            try {
                alive();
                sampled();
                const response = await fetch("/console/api/v1/live", { headers: credentials(), credentials: "same-origin", redirect: "error", signal: own.signal });
                if (response.status === 401) ended();
                if (!response.ok || !response.body) {
                    if (response.status === 429) why = "As many pages follow this engine as may (16). Numbers come when another is closed.";
                    throw new Error(why);
                }
                const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
                let rest = "";
                for (let part = await reader.read(); !part.done; part = await reader.read()) {
                    alive();
                    rest = events(rest + part.value, (data) => {
                        sampled();
                        set({ now: JSON.parse(data) as Sample, cut: null });
                    });
                }
            } catch {
                // What matters is that it is over.
            }
            window.clearTimeout(lost);
            if (stop !== own) return;
            stop = undefined;
            window.clearTimeout(old);
            cut(why);
            again = window.setTimeout(() => void follow(), AGAIN);
        };
        const leave = () => {
            const own = stop;
            stop = undefined;
            own?.abort();
            window.clearTimeout(again);
            window.clearTimeout(old);
        };
        const look = () => {
            if (document.hidden) {
                leave();
                set({ now: undefined, cut: null });
            } else void follow();
        };
        void follow();
        document.addEventListener("visibilitychange", look);
        return () => {
            document.removeEventListener("visibilitychange", look);
            leave();
        };
    }, []);
    return live;
}
