// What pages are made of.

import type { ComponentChildren, JSX } from "preact";
import { createContext } from "preact";
import { useContext, useEffect, useId, useRef, useState } from "preact/hooks";
import type { Refused } from "../api/client";
import { secretIn } from "../crypto/secret";
import { ago, short, when } from "./format";

/** What whoever is logged in may do. */
export const Access = createContext<"full" | "read">("full");

/** What is there for those who may change something only. */
export function IfFull(props: { children: ComponentChildren }) {
    return useContext(Access) === "full" ? <>{props.children}</> : null;
}

/** Whether there was a page before: the first one gets the focus of the browser's own accord. */
let moved = false;

export function Page(props: { title: string; lead?: ComponentChildren; actions?: ComponentChildren; back?: [string, string]; children: ComponentChildren }) {
    const heading = useRef<HTMLHeadingElement>(null);
    useEffect(() => {
        document.title = `${props.title} · EnSync console`;
    }, [props.title]);
    // Whoever does not see that the page is another hears it, and goes on from its beginning. Not where a field has the focus already.
    useEffect(() => {
        if (moved && !document.querySelector("main")?.contains(document.activeElement)) heading.current?.focus({ preventScroll: true });
        moved = true;
    }, []);
    return (
        <div class="page">
            {props.back && (
                <p class="back">
                    <a href={props.back[1]}>← {props.back[0]}</a>
                </p>
            )}
            <header class="page-head">
                <div>
                    <h1 ref={heading} tabIndex={-1}>
                        {props.title}
                    </h1>
                    {props.lead && <p class="lead">{props.lead}</p>}
                </div>
                {props.actions && <div class="actions">{props.actions}</div>}
            </header>
            {props.children}
        </div>
    );
}

export function Section(props: { title: string; about?: ComponentChildren; actions?: ComponentChildren; children: ComponentChildren }) {
    const id = useId();
    return (
        <section class="section" aria-labelledby={id}>
            <div class="section-head">
                <div>
                    <h2 id={id}>{props.title}</h2>
                    {props.about && <p class="hint">{props.about}</p>}
                </div>
                {props.actions && <div class="actions">{props.actions}</div>}
            </div>
            {props.children}
        </section>
    );
}

export function Notice(props: { kind: "good" | "warn" | "bad" | "info"; children: ComponentChildren; again?: () => void }) {
    return (
        <div class={`notice ${props.kind}`} role={props.kind === "bad" ? "alert" : "status"}>
            <div>{props.children}</div>
            {props.again && (
                <button type="button" class="small" onClick={props.again}>
                    Try again
                </button>
            )}
        </div>
    );
}

/** What was asked for: what is there, or why it is not. What is shown beside an error is what was so before. */
export function Shown<T>(props: { asked: { data: T | undefined; error: Refused | undefined; again: () => void }; children: (data: T) => ComponentChildren }) {
    const { data, error, again } = props.asked;
    return (
        <>
            {error && (
                <Notice kind="bad" again={[400, 403, 404, 422].includes(error.status) ? undefined : again}>
                    {error.message}
                </Notice>
            )}
            {data !== undefined ? props.children(data) : !error && <p class="loading">Loading…</p>}
        </>
    );
}

export function Empty(props: { title: string; children?: ComponentChildren }) {
    return (
        <div class="empty">
            <p class="empty-title">{props.title}</p>
            {props.children && <div class="hint">{props.children}</div>}
        </div>
    );
}

/** A page of a list behind its last entry. */
export const NoMore = (props: { first: string }) => (
    <Empty title="There are no more.">
        <a href={props.first}>Go to the first page</a>
    </Empty>
);

export interface Column<T> {
    head: string;
    /** In the place of the heading's words. */
    headed?: ComponentChildren;
    of: (row: T) => ComponentChildren;
    number?: boolean;
    /** The first thing that one reads of a row. */
    main?: boolean;
    /** Words that need the whole width where there is little room. */
    wide?: boolean;
}

/** A table; where there is little room each row is a card. */
export function Table<T>(props: { label: string; columns: Column<T>[]; rows: T[]; keyOf: (row: T) => string }) {
    return (
        <div class="table-wrap">
            <table aria-label={props.label}>
                <thead>
                    <tr>
                        {props.columns.map((column) => (
                            <th scope="col" class={column.number ? "number" : undefined}>
                                {column.headed ?? (column.head || <span class="unseen">Choose</span>)}
                            </th>
                        ))}
                    </tr>
                </thead>
                <tbody>
                    {props.rows.map((row) => (
                        <tr key={props.keyOf(row)}>
                            {props.columns.map((column) => (
                                <td data-label={column.head} class={[column.number && "number", column.main && "main", column.wide && "wide"].filter(Boolean).join(" ") || undefined}>
                                    {column.of(row)}
                                </td>
                            ))}
                        </tr>
                    ))}
                </tbody>
            </table>
        </div>
    );
}

