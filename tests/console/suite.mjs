// The console in a browser, against a real engine. Skips, and says why, where there is no browser; ENSYNC_BROWSER=required makes that a
// failure.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { createRequire } from "node:module";
import { Engine, Raw, logIn, missing, newContext, openBrowser } from "./engine.mjs";

const why = missing();
if (why) {
    console.log(`the console's suite was skipped: ${why}`);
    process.exit(process.env.ENSYNC_BROWSER === "required" ? 1 : 0);
}

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const HOSTILE = '<img src=x onerror="window.hurt=1"><script>window.hurt=1</script>';
let engine;
let browser;
const strangers = [];

before(async () => {
    engine = await Engine.start({ settings: ["limits.login_delay=1s"] });
    browser = await openBrowser();
});

after(async () => {
    await browser?.close();
    await engine?.remove();
});

/** A page of its own that watches what it asks, and whom. */
async function open(options = {}) {
    const context = await newContext(browser, { viewport: { width: 1280, height: 900 }, acceptDownloads: true, ...options });
    const page = await context.newPage();
    page.setDefaultTimeout(30_000);
    const faults = [];
    page.on("pageerror", (error) => faults.push(String(error)));
    page.on("console", (message) => message.type() === "error" && !/status of (400|401|403|404|409|422|429|503)|ERR_/.test(message.text()) && faults.push(message.text()));
    page.on("request", (request) => !request.url().startsWith(engine.admin) && !/^(blob|data):/.test(request.url()) && strangers.push(request.url()));
    page.faults = faults;
    return page;
}

async function closing(page) {
    assert.deepEqual(page.faults, []);
    assert.equal(await page.evaluate(() => window.hurt), undefined);
    await page.context().close();
}

const heading = (page, name) => page.getByRole("heading", { level: 1, name, exact: true }).waitFor();

test("nobody gets in without a token, and a right one is a session until it is ended", async () => {
    const page = await open();
    await page.goto(`${engine.console}#/apps`);
    await page.getByLabel("Admin token").fill("ensync_admin_wrong");
    await page.getByRole("button", { name: "Log in" }).click();
    await page.getByRole("alert").filter({ hasText: "not a token of this engine" }).waitFor();
    await page.getByLabel("Admin token").fill(engine.token);
    await page.getByRole("button", { name: "Log in" }).click();
    await heading(page, "Apps");
    await page.reload();
    await heading(page, "Apps");
    // Half of it is a cookie that no script reads, the other half is in the storage of this origin. Other pages of this origin are in, too.
    const cookies = (await page.context().cookies()).map(({ name, path, httpOnly, sameSite }) => [name, path, httpOnly, sameSite]);
    assert.deepEqual(cookies, [[`ensync-console-${new URL(engine.admin).port}`, "/console", true, "Strict"]]);
    const status = (headers, credentials) =>
        page.evaluate(async ([headers, credentials]) => (await fetch("/console/api/v1/apps", { headers, credentials })).status, [headers, credentials]);
    const key = await page.evaluate(() => localStorage.getItem("ensync-console"));
    const [none, half] = [{}, { "x-ensync-console": key }];
    assert.deepEqual([await status(half, "same-origin"), await status(none, "same-origin"), await status(half, "omit")], [200, 401, 401]);
    assert.deepEqual(await page.evaluate(() => [document.cookie, Object.keys(localStorage), sessionStorage.length]), ["", ["ensync-console"], 0]);
    assert.ok(!(await page.evaluate(() => JSON.stringify(localStorage))).includes(engine.token.slice(13)));
    const other = await page.context().newPage();
    await other.goto(`${engine.console}#/queues`);
    await heading(other, "Queues");
    await other.close();
    await page.getByRole("button", { name: "Log out" }).click();
    await page.getByText("You are logged out.").waitFor();
    assert.deepEqual(await page.context().cookies(), []);
    await page.reload();
    await page.getByLabel("Admin token").waitFor();
    await closing(page);
});

