// What is counted, each second, over one connection. Says when that is cut off, and tries again.

import { useEffect, useState } from "preact/hooks";
import type { Sample } from "./client";

export interface Live {
    now: Sample | undefined;
    /** Whether there is no connection. */
    cut: boolean;
}

export function useLive(): Live {
    const [live, set] = useState<Live>({ now: undefined, cut: false });
    useEffect(() => {
        let source: EventSource | undefined;
        let timer = 0;
        const open = () => {
            window.clearTimeout(timer);
            if (document.hidden) return;
            source = new EventSource("/console/api/v1/live");
            source.onmessage = (message) => set({ now: JSON.parse(message.data) as Sample, cut: false });
            source.onerror = () => {
                source?.close();
                source = undefined;
                set((before) => ({ ...before, cut: true }));
                timer = window.setTimeout(open, 3_000);
            };
        };
        const look = () => {
            if (document.hidden) {
                source?.close();
                source = undefined;
            } else if (!source) open();
        };
        open();
        document.addEventListener("visibilitychange", look);
        return () => {
            document.removeEventListener("visibilitychange", look);
            window.clearTimeout(timer);
            source?.close();
        };
    }, []);
    return live;
}
