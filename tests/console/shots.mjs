// Pictures of every page: light and dark, 360 and 1440 px wide, with nothing, with something, and where it fails. node shots.mjs [DIRECTORY]

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { Engine, Raw, logIn, missing, newContext, openBrowser } from "./engine.mjs";

const why = missing();
if (why) throw new Error(why);
const to = process.argv[2] ?? "shots";
mkdirSync(to, { recursive: true });
const engine = await Engine.start({ settings: ["limits.max_sessions=5000", "defaults.ack_timeout=2m"] });
const browser = await openBrowser();
const LOOKS = [["light", 1440], ["dark", 1440], ["light", 360], ["dark", 360]];

async function shoot(set, pages, looks = LOOKS) {
    for (const [colorScheme, width] of looks) {
        const context = await newContext(browser, { colorScheme, viewport: { width, height: 900 } });
        const page = await context.newPage();
        if (set === "empty") {
            await page.goto(engine.console);
            await page.getByLabel("Admin token").waitFor();
            await page.screenshot({ path: join(to, `login-${colorScheme}-${width}.png`), fullPage: true });
        }
        await logIn(page, engine);
        for (const [name, where, act] of pages) {
            await page.goto(`${engine.console}#/${where}`);
            await page.locator("h1").waitFor();
            await page.waitForFunction(() => !document.querySelector("main .loading"));
            await act?.(page);
            await page.waitForTimeout(300);
            await page.screenshot({ path: join(to, `${set}-${name}-${colorScheme}-${width}.png`), fullPage: true });
        }
        await context.close();
    }
}

await shoot("empty", [["overview", ""], ["queues", "queues"], ["letters", "letters"], ["apps", "apps"], ["names", "names"], ["sessions", "sessions"], ["settings", "settings"], ["event", "event"]], LOOKS.slice(0, 3));

for (const [name, schema] of [["shop/orders/created", { order: "string", total: "double", paid: "boolean" }], ["shop/orders/paid"], ["stock/levels/changed"]]) {
    await engine.api("POST", "/v1/events", { name, schema, ttl_ms: name === "stock/levels/changed" ? 3_600_000 : null });
}
const apps = {};
for (const name of ["web shop", "warehouse", "billing", "analytics", "mail"]) apps[name] = await engine.createApp(name);
const clients = {};
for (const [name, app] of Object.entries(apps)) clients[name] = await Raw.connect(engine, app.accessKey);
const key = apps.warehouse.publicKey;
await clients.warehouse.subscribe("shop/orders/created");
await clients.billing.subscribe("shop/orders/paid");
const sealed = [];
for (let n = 0; n < 6; n += 1) {
    const out = await engine.run(["publish", "shop/orders/created", JSON.stringify({ order: `o-${n}`, total: 12.5 * n, paid: n % 2 === 0 }), "--to", key, "--header", `trace=t-${n}`], { ENSYNC_APP_KEY: apps["web shop"].accessKey, ENSYNC_SECRET_KEY: apps["web shop"].secretKey });
    sealed.push(out.split("\t")[0]);
}
const reasons = ["no such order", "schema of version 2 is not known", "the total is negative", "no such order"];
for (let n = 0; n < 4; n += 1) await clients.warehouse.discard(await clients.warehouse.next(), reasons[n]);
for (let n = 0; n < 40; n += 1) {
    await clients["web shop"].publish("shop/orders/paid", apps.billing.publicKey, "b25l");
    if (n % 3) {
        const record = await clients.billing.next();
        await clients.billing.say(`ACK;CLIENT_ID=:${clients.billing.id};EVENT_IDEM=:${record.idem};BLOCK=:${record.block};EVENT_NAME=:shop/orders/paid`);
    }
    if (n % 2) await clients["web shop"].publish("stock/levels/changed", apps.analytics.publicKey);
    await new Promise((done) => setTimeout(done, Number(process.env.ENSYNC_SHOTS_PACE ?? 700)));
}
const session = (await engine.api("GET", "/v1/sessions")).sessions[1].session;
const app = encodeURIComponent(key);
const decrypt = async (page) => {
    await page.getByLabel("Secret key of warehouse").fill(apps.warehouse.secretKey);
    await page.getByRole("button", { name: "Decrypt" }).click();
    await page.getByLabel("Decrypted payload").waitFor();
};
const drop = async (page) => page.getByRole("button", { name: "Drop all…" }).click();
await shoot("full", [
    ["overview", ""],
    ["queues", "queues"],
    ["queue", `queues/${app}/shop%2Forders%2Fcreated`],
    ["letters", "letters"],
    ["event", `event/${sealed[5]}`, decrypt],
    ["event-dead", `event/${sealed[0]}`],
    ["apps", "apps"],
    ["app", `apps/${app}`],
    ["new-app", "new-app"],
    ["names", "names"],
    ["name", "names/shop%2Forders%2Fcreated"],
    ["sessions", "sessions"],
    ["session", `sessions/${session}`],
    ["settings", "settings"],
    ["dialog", "letters", drop],
]);
await shoot("error", [["event", "event/nothing"], ["app", "apps/nothing"], ["nowhere", "nowhere"]], LOOKS.slice(0, 3));
for (const client of Object.values(clients)) client.close();
await browser.close();
await engine.remove();