test("whoever guesses has to wait, and a right token is let in all the same", async () => {
    const page = await open();
    await page.goto(engine.console);
    for (let tries = 0; tries < 14; tries += 1) {
        await page.getByLabel("Admin token").fill(`wrong-${tries}`);
        const answered = page.waitForResponse("**/console/login");
        await page.getByRole("button", { name: "Log in" }).click();
        if ((await answered).status() === 429) break;
    }
    await page.getByRole("alert").filter({ hasText: /try again in [0-9]+ s/ }).waitFor();
    await logIn(page, engine);
    await closing(page);
});

test("a session that ended elsewhere is said so", async () => {
    const page = await open();
    await logIn(page, engine);
    await page.evaluate(() => localStorage.clear());
    await page.getByRole("link", { name: "Queues" }).click();
    await page.getByText("Your session has ended").waitFor();
    await closing(page);
});

test("a page is logged out of here also if the engine cannot be told, and says so", async () => {
    const page = await open();
    await logIn(page, engine);
    await page.route("**/console/logout", (route) => route.abort());
    await page.getByRole("button", { name: "Log out" }).click();
    await page.getByText("The engine could not be told").waitFor();
    await page.reload();
    await page.getByLabel("Admin token").waitFor();
    await closing(page);
});

test("an app and an event name are made in the browser, an SDK's program uses them, and the event is found and decrypted", async () => {
    const page = await open();
    await logIn(page, engine);
    await page.getByText("All is well").waitFor();
    await page.getByRole("link", { name: "Event names" }).click();
    await page.getByRole("link", { name: "New event name" }).click();
    await page.getByLabel("Name").fill("shop/orders");
    await page.getByLabel("Schema").fill('{"order": "strin');
    await page.getByText("This is not JSON yet").waitFor();
    await page.getByLabel("Schema").fill('{"order": "text"}');
    await page.getByText('The type of "order" is "text"').waitFor();
    await page.getByLabel("Schema").fill('{"order": "string"}');
    await page.getByText("a schema of 1 field").waitFor();
    await page.getByRole("button", { name: "Register" }).click();
    await heading(page, "shop/orders");

    await page.getByRole("link", { name: "Apps", exact: true }).click();
    await page.getByRole("link", { name: "New app" }).click();
    await page.getByLabel("Name").fill("warehouse");
    const asked = [];
    page.on("request", (request) => request.method() === "POST" && asked.push(request.url()));
    await page.getByRole("button", { name: "Make its keys" }).click();
    await heading(page, "Keys of warehouse");
    assert.deepEqual(asked, [], "the engine hears of an app when its keys are kept");
    assert.equal(await page.getByRole("button", { name: "Download as a file" }).count(), 0, "one file, and it is whole");
    const sent = page.waitForRequest((request) => request.method() === "POST" && request.url().endsWith("/v1/apps"));
    await page.getByRole("button", { name: "create the app" }).click();
    await heading(page, "warehouse is there");
    const downloading = page.waitForEvent("download");
    await page.getByRole("button", { name: "Download as a file" }).click();
    const download = await downloading;
    assert.equal(download.suggestedFilename(), "warehouse.env");
    const keys = Object.fromEntries(readFileSync(await download.path(), "utf8").trim().split("\n").map((line) => line.match(/^([^=]+)=(.*)$/).slice(1)));
    assert.ok(!(await sent).postData().includes(keys.ENSYNC_SECRET_KEY.slice(0, 20)), "the secret key never leaves the page");

    await page.getByRole("button", { name: "show the app" }).click();
    await heading(page, "warehouse");

    const [receipt] = (await engine.run(["publish", "shop/orders", '{"order":"o-17"}', "--to", keys.ENSYNC_APP_ID, "--header", "trace=t-1"], keys)).split("\t");
    await page.getByRole("link", { name: "Queues" }).click();
    await page.getByRole("link", { name: "shop/orders" }).click();
    await heading(page, "shop/orders");
    await page.getByRole("link", { name: receipt }).click();
    await page.getByText("Waits for a client that takes it").waitFor();
    await page.getByText('"trace": "t-1"').waitFor();
    const box = page.getByLabel("Secret key of warehouse");
    await box.fill(engine.token);
    await page.getByRole("button", { name: "Decrypt" }).click();
    await page.getByText("This is not a secret key").waitFor();
    await box.fill(keys.ENSYNC_SECRET_KEY);
    const bodies = [];
    page.on("request", (request) => bodies.push(request.url() + (request.postData() ?? "")));
    await page.getByRole("button", { name: "Decrypt" }).click();
    await page.getByLabel("Decrypted payload").filter({ hasText: '"order": "o-17"' }).waitFor();
    assert.ok(bodies.every((body) => !body.includes(keys.ENSYNC_SECRET_KEY.slice(0, 20)) && !body.includes(encodeURIComponent(keys.ENSYNC_SECRET_KEY).slice(0, 20))));
    assert.equal(await box.inputValue(), "");

    const read = await engine.run(["subscribe", "shop/orders", "--count", "1"], keys);
    assert.match(read, /o-17/);
    await page.getByText("Acknowledged by its recipient").waitFor();
    await closing(page);
});

