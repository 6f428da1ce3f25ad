// Keys of apps, made and changed. A secret key is made here, so it is shown and kept first, and only then is its public half sent:
// whatever becomes of the answer, nobody publishes to a key that nobody has.

import { type App, type Issued, type May, Refused, change, get, path, unsure } from "../api/client";
import { newKeyPair, publicKeyText, secretKeyText } from "../crypto/keys";
import { type Kept, type Line, keep } from "../keep";
import { to } from "../route";

/** The app that a key leads to; `null` if there is none. */
async function found(key: string): Promise<App | null> {
    try {
        return await get<App>(path`/v1/apps/${key}`);
    } catch (error) {
        if (error instanceof Refused && error.status === 404) return null;
        throw new Error("The engine did not say whether it was done. The keys stay here: try again.");
    }
}

const done = (title: string, name: string, lines: Line[], key: string): void =>
    keep({
        title,
        name,
        lines,
        about: (
            <p>
                <b>It is done. Keep these.</b> This is the only time they are shown.
            </p>
        ),
        use: true,
        leave: { label: "I have kept them: show the app", where: to("apps", key) },
    });

export function makeApp(name: string, rights: May, same_name: boolean): void {
    const pair = newKeyPair();
    const key = publicKeyText(pair);
    const lines: Line[] = [
        ["ENSYNC_APP_ID", "App id: what others publish to", key],
        ["ENSYNC_SECRET_KEY", "Secret key: opens what was sealed for it", secretKeyText(pair)],
    ];
    const issued = (name: string, appKey: string) => done(`${name} is there`, name, [["ENSYNC_APP_KEY", "App key: what it logs in with", appKey], ...lines], key);
    const create = async (name: string) => {
        try {
            issued(name, (await change<Issued>("POST", "/v1/apps", { name, public_key: key, rights, same_name })).access_key);
        } catch (error) {
            if (!unsure(error) || !(await found(key))) {
                // Of the name, as far as this page can tell: the keys are as good with another.
                if (error instanceof Refused && (error.status === 409 || error.status === 422)) keep({ ...kept, rename: true });
                throw error;
            }
            keep({
                title: `${name} is there, without its app key`,
                name,
                lines,
                about: <p>The engine made the app, and its answer was lost. These keys hold; nobody has seen its app key, so it needs another.</p>,
                partial: true,
                next: { yes: "Make an app key", act: async () => issued(name, (await change<Issued>("POST", path`/v1/apps/${key}/access-key`, { grace_ms: 0 })).access_key) },
                leave: { label: "Show the app", where: to("apps", key) },
            });
        }
    };
    const kept: Kept = {
        title: `Keys of ${name}`,
        name,
        lines,
        about: (
            <p>
                <b>Copy these now.</b> They were made in this browser; the engine has not heard of the app yet, and never sees its secret key. They are not whole yet: the app key
                comes in the next step, and then all of it as a file.
            </p>
        ),
        partial: true,
        next: { yes: "I have kept them: create the app", act: create },
        leave: { label: "Create no app", where: to("new-app") },
    };
    keep(kept);
}

export function rotatePair(app: App): void {
    const pair = newKeyPair();
    const key = publicKeyText(pair);
    const lines: Line[] = [
        ["ENSYNC_APP_ID", "App id: what others publish to from now on", key],
        ["ENSYNC_SECRET_KEY", "Secret key: keep the earlier ones too, for what was sealed for them", secretKeyText(pair)],
    ];
    const rotate = async () => {
        try {
            await change<App>("POST", path`/v1/apps/${app.id}/key-pair`, { public_key: key });
        } catch (error) {
            if (!unsure(error) || (await found(app.id))?.public_key !== key) throw error;
        }
        done(`${app.name} has another key pair`, app.name, lines, app.id);
    };
    keep({
        title: `New key pair of ${app.name}`,
        name: app.name,
        lines,
        about: (
            <p>
                <b>Keep these now.</b> This is the only time they are shown. They were made in this browser, and nothing has changed yet: the app has its former pair.
            </p>
        ),
        next: { yes: `I have kept them: give ${app.name} this pair`, act: rotate },
        leave: { label: "Leave it as it is", where: to("apps", app.id) },
    });
}

export async function rotateAccessKey(app: App, grace: number): Promise<void> {
    let issued: Issued;
    try {
        issued = await change<Issued>("POST", path`/v1/apps/${app.id}/access-key`, { grace_ms: grace });
    } catch (error) {
        if (!unsure(error)) throw error;
        throw new Error("The engine did not say whether it made a key. If this page says below that the key before goes on, it did, and nobody has seen the new one: make another.");
    }
    done(`New app key of ${app.name}`, app.name, [["ENSYNC_APP_KEY", "App key: what it logs in with", issued.access_key]], app.id);
}
