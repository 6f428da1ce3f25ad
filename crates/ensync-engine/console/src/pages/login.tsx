import { useState } from "preact/hooks";
import { logIn } from "../api/client";
import { secretIn } from "../crypto/secret";
import { Field, Notice } from "../ui/parts";

export function Login(props: { why: string | null; done: (access: "full" | "read") => void }) {
    const [token, setToken] = useState("");
    const [error, setError] = useState<string | null>(null);
    const [busy, setBusy] = useState(false);
    const submit = async (event: Event) => {
        event.preventDefault();
        setBusy(true);
        setError(null);
        const other = secretIn(token);
        if (other && other !== "an admin token") {
            setBusy(false);
            return setError(`This is or holds ${other}, not an admin token. It was not sent.`);
        }
        try {
            const access = await logIn(token.trim());
            setToken("");
            props.done(access);
        } catch (error) {
            setError((error as Error).message);
        } finally {
            setBusy(false);
        }
    };
    return (
        <main class="login">
            <form onSubmit={(event) => void submit(event)} class="card">
                <p class="brand">
                    <img src="/console/icon.svg" alt="" width="28" height="28" /> EnSync console
                </p>
                <h1>Log in</h1>
                {props.why && !error && <Notice kind="info">{props.why}</Notice>}
                {error && <Notice kind="bad">{error}</Notice>}
                <Field
                    secret
                    label="Admin token"
                    type="password"
                    value={token}
                    required
                    autoFocus
                    onInput={(event) => setToken(event.currentTarget.value)}
                    hint={
                        <>
                            The engine keeps it in its data directory, in the file <code>admin.token</code>; one without a data directory, such as{" "}
                            <code>ensync serve --dev</code>, printed it when it started. The one in <code>admin-read.token</code> lets you look and change nothing.
                        </>
                    }
                />
                <button class="primary" disabled={busy || !token.trim()}>
                    {busy ? "Logging in…" : "Log in"}
                </button>
            </form>
        </main>
    );
}