test("hostile names, reasons and headers are text; a dead letter is queued again, and one is dropped", async () => {
    await engine.api("POST", "/v1/events", { name: "hostile/event" });
    const app = await engine.createApp(HOSTILE.slice(0, 200));
    const client = await Raw.connect(engine, app.accessKey);
    await client.subscribe("hostile/event");
    for (let count = 0; count < 3; count += 1) {
        await client.publish("hostile/event", app.publicKey, "b25l", JSON.stringify({ headers: { [HOSTILE]: HOSTILE } }));
        await client.discard(await client.next(), `${HOSTILE} number ${count}`);
    }
    const page = await open();
    await logIn(page, engine);
    await page.getByText("3 dead letters wait").waitFor();
    await page.getByRole("link", { name: /^Dead letters/ }).click();
    await page.getByText("number 0").waitFor();
    assert.equal(await page.locator("img").count(), 1, "the icon, and nothing of theirs");
    await page.getByLabel("Reason holds").fill("NUMBER 1");
    await page.getByRole("button", { name: "Filter" }).click();
    await page.getByText("1 dead letter on this page").waitFor();
    assert.match(page.url(), /reason=NUMBER\+1/);
    await page.reload();
    await page.getByText("1 dead letter on this page").waitFor();
    await page.getByRole("button", { name: "Requeue", exact: true }).click();
    await page.getByText("1 event is queued again.").waitFor();
    const again = await client.next();
    assert.equal(again.event_name ?? again.eventName ?? "hostile/event", "hostile/event");
    await page.getByRole("link", { name: "Show all dead letters" }).click();
    await page.getByText("2 dead letters on this page").waitFor();
    await page.getByRole("link", { name: "hostile/event" }).first().click();
    await page.getByText("Became a dead letter").waitFor();
    await page.goBack();
    await page.getByText("2 dead letters on this page").waitFor();
    for (const box of await page.getByRole("checkbox").all()) await box.check();
    await page.getByRole("button", { name: "Drop chosen…" }).click();
    await page.getByRole("dialog").getByText("gone for good").waitFor();
    await page.getByRole("button", { name: "Cancel" }).click();
    await page.getByText("2 dead letters on this page").waitFor();
    await page.getByRole("button", { name: "Drop chosen…" }).click();
    await page.getByRole("button", { name: "Drop for good" }).click();
    await page.getByText("There are no dead letters.").waitFor();

    await page.getByRole("link", { name: "Connections" }).click();
    await page.getByRole("table").getByRole("link").first().click();
    await page.getByRole("button", { name: "End…" }).click();
    await page.getByRole("button", { name: "End it" }).click();
    await heading(page, "Connections");
    await new Promise((closed) => (client.socket.readyState === 3 ? closed() : client.socket.once("close", closed)));
    await page.getByRole("link", { name: "Apps", exact: true }).click();
    await page.getByLabel("Name or id holds").fill("onerror");
    await page.getByRole("button", { name: "Filter" }).click();
    await page.getByText("1 app on this page").waitFor();
    await page.getByRole("table").getByRole("link").first().click();
    await page.getByRole("button", { name: "Delete…" }).click();
    await page.getByRole("button", { name: "Delete it for good" }).click();
    await heading(page, "Apps");
    await closing(page);
});