export function Pager(props: { first: string | null; next: string | null; shown: number; what: string }) {
    if (!props.first && !props.next) return <p class="hint pager">{props.what}</p>;
    return (
        <nav class="pager" aria-label="Pages">
            <span class="hint">{props.what}</span>
            <span class="actions">
                {props.first && (
                    <a class="button small" href={props.first}>
                        First page
                    </a>
                )}
                {props.next && (
                    <a class="button small" href={props.next}>
                        Next page
                    </a>
                )}
            </span>
        </nav>
    );
}

type InputProps = Omit<JSX.HTMLAttributes<HTMLInputElement> & JSX.InputHTMLAttributes<HTMLInputElement>, "label">;

/** `secret`: a key or a token belongs here, and goes nowhere else. */
export function Field(props: { label: string; hint?: ComponentChildren; error?: string | null; secret?: boolean } & InputProps) {
    const { label, hint, error: wrong, secret, ...input } = props;
    const typed = secret ? null : secretIn(String(input.value ?? ""));
    const error = typed ? `This holds ${typed}, which does not belong here. Nothing is done with it.` : wrong;
    const id = useId();
    const told = [hint && `${id}-hint`, error && `${id}-error`].filter(Boolean).join(" ");
    return (
        <div class="field">
            <label for={id}>{label}</label>
            <input id={id} autocomplete="off" spellcheck={false} aria-describedby={told || undefined} aria-invalid={error ? true : undefined} {...input} />
            {hint && (
                <p class="hint" id={`${id}-hint`}>
                    {hint}
                </p>
            )}
            {error && (
                <p class="field-error" id={`${id}-error`} role="alert">
                    {error}
                </p>
            )}
        </div>
    );
}

export function Area(props: { label: string; hint?: ComponentChildren; error?: string | null; value: string; rows?: number; onText: (text: string) => void }) {
    const id = useId();
    return (
        <div class="field">
            <label for={id}>{props.label}</label>
            <textarea
                id={id}
                rows={props.rows ?? 6}
                spellcheck={false}
                value={props.value}
                aria-describedby={`${id}-hint`}
                aria-invalid={props.error ? true : undefined}
                onInput={(event) => props.onText(event.currentTarget.value)}
            />
            <p class={props.error ? "field-error" : "hint"} id={`${id}-hint`} aria-live="polite">
                {props.error ?? props.hint}
            </p>
        </div>
    );
}

export function Select(props: { label: string; value: string; options: [string, string][]; onValue: (value: string) => void }) {
    const id = useId();
    return (
        <div class="field">
            <label for={id}>{props.label}</label>
            <select id={id} value={props.value} onChange={(event) => props.onValue(event.currentTarget.value)}>
                {props.options.map(([value, label]) => (
                    <option value={value}>{label}</option>
                ))}
            </select>
        </div>
    );
}

export function Check(props: { label: string; checked: boolean; onCheck: (checked: boolean) => void; hint?: string; disabled?: boolean }) {
    return (
        <label class="check">
            <input type="checkbox" checked={props.checked} disabled={props.disabled} onChange={(event) => props.onCheck(event.currentTarget.checked)} />
            <span>
                {props.label}
                {props.hint && <span class="hint"> {props.hint}</span>}
            </span>
        </label>
    );
}

/** A change: a button that is not there for whoever may only look. With `confirm` it asks first, and says what it will do. With `submit`
 * it is what Enter does in its form. */
