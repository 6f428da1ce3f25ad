// A real engine in a directory of its own, programs that use it, and a browser that looks at it.

import { execFile, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { chromium } from "playwright-core";
import WebSocket from "ws";

const root = fileURLToPath(new URL("../..", import.meta.url));
export const program = process.env.ENSYNC_PROGRAM ?? join(root, "target/debug/ensync");

export const browserProgram = [process.env.ENSYNC_CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(
    (path) => path && existsSync(path),
);

export class Engine {
    static async start({ settings = [], port = 0, directory = mkdtempSync(join(tmpdir(), "ensync-console-")) } = {}) {
        const engine = new Engine();
        engine.directory = directory;
        const set = ["storage.segment_size=1MiB", ...settings].flatMap((setting) => ["--set", setting]);
        const flags = ["serve", "--data", directory, "--listen", "127.0.0.1:0", "--admin-listen", `127.0.0.1:${port}`, "--log-level", "warn", ...set];
        engine.process = spawn(program, flags, { stdio: ["ignore", "pipe", "inherit"] });
        for await (const line of createInterface({ input: engine.process.stdout })) {
            engine.ws ??= line.match(/(ws:\/\/[^ ]+)/)?.[1];
            engine.grpc ??= line.match(/(grpc:\/\/[^ ]+)/)?.[1];
            engine.admin ??= line.match(/administration at (http:\/\/[^ ,]+)/)?.[1];
            engine.console ??= line.match(/console at (http:\/\/[^ ,]+)/)?.[1];
            if (engine.console && engine.admin) break;
        }
        if (!engine.console || !engine.admin) throw new Error("the engine did not say where its console and its admin API are");
        engine.token = readFileSync(join(directory, "admin.token"), "utf8").trim();
        engine.reader = readFileSync(join(directory, "admin-read.token"), "utf8").trim();
        return engine;
    }

    async api(method, path, body) {
        const response = await fetch(this.admin + path, {
            method,
            headers: { authorization: `Bearer ${this.token}`, "content-type": "application/json" },
            body: body === undefined ? undefined : JSON.stringify(body),
        });
        const text = await response.text();
        if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
        return text ? JSON.parse(text) : undefined;
    }

    /** Runs the ensync program, which is made of the SDK. */
    async run(flags, env = {}) {
        const { stdout } = await promisify(execFile)(program, flags, {
            env: { PATH: process.env.PATH, ENSYNC_URL: this.grpc, ...env },
            timeout: 60_000,
        });
        return stdout;
    }

    async createApp(name) {
        const made = await this.run(["keygen"]);
        const value = (key) => made.match(new RegExp(`${key}=['"]?([^'"\\n]+)`))?.[1];
        const publicKey = value("ENSYNC_APP_ID");
        const secretKey = value("ENSYNC_SECRET_KEY");
        const { access_key: accessKey } = await this.api("POST", "/v1/apps", { name, public_key: publicKey });
        return { name, publicKey, secretKey, accessKey };
    }

    async stop() {
        const gone = new Promise((done) => this.process.once("exit", done));
        this.process.kill("SIGTERM");
        await gone;
    }

    async remove() {
        await this.stop();
        rmSync(this.directory, { recursive: true, force: true });
    }
}

/** A client over WebSocket that says what it likes: the SDKs have no way to be so rude. */
export class Raw {
    static async connect(engine, accessKey) {
        const raw = new Raw();
        raw.answers = [];
        raw.waiting = [];
        raw.records = [];
        raw.socket = new WebSocket(engine.ws);
        await new Promise((open, failed) => raw.socket.once("open", open).once("error", failed));
        raw.socket.on("message", (data) => {
            const text = data.toString();
            if (text === "PING") raw.socket.send("PONG");
            else if (text.startsWith("+RECORD:")) raw.records.push(JSON.parse(text.slice(8)));
            else (raw.waiting.shift() ?? ((text) => raw.answers.push(text)))(text);
        });
        const welcome = await raw.say(`CONN;ACCESS_KEY=:${accessKey}`);
        raw.id = welcome.match(/clientId=([^,}]+)/)[1];
        return raw;
    }

    async say(frame) {
        this.socket.send(frame);
        const answer = await new Promise((done) => (this.answers.length ? done(this.answers.shift()) : this.waiting.push(done)));
        if (!answer.startsWith("+") && !answer.startsWith("{")) throw new Error(`${frame.slice(0, 40)}: ${answer}`);
        return answer;
    }

    publish(event, to, payload = "b25l", metadata = "{}") {
        return this.say(`PUB;CLIENT_ID=:${this.id};EVENT_NAME=:${event};PAYLOAD=:${payload};DELIVERY_TO=:${to};METADATA=:${metadata}`);
    }

    subscribe(event) {
        return this.say(`SUB;CLIENT_ID=:${this.id};EVENT_NAME=:${event}`);
    }

    async next() {
        for (let tries = 0; this.records.length === 0; tries += 1) {
            if (tries > 2_000) throw new Error("no event came");
            await new Promise((done) => setTimeout(done, 10));
        }
        return this.records.shift();
    }

    discard(record, reason) {
        return this.say(`DISCARD;CLIENT_ID=:${this.id};EVENT_IDEM=:${record.idem};BLOCK=:${record.block};REASON=:${reason}`);
    }

    close() {
        this.socket.close();
    }
}

export const openBrowser = () =>
    chromium.launch({ executablePath: browserProgram, args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"] });

/** Why this cannot run here, if it cannot. */
export function missing() {
    if (!browserProgram) return "there is no Chromium: install Debian's chromium, or set ENSYNC_CHROMIUM";
    if (!existsSync(program)) return `there is no ${program}: run cargo build -p ensync-cli, or set ENSYNC_PROGRAM`;
    return null;
}

/** A context whose page's files come from ENSYNC_PAGE, if that is set: for whoever works on the page, and will not build an engine each time. */
export async function newContext(browser, options) {
    const context = await browser.newContext(options);
    const from = process.env.ENSYNC_PAGE;
    if (from) {
        for (const name of ["console.js", "console.css"]) await context.route(`**/console/${name}`, (route) => route.fulfill({ path: join(from, name) }));
    }
    return context;
}

export async function logIn(page, engine, token = engine.token) {
    await page.goto(engine.console);
    await page.getByLabel("Admin token").fill(token);
    await page.getByRole("button", { name: "Log in" }).click();
    await page.getByRole("button", { name: "Log out" }).waitFor();
}