test("a queue is purged, and rights are taken and given", async () => {
    await engine.api("POST", "/v1/events", { name: "purge/me" });
    const app = await engine.createApp("purged");
    const client = await Raw.connect(engine, app.accessKey);
    for (let count = 0; count < 5; count += 1) await client.publish("purge/me", app.publicKey);
    const page = await open();
    await logIn(page, engine);
    await page.goto(`${engine.console}#/queues/${encodeURIComponent(app.publicKey)}/purge%2Fme`);
    await page.getByText("5 events on this page").waitFor();
    await page.getByRole("button", { name: "Purge…" }).click();
    await page.getByRole("button", { name: "Give them up" }).click();
    await page.getByText("5 events were given up.").waitFor();
    await page.getByText("Nothing waits in this queue.").waitFor();
    await page.goto(`${engine.console}#/apps/${encodeURIComponent(app.publicKey)}`);
    await page.getByText("may publish", { exact: true }).waitFor();
    await page.getByRole("button", { name: "Take…" }).first().click();
    await page.getByRole("button", { name: "Take it" }).click();
    await page.getByText("may not publish").waitFor();
    await assert.rejects(client.publish("purge/me", app.publicKey), /may not publish/);
    client.close();
    await closing(page);
});

test("whoever may only look has no button that changes something", async () => {
    const page = await open();
    await logIn(page, engine, engine.reader);
    await page.getByText("Looking only").waitFor();
    await page.getByRole("link", { name: "Apps", exact: true }).click();
    await page.getByRole("table").getByRole("link").first().click();
    await page.getByRole("heading", { name: "App key" }).waitFor();
    assert.equal(await page.getByRole("button", { name: /Rotate|Delete|Disable|Take/ }).count(), 0);
    assert.equal(await page.getByText(/Say what it may do|goes on for|Disable or delete/).count(), 0);
    for (const [where, title] of [["apps", "Apps"], ["names", "Event names"], ["letters", "Dead letters"]]) {
        await page.goto(`${engine.console}#/${where}`);
        await heading(page, title);
        await page.waitForFunction(() => !document.querySelector("main .loading"));
        assert.equal(await page.getByRole("link", { name: /^New / }).count() + (await page.getByRole("checkbox").count()), 0, where);
    }
    await closing(page);
});

test("Enter does in a form what its button does", async () => {
    const page = await open();
    await logIn(page, engine);
    await page.goto(`${engine.console}#/new-name`);
    await page.getByLabel("Name").fill("enter/pressed");
    await page.getByLabel("Name").press("Enter");
    await heading(page, "enter/pressed");
    await page.getByLabel("Deliveries at most").fill("5");
    await page.getByLabel("Deliveries at most").press("Enter");
    await page.getByText("Saved", { exact: true }).waitFor();
    assert.equal((await engine.api("GET", "/v1/events/enter%2Fpressed")).max_deliveries, 5);
    await page.goto(`${engine.console}#/new-app`);
    await page.getByLabel("Name").press("Enter");
    await page.getByLabel("Name").fill("entered");
    await page.getByLabel("Name").press("Enter");
    await heading(page, "Keys of entered");
    assert.equal(await page.getByText("chmod 600").count(), 0, "they are of no use yet");
    await page.getByRole("button", { name: "create the app" }).click();
    await heading(page, "entered is there");
    await page.getByText("chmod 600 entered.env").waitFor();
    await page.getByRole("button", { name: "show the app" }).click();
    await page.getByText("Say what it may do with one event name").click();
    await page.getByLabel("Event name").fill("enter/pressed");
    const granted = page.waitForResponse("**/grants/**");
    await page.getByLabel("Event name").press("Enter");
    assert.equal((await granted).status(), 200);
    await closing(page);
});

