// Asking the engine. Types are those of its OpenAPI document: see schema.ts, which is generated.

import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import type { components } from "./schema";

type Schemas = components["schemas"];
export type App = Schemas["App"];
export type Info = Schemas["Info"];
export type Letter = Schemas["Letter"];
export type EventName = Schemas["Event"];
export type EventDetails = Schemas["EventDetails"];
export type Queue = Schemas["Queue"];
export type Sample = Schemas["Sample"];
export type Session = Schemas["Session"];
export type SessionDetails = Schemas["SessionDetails"];
export type Standings = Schemas["Standings"];
export type May = Schemas["May"];
export type Issued = Schemas["Issued"];
export type LastHour = Schemas["LastHour"];

/** A refusal, in the engine's words; or why there was no answer. */
export class Refused extends Error {
    constructor(
        readonly status: number,
        readonly kind: string,
        message: string,
    ) {
        super(message);
    }
}

let loggedOut: (why: string) => void = () => {};

/** Whom to tell when the session has ended. */
export function onLoggedOut(tell: (why: string) => void): void {
    loggedOut = tell;
}

type Query = Record<string, string | number | boolean | undefined | null>;

export function path(parts: TemplateStringsArray, ...values: (string | number)[]): string {
    return parts.reduce((all, part, at) => all + encodeURIComponent(String(values[at - 1])) + part);
}

export function query(values: Query): string {
    const said = Object.entries(values).filter(([, value]) => value !== undefined && value !== null && value !== "");
    return said.length ? `?${new URLSearchParams(said.map(([name, value]) => [name, String(value)]))}` : "";
}

async function send<T>(method: string, where: string, body?: unknown): Promise<T> {
    let response: Response;
    try {
        response = await fetch(where, {
            method,
            headers: { "x-ensync-console": "1", ...(body === undefined ? {} : { "content-type": "application/json" }) },
            body: body === undefined ? undefined : JSON.stringify(body),
            credentials: "same-origin",
            redirect: "error",
        });
    } catch {
        throw new Refused(0, "unreachable", "The engine does not answer. It may be stopped, or the network between may be down; this page tries again.");
    }
    if (response.status === 204) return undefined as T;
    const answer = await response.json().catch(() => null);
    if (response.ok && answer !== null) return answer as T;
    const error = answer?.error;
    const message = typeof error?.message === "string" ? sentence(error.message) : `The engine answered with status ${response.status}.`;
    if (response.status === 401 && !where.endsWith("/login")) loggedOut("Your session has ended. Log in again to go on.");
    throw new Refused(response.status, String(error?.kind ?? ""), message);
}

const sentence = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");

const API = "/console/api";
export const get = <T,>(where: string): Promise<T> => send<T>("GET", API + where);
export const change = <T = void,>(method: "POST" | "PUT" | "PATCH" | "DELETE", where: string, body?: unknown): Promise<T> =>
    send<T>(method, API + where, body);
export const logIn = (token: string) => send<{ access: "full" | "read" }>("POST", "/console/login", { token });
export const logOut = () => send<void>("POST", "/console/logout");

export interface Asked<T> {
    data: T | undefined;
    error: Refused | undefined;
    again: () => void;
}

/** Asks, and asks again every so many milliseconds while the page is seen. What was there stays until there is something newer. */
export function useAsk<T>(where: string | null, every = 5_000): Asked<T> {
    const [state, set] = useState<{ where: string | null; data?: T; error?: Refused }>({ where });
    const [round, setRound] = useState(0);
    const again = useCallback(() => setRound((round) => round + 1), []);
    const latest = useRef(where);
    latest.current = where;
    useEffect(() => {
        if (where === null) return;
        let timer = 0;
        let over = false;
        const ask = async () => {
            if (!document.hidden) {
                try {
                    const data = await get<T>(where);
                    if (!over) set({ where, data });
                } catch (error) {
                    if (!over) set((before) => ({ where, data: before.where === where ? before.data : undefined, error: error as Refused }));
                }
            }
            if (!over && every > 0) timer = window.setTimeout(ask, every);
        };
        void ask();
        return () => {
            over = true;
            window.clearTimeout(timer);
        };
    }, [where, every, round]);
    const current = state.where === where;
    return { data: current ? state.data : undefined, error: current ? state.error : undefined, again };
}
