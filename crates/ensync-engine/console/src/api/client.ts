// Asking the engine. Types are those of its OpenAPI document: see schema.ts, which is generated.

import { useCallback, useEffect, useState } from "preact/hooks";
import { secretInAddress } from "../crypto/secret";
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

/** Where this browser keeps its half of a session: only pages of this origin, port included, can read it. The other half is a cookie that
 * no page can read; the engine wants both. */
const PLACE = "ensync-console";
let here: string | null = null;

export function session(): string | null {
    try {
        return localStorage.getItem(PLACE);
    } catch {
        // A browser that keeps nothing: the session is this page's alone.
        return here;
    }
}

function keepSession(id: string | null): void {
    here = id;
    try {
        if (id === null) localStorage.removeItem(PLACE);
        else localStorage.setItem(PLACE, id);
    } catch {
        // See above.
    }
}

/** For how long a page that nobody touches counts as looked at. */
const ATTENDED = 60_000;
let touched = Date.now();
if (typeof window !== "undefined") {
    for (const what of ["pointerdown", "pointermove", "keydown", "wheel", "touchstart"]) {
        window.addEventListener(what, () => (touched = Date.now()), { capture: true, passive: true });
    }
}

/** What is sent with everything: the session, and whether nobody is there, so that what a page asks by itself does not prolong it. */
export function credentials(): Record<string, string> {
    const id = session();
    return { ...(id ? { "x-ensync-console": id } : {}), ...(Date.now() - touched > ATTENDED ? { "x-ensync-unattended": "1" } : {}) };
}

export const ended = (): void => loggedOut("Your session has ended. Log in again to go on.");

type Query = Record<string, string | number | boolean | undefined | null>;

export function path(parts: TemplateStringsArray, ...values: (string | number)[]): string {
    return parts.reduce((all, part, at) => all + encodeURIComponent(String(values[at - 1])) + part);
}

export function query(values: Query): string {
    const said = Object.entries(values).filter(([, value]) => value !== undefined && value !== null && value !== "");
    return said.length ? `?${new URLSearchParams(said.map(([name, value]) => [name, String(value)]))}` : "";
}

/** JSON as it was typed: the engine reads it, by its own rule. */
export class Raw {
    constructor(readonly text: string) {}
}

/** A body of members, of which some may be as they were typed. */
export const json = (members: Record<string, unknown>): string =>
    `{${Object.entries(members)
        .filter(([, value]) => value !== undefined)
        .map(([name, value]) => `${JSON.stringify(name)}:${value instanceof Raw ? value.text : JSON.stringify(value)}`)
        .join(",")}}`;

async function send<T>(method: string, where: string, body?: object): Promise<T> {
    // It would be in the log of whatever stands in between.
    const secret = secretInAddress(where);
    if (secret) throw new Refused(0, "secret", `This holds ${secret}, which does not belong here: nothing was sent.`);
    let response: Response;
    try {
        response = await fetch(where, {
            method,
            headers: { ...credentials(), ...(body === undefined ? {} : { "content-type": "application/json" }) },
            body: body === undefined ? undefined : json({ ...body }),
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
    if (response.status === 401 && !where.endsWith("/login")) ended();
    throw new Refused(response.status, String(error?.kind ?? ""), message);
}

const sentence = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");

const API = "/console/api";
export const get = <T,>(where: string): Promise<T> => send<T>("GET", API + where);
export const change = <T = void,>(method: "POST" | "PUT" | "PATCH" | "DELETE", where: string, body?: object): Promise<T> =>
    send<T>(method, API + where, body);

export async function logIn(token: string): Promise<"full" | "read"> {
    const { access, session } = await send<{ access: "full" | "read"; session: string }>("POST", "/console/login", { token });
    keepSession(session);
    return access;
}

/** Ends the session. In this browser it is over also if the engine could not be told, which throws. */
export async function logOut(): Promise<void> {
    try {
        await send<void>("POST", "/console/logout");
    } finally {
        keepSession(null);
    }
}

/** Whether it is not known what became of a change: there was no answer, or none that says. */
export const unsure = (error: unknown): boolean => error instanceof Refused && (error.status === 0 || error.status === 409 || error.status >= 500);

export interface Asked<T> {
    data: T | undefined;
    error: Refused | undefined;
    again: () => void;
}

/** Asks, and asks again every so many milliseconds while the page is seen, and when it is seen again. What was there stays until there is
 * something newer. */
export function useAsk<T>(where: string | null, every = 5_000): Asked<T> {
    const [state, set] = useState<{ where: string | null; data?: T; error?: Refused }>({ where });
    const [round, setRound] = useState(0);
    const again = useCallback(() => setRound((round) => round + 1), []);
    useEffect(() => {
        if (where === null) return;
        let timer = 0;
        let over = false;
        let first = true;
        const ask = async () => {
            window.clearTimeout(timer);
            // The first time also behind other pages: somebody opened it there to read it later.
            if (first || !document.hidden) {
                first = false;
                try {
                    const data = await get<T>(where);
                    if (!over) set({ where, data });
                } catch (error) {
                    if (!over) set((before) => ({ where, data: before.where === where ? before.data : undefined, error: error as Refused }));
                }
            }
            window.clearTimeout(timer);
            if (!over && every > 0) timer = window.setTimeout(ask, every);
        };
        const seen = () => {
            if (!document.hidden && every > 0) void ask();
        };
        void ask();
        document.addEventListener("visibilitychange", seen);
        return () => {
            over = true;
            window.clearTimeout(timer);
            document.removeEventListener("visibilitychange", seen);
        };
    }, [where, every, round]);
    const current = state.where === where;
    return { data: current ? state.data : undefined, error: current ? state.error : undefined, again };
}