test("a name that is taken is found before there are keys, and one that is taken meanwhile can be changed beside them", async () => {
    const page = await open();
    await logIn(page, engine);
    await engine.createApp("twin");
    await page.goto(`${engine.console}#/new-app`);
    const name = page.getByLabel("Name", { exact: true });
    await name.fill("twi\u202en");
    await page.getByRole("alert").filter({ hasText: "a character that cannot be seen" }).waitFor();
    await name.fill("twin");
    await page.getByRole("button", { name: "Make its keys" }).click();
    await page.getByRole("alert").filter({ hasText: "An app has the name twin already" }).waitFor();
    await page.getByRole("checkbox", { name: /Two apps may have this name/ }).check();
    await page.getByRole("button", { name: "Make its keys" }).click();
    await heading(page, "Keys of twin");
    await page.getByRole("button", { name: "create the app" }).click();
    await heading(page, "twin is there");
    await page.getByRole("button", { name: "show the app" }).click();
    await heading(page, "twin");
    await page.goto(`${engine.console}#/new-app`);
    await name.fill("late");
    await page.getByRole("button", { name: "Make its keys" }).click();
    await heading(page, "Keys of late");
    await engine.createApp("late");
    const key = await page.locator(".secret code").first().textContent();
    await page.getByRole("button", { name: "create the app" }).click();
    await page.getByRole("alert").filter({ hasText: "has the name late already" }).waitFor();
    await page.getByLabel("Name", { exact: true }).fill("later");
    await page.getByRole("button", { name: "create the app" }).click();
    await heading(page, "later is there");
    assert.equal((await engine.api("GET", `/v1/apps/${encodeURIComponent(key)}`)).name, "later");
    const downloading = page.waitForEvent("download");
    await page.getByRole("button", { name: "Download as a file" }).click();
    const lines = readFileSync(await (await downloading).path(), "utf8").trim().split("\n").map((line) => line.split("=")[0]);
    assert.deepEqual(lines, ["ENSYNC_APP_KEY", "ENSYNC_APP_ID", "ENSYNC_SECRET_KEY"]);
    await page.getByRole("button", { name: "show the app" }).click();
    await closing(page);
});

test("a secret that is typed into a wrong field goes into no address and into no request", async () => {
    const page = await open();
    await logIn(page, engine);
    const secret = "7NIy0DXnNCdNbhUCUe1a8E2IBvYzvVey0cBTr1JVnB2hX8vsQ/MVG/NzNwzYwgDgAA/Dk3nieaSflWlKdB+03w==";
    const appKey = "ensync_key_q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA";
    const part = (held) => held.slice(20, 32);
    const seen = [];
    page.on("request", (request) => seen.push(decodeURIComponent(request.url()) + (request.postData() ?? "")));
    for (const held of [secret, appKey, engine.token, secret.replaceAll("/", "\\/")]) {
        for (const [where, label] of [["event", "Event's id"], ["apps", "Name or id holds"], ["letters", "Reason holds"], ["letters", "Event name"], ["queues", "Event name"]]) {
            await page.goto(`${engine.console}#/${where}`);
            await page.getByLabel(label).fill(held);
            await page.getByLabel(label).press("Enter");
            await page.getByRole("alert").filter({ hasText: "which does not belong here. Nothing is done" }).first().waitFor();
            await page.getByLabel(label).fill(`x ${held}`);
            await page.getByLabel(label).press("Enter");
            assert.ok(!decodeURIComponent(page.url()).includes(part(held)), `${where}: ${label}`);
        }
        // Who has it in an address, that the page does not ask for it.
        await page.goto(`${engine.console}#/event/${encodeURIComponent(held)}`);
        await page.getByText("nothing was sent").waitFor();
    }
    await page.goto(`${engine.console}#/event`);
    const kept = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }]));
    for (const held of [secret, appKey, engine.token]) {
        assert.ok(![...seen, kept].some((text) => text.includes(part(held))), "it went out, or was kept");
    }
    await closing(page);
});

