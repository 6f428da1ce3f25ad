// Keys that are seen once. They are shown above everything else, a login included, until somebody puts them away: nobody could show them
// again.

import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { go } from "./route";
import { Act, Copy, Field, Key, Notice, Page } from "./ui/parts";

/** The variable of a program's environment, what it is, and its value. */
export type Line = [string, string, string];

export interface Kept {
    title: string;
    /** What the file is called. */
    name: string;
    lines: Line[];
    about: ComponentChildren;
    /** Whether more belongs to them, which comes in a next step: one file of half of them is one too many. */
    partial?: boolean;
    /** What is done when they are kept, and not before, with the name for them. It says what is shown then. */
    next?: { yes: string; act: (name: string) => Promise<void> };
    /** Whether the name was refused, so that another may be given. */
    rename?: boolean;
    /** Whether they hold by now, so that it is told how they are used. */
    use?: boolean;
    /** How they are put away, and what is shown then. */
    leave: { label: string; where: string };
}

let kept: Kept | null = null;
let tell: (kept: Kept | null) => void = () => {};

/** Shows keys, or puts them away. */
export function keep(keys: Kept | null): void {
    kept = keys;
    tell(keys);
}

export function useKept(): Kept | null {
    const [state, set] = useState(kept);
    useEffect(() => {
        tell = set;
        set(kept);
    }, []);
    useEffect(() => {
        if (!state) return;
        const ask = (event: BeforeUnloadEvent) => event.preventDefault();
        window.addEventListener("beforeunload", ask);
        return () => window.removeEventListener("beforeunload", ask);
    }, [state !== null]);
    return state;
}

export function Keep({ of }: { of: Kept }) {
    const file = of.lines.map(([variable, , value]) => `${variable}=${value}\n`).join("");
    const next: (name: string) => Promise<void> = of.next?.act ?? (async () => {});
    const called = `${of.name.replace(/[^A-Za-z0-9._-]+/g, "-").replace(/^-+/, "") || "app"}.env`;
    const download = () => {
        const link = document.createElement("a");
        link.href = URL.createObjectURL(new Blob([file], { type: "text/plain" }));
        link.download = called;
        link.click();
        window.setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    };
    const [name, setName] = useState(of.name);
    return (
        <div class="keep">
            <Page title={of.title}>
                <section class="section secrets" aria-label="Keys">
                    <Notice kind="warn">{of.about}</Notice>
                    {of.lines.map(([variable, label, value]) => (
                        <div class="secret">
                            <span class="secret-label">{label}</span>
                            <Key value={value} copy />
                            <span class="hint">{variable}</span>
                        </div>
                    ))}
                    {of.rename && <Field label="Name" value={name} required maxLength={256} onInput={(event) => setName(event.currentTarget.value)} hint="The keys above hold with any." />}
                    <div class="actions">
                        {!of.partial && (
                            <button type="button" class={of.next ? undefined : "primary"} onClick={download}>
                                Download as a file
                            </button>
                        )}
                        <Copy text={file} label="Copy all" />
                        {of.next && (
                            <Act kind="primary" disabled={!name.trim()} act={() => next(of.rename ? name.trim() : of.name)}>
                                {of.next.yes}
                            </Act>
                        )}
                        <button
                            type="button"
                            onClick={() => {
                                keep(null);
                                go(of.leave.where);
                            }}
                        >
                            {of.leave.label}
                        </button>
                    </div>
                    {of.use && <Use file={called} />}
                </section>
            </Page>
        </div>
    );
}

/** What one types to use a file of keys. */
function Use({ file }: { file: string }) {
    const lines = [
        `chmod 600 ${file}`,
        `set -a; . ./${file}; set +a`,
        `export ENSYNC_URL=${location.protocol === "https:" ? "grpcs" : "grpc"}://${location.hostname}`,
        "ensync subscribe shop/orders/created",
        "ensync publish shop/orders/created '{\"order\":7}' --to \"$ENSYNC_APP_ID\"",
    ];
    return (
        <div class="use">
            <p class="hint">In a shell, beside the file that you downloaded: the fourth line reads until Ctrl-C, and the fifth, in a terminal of its own after the second and the third, sends an event to this app itself. The third says where the engine is: its port too, if that is not 50051.</p>
            <pre>{lines.join("\n")}</pre>
        </div>
    );
}
