// Where one is: the part of the address behind "#". Everything has an address that can be shared and loaded again.

import { useEffect, useState } from "preact/hooks";
import { secretInAddress } from "./crypto/secret";

export interface Route {
    parts: string[];
    query: URLSearchParams;
}

export function read(hash: string): Route {
    const [where = "", rest = ""] = hash.replace(/^#\/?/, "").split("?");
    const parts = where.split("/").filter(Boolean).map((part) => {
        try {
            return decodeURIComponent(part);
        } catch {
            return part;
        }
    });
    return { parts, query: new URLSearchParams(rest) };
}

export function useRoute(): Route {
    const [route, set] = useState(() => read(location.hash));
    useEffect(() => {
        const moved = () => {
            set(read(location.hash));
            window.scrollTo(0, 0);
        };
        window.addEventListener("hashchange", moved);
        return () => window.removeEventListener("hashchange", moved);
    }, []);
    return route;
}

export function to(...parts: string[]): string {
    return `#/${parts.map(encodeURIComponent).join("/")}`;
}

/** Goes there, unless there is a secret in it, which the browser would keep: the field in which it was typed says so. */
export function go(where: string): void {
    if (!secretInAddress(where)) location.hash = where;
}

/** The same place, with other words behind "?"; those that are empty are left out. */
export function within(route: Route, words: Record<string, string>): string {
    const query = new URLSearchParams(route.query);
    for (const [name, value] of Object.entries(words)) {
        if (value) query.set(name, value);
        else query.delete(name);
    }
    const text = query.toString();
    return to(...route.parts) + (text ? `?${text}` : "");
}