/** Has the next request that matches be carried out, and its answer lost. */
async function loseAnswer(page, where) {
    let lost = 0;
    await page.route(where, async (route) => {
        if (route.request().method() !== "POST" || lost++) return route.continue();
        await route.fetch();
        await route.abort();
    });
}

test("keys are kept before the engine knows them, and are there whatever becomes of the answer or of the session", async () => {
    const page = await open();
    await logIn(page, engine);
    await page.goto(`${engine.console}#/new-app`);
    await page.getByLabel("Name").fill("lost");
    await page.getByRole("button", { name: "Make its keys" }).click();
    await heading(page, "Keys of lost");
    const key = await page.locator(".secret code").first().textContent();
    await loseAnswer(page, "**/v1/apps");
    await page.getByRole("button", { name: "create the app" }).click();
    await heading(page, "lost is there, without its app key");
    assert.equal(await page.locator(".secret code").first().textContent(), key);
    await page.getByRole("button", { name: "Make an app key" }).click();
    await heading(page, "lost is there");
    assert.equal(await page.locator(".secret").count(), 3);
    await page.getByRole("button", { name: "show the app" }).click();
    await heading(page, "lost");

    await page.getByRole("button", { name: "Rotate key pair…" }).click();
    await page.getByRole("button", { name: "Make a new pair" }).click();
    await heading(page, "New key pair of lost");
    assert.equal((await engine.api("GET", `/v1/apps/${encodeURIComponent(key)}`)).public_key, key, "nothing has changed yet");
    // The session ends while they are on the screen.
    await page.evaluate(() => localStorage.clear());
    const next = await page.locator(".secret code").first().textContent();
    await page.getByRole("button", { name: "give lost this pair" }).click();
    await page.getByLabel("Admin token").waitFor();
    assert.equal(await page.locator(".secret code").first().textContent(), next);
    await page.getByLabel("Admin token").fill(engine.token);
    await page.getByRole("button", { name: "Log in" }).click();
    await page.getByLabel("Admin token").waitFor({ state: "detached" });
    await loseAnswer(page, "**/key-pair");
    await page.getByRole("button", { name: "give lost this pair" }).click();
    await heading(page, "lost has another key pair");
    assert.equal(await page.locator(".secret code").first().textContent(), next);
    assert.equal((await engine.api("GET", `/v1/apps/${encodeURIComponent(key)}`)).public_key, next);
    const asking = page.waitForEvent("dialog");
    const leaving = page.close({ runBeforeUnload: true });
    await (await asking).dismiss();
    await leaving;
    await page.getByRole("button", { name: "show the app" }).click();
    await heading(page, "lost");
    await closing(page);
});