export function Act(props: {
    children: ComponentChildren;
    act: () => Promise<unknown>;
    confirm?: { title: string; body: ComponentChildren; yes: string };
    kind?: "primary" | "danger";
    small?: boolean;
    disabled?: boolean;
    submit?: boolean;
}) {
    const access = useContext(Access);
    const button = useRef<HTMLButtonElement>(null);
    const press = useRef(() => {});
    useEffect(() => {
        const form = props.submit ? button.current?.form : null;
        if (!form) return;
        const submitted = (event: Event) => {
            event.preventDefault();
            press.current();
        };
        form.addEventListener("submit", submitted);
        return () => form.removeEventListener("submit", submitted);
    }, [props.submit, access]);
    const dialog = useRef<HTMLDialogElement>(null);
    const [busy, setBusy] = useState(false);
    const working = useRef(false);
    const [asking, setAsking] = useState(false);
    const [error, setError] = useState<string | null>(null);
    const id = useId();
    if (access === "read") return null;
    const run = async () => {
        setBusy(true);
        working.current = true;
        setError(null);
        let wrong: string | null = null;
        try {
            await props.act();
        } catch (error) {
            wrong = (error as Error).message;
        }
        working.current = false;
        setBusy(false);
        setError(wrong);
        if (wrong === null) dialog.current?.close();
    };
    const ask = () => {
        setAsking(true);
        dialog.current?.showModal();
    };
    const look = [props.kind, props.small && "small"].filter(Boolean).join(" ");
    press.current = () => {
        if (!busy && !props.disabled) props.confirm ? ask() : void run();
    };
    return (
        <>
            <button
                ref={button}
                type={props.submit ? "submit" : "button"}
                class={look || undefined}
                disabled={busy || props.disabled}
                onClick={props.submit ? undefined : () => press.current()}
            >
                {props.children}
            </button>
            {props.confirm ? (
                <dialog
                    ref={dialog}
                    aria-labelledby={id}
                    onCancel={(event) => {
                        if (working.current) event.preventDefault();
                    }}
                    onClose={() => {
                        // While it works it stays, for what comes of it is told here; browsers close it at the second Escape.
                        if (working.current) dialog.current?.showModal();
                        else {
                            setError(null);
                            setAsking(false);
                        }
                    }}
                >
                    <h2 id={id}>{props.confirm.title}</h2>
                    <div class="dialog-body">{asking && props.confirm.body}</div>
                    {error && <Notice kind="bad">{error}</Notice>}
                    <div class="actions end">
                        <button type="button" disabled={busy} onClick={() => dialog.current?.close()}>
                            Cancel
                        </button>
                        <button type="button" class={props.kind ?? "primary"} disabled={busy} onClick={() => void run()}>
                            {busy ? "Working…" : props.confirm.yes}
                        </button>
                    </div>
                </dialog>
            ) : (
                error && <Notice kind="bad">{error}</Notice>
            )}
        </>
    );
}

export function Copy(props: { text: string; label?: string }) {
    const [done, set] = useState<"" | "yes" | "no">("");
    const copy = async () => {
        try {
            await navigator.clipboard.writeText(props.text);
            set("yes");
        } catch {
            // Without TLS, and not on this machine, browsers give no clipboard.
            set("no");
        }
        window.setTimeout(() => set(""), 2_000);
    };
    return (
        <button type="button" class="small" onClick={() => void copy()} aria-live="polite">
            {done === "yes" ? "Copied" : done === "no" ? "Select it and copy" : (props.label ?? "Copy")}
        </button>
    );
}

/** A key: whole where there is room for it. */
export function Key(props: { value: string; copy?: boolean }) {
    return (
        <span class="key">
            <code title={props.value}>{props.value}</code>
            {props.copy && <Copy text={props.value} />}
        </span>
    );
}

export const ShortKey = (props: { value: string }) => <code title={props.value}>{short(props.value)}</code>;

export function Time(props: { at: number }) {
    return (
        <time dateTime={new Date(props.at).toISOString()} title={when(props.at)}>
            {ago(props.at)}
        </time>
    );
}

export function Facts(props: { of: [string, ComponentChildren][] }) {
    return (
        <dl class="facts">
            {props.of.map(([name, value]) => (
                <div>
                    <dt>{name}</dt>
                    <dd>{value ?? "–"}</dd>
                </div>
            ))}
        </dl>
    );
}

export function Tag(props: { kind?: "good" | "warn" | "bad" | "info"; children: ComponentChildren }) {
    return <span class={`tag ${props.kind ?? ""}`}>{props.children}</span>;
}

const STATES: Record<string, ["good" | "warn" | "bad" | "info" | undefined, string]> = {
    ready: ["info", "Ready"],
    in_flight: ["info", "With a client"],
    deferred: ["warn", "Deferred"],
    dead: ["bad", "Dead letter"],
    acked: ["good", "Acknowledged"],
    expired: ["warn", "Expired"],
    dropped: [undefined, "Dropped"],
    settled: [undefined, "Settled"],
};

export function State(props: { of: string }) {
    const [kind, label] = STATES[props.of] ?? [undefined, props.of];
    return <Tag kind={kind}>{label}</Tag>;
}
