// Runs the published Node client, unmodified, for the interop test: drive.py says how it is talked to.
//
//     NODE_PATH=.../node_modules node drive.js
'use strict';

// No step takes longer; a client that does not come back is an answer too.
const LIMIT = 25_000;

const say = (line) => process.stdout.write(JSON.stringify(line) + '\n');
// The client writes its log to standard output, which is ours to talk on.
const log = (...parts) => say({ log: parts.map(String).join(' ') });
console.log = log;
console.error = log;

const { EnSyncEngine } = require('ensync-client-sdk');

let engine;
let subs;
// `new` of a test begins afresh; a client that was left behind is told not to connect again.
const commands = {
  async new({ url }) {
    engine = new EnSyncEngine(url, { reconnectInterval: 50, maxReconnectAttempts: 30 });
    subs = {};
  },
  async login({ key, secret }) {
    return (await engine.createClient(key, { appSecretKey: secret })) === engine;
  },
  async subscribe({ name, auto_ack }) {
    subs[name] = await engine.subscribe(name, { autoAck: auto_ack });
    subs[name].on(({ eventName, ...event }) => say({ event: { name: eventName, ...event } }));
  },
  publish: ({ name, to, payload, metadata }) => engine.publish(name, to, payload, metadata),
  ack: ({ name, idem, block }) => subs[name].ack(idem, block),
  rollback: ({ name, idem, block }) => subs[name].rollback(idem, block),
  defer: ({ name, idem, delay }) => subs[name].defer(idem, delay, 'later'),
  discard: ({ name, idem, reason }) => subs[name].discard(idem, reason),
  replay: ({ name, idem }) => subs[name].replay(idem),
  pause: ({ name }) => subs[name].pause('lunch'),
  resume: ({ name }) => subs[name].resume(),
  unsubscribe: ({ name }) => subs[name].unsubscribe(),
  public_key: async () => engine.getClientPublicKey(),
  close: () => engine.close(),
  // close() waits for ever where the connection has ended already, but it says that there shall be no other.
  async abandon() {
    engine.close();
  },
};

async function carryOut(line) {
  const { do: name, ...args } = JSON.parse(line);
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${name} did not come back`)), LIMIT);
  });
  try {
    const value = await Promise.race([(async () => commands[name](args))(), late]);
    say({ ok: value ?? null });
  } catch (error) {
    say({ error: `${error.name}: ${error.message}` });
  }
  clearTimeout(timer);
}

let queue = Promise.resolve();
require('node:readline')
  .createInterface({ input: process.stdin })
  .on('line', (line) => {
    queue = queue.then(() => carryOut(line));
  })
  .on('close', () => process.exit(0));