test("the time of a filter is the engine's, taken when one filters, and an act says what it takes", async () => {
    await engine.api("POST", "/v1/events", { name: "aged/event" });
    const app = await engine.createApp("aged");
    const client = await Raw.connect(engine, app.accessKey);
    await client.subscribe("aged/event");
    await client.publish("aged/event", app.publicKey);
    await client.discard(await client.next(), "too old");
    const page = await open();
    // A laptop that is three days behind.
    await page.clock.install({ time: Date.now() - 3 * 86_400_000 });
    await logIn(page, engine);
    await page.goto(`${engine.console}#/letters?event=aged%2Fevent`);
    await page.getByText("1 dead letter on this page").waitFor();
    await page.getByLabel("Died").selectOption("In the last hour");
    await page.getByRole("button", { name: "Filter" }).click();
    await page.waitForURL(/since=[0-9]+/);
    await page.getByText("1 dead letter on this page").waitFor();
    const posted = page.waitForRequest("**/v1/dead-letters/drop");
    await page.getByRole("button", { name: "Drop all that match…" }).click();
    await page.getByRole("dialog").filter({ hasText: /There is 1 dead letter now, of aged\/event, that died since [0-9]/ }).waitFor();
    await page.getByRole("button", { name: "Drop all for good" }).click();
    const { since, event } = (await posted).postDataJSON();
    assert.equal(event, "aged/event");
    assert.ok(Math.abs(Date.now() - 3_600_000 - since) < 120_000, `${since}`);
    client.close();
    await closing(page);
});

test("a page behind the last entry says so, and one opened behind others is there when it is seen", async () => {
    const page = await open();
    await logIn(page, engine);
    await engine.api("POST", "/v1/events", { name: "zz/last" });
    for (const [list, after] of [["names", "zz/last"], ["queues", "4000000000"], ["sessions", "4000000000"]]) {
        await page.goto(`${engine.console}#/${list}?after=${encodeURIComponent(after)}`);
        await page.getByText("There are no more.").waitFor();
    }
    const behind = await page.context().newPage();
    await behind.addInitScript(() => Object.defineProperty(document, "hidden", { get: () => true }));
    await behind.goto(`${engine.console}#/names/zz%2Flast`);
    await behind.getByLabel("Deliveries at most").waitFor();
    await closing(page);
});

test("saving a name changes what one changed, and the engine reads the schema as it was typed", async () => {
    await engine.api("POST", "/v1/events", { name: "two/admins", ttl_ms: 60_000 });
    const page = await open();
    await logIn(page, engine);
    await page.goto(`${engine.console}#/names/two%2Fadmins`);
    await page.getByLabel("Deliveries at most").fill("7");
    await engine.api("PATCH", "/v1/events/two%2Fadmins", { ttl_ms: 120_000 });
    await page.getByRole("button", { name: "Save" }).click();
    await page.getByText("Saved", { exact: true }).waitFor();
    const now = await engine.api("GET", "/v1/events/two%2Fadmins");
    assert.deepEqual([now.ttl_ms, now.max_deliveries], [120_000, 7]);
    await page.getByLabel("Schema").fill('{"f":"integer","f":"string"}');
    await page.getByText('The schema names "f" twice, line 1, column 16.').waitFor();
    assert.ok(await page.getByRole("button", { name: "Save" }).isDisabled());
    assert.equal((await engine.api("GET", "/v1/events/two%2Fadmins")).schema, null);
    await closing(page);
});

test("a grant that takes a right asks first, and numbers of metadata are what was sent", async () => {
    await engine.api("POST", "/v1/events", { name: "grant/me" });
    const app = await engine.createApp("granted");
    const client = await Raw.connect(engine, app.accessKey);
    await client.subscribe("grant/me");
    await client.publish("grant/me", app.publicKey, "b25l", '{"headers":{"order":9007199254740993}}');
    const record = await client.next();
    const page = await open();
    await logIn(page, engine);
    await page.goto(`${engine.console}#/event/${encodeURIComponent(record.idem)}`);
    await page.getByText("9007199254740993").waitFor();
    await page.goto(`${engine.console}#/apps/${encodeURIComponent(app.publicKey)}`);
    await page.getByText("Say what it may do with one event name").click();
    await page.getByLabel("Event name").fill("grant/me");
    await page.getByRole("checkbox", { name: "subscribe" }).uncheck();
    await page.getByRole("button", { name: "Set the grant…" }).click();
    await page.getByRole("dialog").getByText("Sessions that are subscribed to it end.").waitFor();
    // It stays while it works, whatever one presses, and says what came of it.
    await page.route("**/grants/**", async (route) => {
        await new Promise((done) => setTimeout(done, 1_500));
        await route.fulfill({ status: 503, json: { error: { kind: "unavailable", message: "the disk is full" } } });
    });
    await page.getByRole("button", { name: "Take it" }).click();
    await page.keyboard.press("Escape");
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").getByText("The disk is full.").waitFor();
    client.close();
    await closing(page);
});

