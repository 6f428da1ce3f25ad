import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { type Info, get, logOut, onLoggedOut, session } from "./api/client";
import { useLive } from "./api/live";
import { Apps, NewApp, OneApp } from "./pages/apps";
import { FindEvent, OneEvent } from "./pages/event";
import { Letters } from "./pages/letters";
import { Login } from "./pages/login";
import { Names, NewName, OneName } from "./pages/names";
import { Overview } from "./pages/overview";
import { OneQueue, Queues } from "./pages/queues";
import { OneSession, Sessions } from "./pages/sessions";
import { Settings } from "./pages/settings";
import { Keep, useKept } from "./keep";
import { type Route, go, to, useRoute } from "./route";
import { count } from "./ui/format";
import { Access, Empty, Notice, Page, Tag } from "./ui/parts";
import "uplot/dist/uPlot.min.css";
import "./ui/console.css";

const PAGES: [string, string][] = [
    ["", "Overview"],
    ["queues", "Queues"],
    ["letters", "Dead letters"],
    ["event", "Find an event"],
    ["apps", "Apps"],
    ["names", "Event names"],
    ["sessions", "Connections"],
    ["settings", "Settings"],
];

/** Under which page something is made. */
const MAKES: Record<string, string> = { "new-app": "apps", "new-name": "names" };

type Who = { in: true; access: "full" | "read" } | { in: false; why: string | null } | null;

function Console() {
    const [who, setWho] = useState<Who>(null);
    const kept = useKept();
    useEffect(() => {
        onLoggedOut((why) => setWho((before) => ({ in: false, why: before?.in ? why : null })));
        if (!session()) return setWho({ in: false, why: null });
        get<Info>("/v1/info").then(
            (info) => setWho({ in: true, access: info.access }),
            (error) => setWho((before) => before ?? { in: false, why: error.status === 401 ? null : error.message }),
        );
    }, []);
    if (!who) return <p class="loading center">Loading…</p>;
    const login = !who.in && <Login why={who.why} done={(access) => setWho({ in: true, access })} />;
    if (kept) {
        return (
            <>
                <Keep of={kept} />
                {login}
            </>
        );
    }
    if (!who.in) return login;
    return (
        <Access.Provider value={who.access}>
            <Shell access={who.access} leave={(why) => setWho({ in: false, why })} />
        </Access.Provider>
    );
}

function Shell(props: { access: "full" | "read"; leave: (why: string) => void }) {
    const route = useRoute();
    const live = useLive();
    const here = route.parts[0] ?? "";
    useEffect(() => document.querySelector(".nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" }), [here]);
    return (
        <div class="shell">
            <a class="skip" href="#main" onClick={(event) => {
                event.preventDefault();
                document.getElementById("main")?.focus();
            }}>
                Go to the content
            </a>
            <header class="top">
                <a class="brand" href="#/">
                    <img src="/console/icon.svg" alt="" width="24" height="24" /> EnSync
                </a>
                <nav aria-label="Pages of the console" class="nav">
                    {PAGES.map(([where, label]) => (
                        <a href={where ? to(where) : "#/"} aria-current={where === here || where === MAKES[here] ? "page" : undefined}>
                            {label}
                            {where === "letters" && live.now && live.now.dead > 0 && <span class="badge">{count(live.now.dead)}</span>}
                        </a>
                    ))}
                </nav>
                <div class="who">
                    <span class={`live ${live.cut ? "cut" : ""}`} role="status">
                        {live.cut ? "Cut off, trying again" : live.now ? "Live" : "Connecting"}
                    </span>
                    {props.access === "read" && <Tag kind="info">Looking only</Tag>}
                    <button
                        type="button"
                        class="small"
                        onClick={() => {
                            const leave = (why: string) => {
                                go("#/");
                                props.leave(why);
                            };
                            logOut().then(
                                () => leave("You are logged out."),
                                () => leave("You are logged out in this browser. The engine could not be told: the session ends by itself in 30 minutes."),
                            );
                        }}
                    >
                        Log out
                    </button>
                </div>
            </header>
            <main id="main" tabIndex={-1}>
                {live.cut && (
                    <Notice kind="warn">
                        <p>{live.cut}</p>
                    </Notice>
                )}
                <Where key={route.parts.join("/")} route={route} live={live} />
            </main>
        </div>
    );
}

function Where({ route, live }: { route: Route; live: ReturnType<typeof useLive> }) {
    const [page, ...rest] = route.parts;
    if (page === undefined) return <Overview live={live} />;
    if (page === "queues" && rest.length === 0) return <Queues route={route} />;
    if (page === "queues" && rest.length === 2) return <OneQueue route={route} />;
    if (page === "letters" && rest.length === 0) return <Letters route={route} />;
    if (page === "event" && rest.length === 0) return <FindEvent />;
    if (page === "event" && rest.length === 1) return <OneEvent route={route} />;
    if (page === "apps" && rest.length === 0) return <Apps route={route} />;
    if (page === "apps" && rest.length === 1) return <OneApp route={route} />;
    if (page === "names" && rest.length === 0) return <Names route={route} />;
    if (page === "names" && rest.length === 1) return <OneName route={route} />;
    if (page === "new-app" && rest.length === 0) return <NewApp />;
    if (page === "new-name" && rest.length === 0) return <NewName />;
    if (page === "sessions" && rest.length === 0) return <Sessions route={route} />;
    if (page === "sessions" && rest.length === 1) return <OneSession route={route} />;
    if (page === "settings" && rest.length === 0) return <Settings />;
    return (
        <Page title="There is no such page">
            <Empty title="The address may be mistyped, or of another version of the console.">
                <a href="#/">Go to the overview</a>
            </Empty>
        </Page>
    );
}

const place = document.getElementById("app");
if (place) render(<Console />, place);