test("nothing is said to be well of an engine that does not say so", async () => {
    const page = await open();
    await logIn(page, engine);
    await page.getByText(/All is well|wait for a decision|waits for a decision/).waitFor();
    await page.route("**/v1/info", (route) => route.fulfill({ status: 503, json: { error: { kind: "unavailable", message: "the disk may hang" } } }));
    await page.getByText("The disk may hang.").waitFor();
    assert.equal(await page.getByText(/All is well/).count(), 0);
    await page.unroute("**/v1/info");
    await page.getByText("The disk may hang.").waitFor({ state: "detached" });
    // A follower that is told nothing.
    await page.route("**/v1/live", (route) => route.fulfill({ status: 200, contentType: "text/event-stream", body: ":\n\n" }));
    await page.reload();
    await page.getByText("Cut off, trying again").waitFor();
    assert.equal(await page.getByText(/All is well/).count(), 0);
    page.faults.length = 0;
    await closing(page);
});

test("a page says when the engine is gone, and comes back with it", async () => {
    const other = await Engine.start();
    const page = await (await newContext(browser)).newPage();
    await logIn(page, other);
    await page.getByText("Live", { exact: true }).waitFor();
    const port = new URL(other.admin).port;
    await other.stop();
    await page.getByText("Cut off, trying again").waitFor();
    const again = await Engine.start({ port, directory: other.directory });
    // Sessions are in memory: a restart ends them.
    await page.getByText("Your session has ended").waitFor({ timeout: 30_000 });
    await page.context().close();
    await again.remove();
});

test("every page keeps to the rules of accessibility, light and dark, wide and narrow", async () => {
    await engine.api("POST", "/v1/events", { name: "axe/event", schema: { a: "string" } });
    const app = await engine.createApp("axe");
    const client = await Raw.connect(engine, app.accessKey);
    await client.subscribe("axe/event");
    await client.publish("axe/event", app.publicKey);
    const record = await client.next();
    await client.discard(record, "no such order");
    const { sessions } = await engine.api("GET", "/v1/sessions");
    const key = encodeURIComponent(app.publicKey);
    const pages = ["", "queues", `queues/${key}/axe%2Fevent`, "letters", "event", `event/${record.idem}`, "apps", `apps/${key}`, "new-app", "names", "names/axe%2Fevent", "new-name", "sessions", `sessions/${sessions[0].session}`, "settings", "nowhere"];
    const findings = [];
    for (const colorScheme of ["light", "dark"]) {
        for (const width of [1440, 360]) {
            const page = await open({ colorScheme, viewport: { width, height: 800 }, bypassCSP: true });
            const look = async (name) => {
                await page.evaluate(axe);
                const { violations } = await page.evaluate(() => window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"] }));
                for (const one of violations) findings.push(`${name} ${colorScheme} ${width}: ${one.id} ${one.nodes.map((node) => node.target).join(", ")}`);
                const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
                if (wide > 0) findings.push(`${name} ${colorScheme} ${width}: ${wide} px too wide`);
            };
            await page.goto(engine.console);
            await page.getByLabel("Admin token").waitFor();
            await look("login");
            await logIn(page, engine);
            for (const where of pages) {
                await page.goto(`${engine.console}#/${where}`);
                await page.locator("h1").waitFor();
                await page.waitForFunction(() => !document.querySelector("main .loading"));
                await look(where || "overview");
            }
            await page.context().close();
        }
    }
    client.close();
    assert.deepEqual(findings, []);
});

test("nothing asked anybody but this engine", () => assert.deepEqual(strangers, []));
