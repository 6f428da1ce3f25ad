"""Runs one of the published Python clients, unmodified, for the interop test.

Takes commands from standard input and answers on standard output, a line of JSON each: {"do": "publish", ...} is answered by
{"ok": value} or {"error": "Type: message"}. In between come {"event": {...}} for what a handler is called with, and {"log": text} for
what the client logs. Commands are carried out one after the other, never inside a handler: two of the clients cannot do anything there.

    python drive.py CLIENT
"""
import asyncio
import json
import logging
import sys

# No step takes longer; a client that does not come back is an answer too.
LIMIT = 25


def say(**line):
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


class Log(logging.Handler):
    def emit(self, record):
        say(log=record.getMessage())


class Client:
    """What the four clients have in common."""

    def __init__(self, url):
        self.engine = self.make()(url, {"reconnectInterval": 50, "maxReconnectAttempts": 30})
        self.subs = {}
        self.tasks = {}

    async def login(self, key, secret):
        client = await self.engine.create_client(key, {"appSecretKey": secret})
        return client.get_client_public_key()

    def handle(self, event):
        name = event.get("eventName") or event.get("messageName")
        say(event={"name": name, **{key: event[key] for key in ("idem", "block", "payload", "sender", "metadata")}})

    async def subscribe(self, name, auto_ack):
        raise NotImplementedError

    async def publish(self, name, to, payload, metadata=None, options=None):
        return await self.engine.publish(name, to, payload, metadata, options)

    async def ack(self, name, idem, block):
        await self.subs[name].ack(idem, block)

    async def defer(self, name, idem, delay):
        return await self.subs[name].defer(idem, delay, "later")

    async def discard(self, name, idem, reason):
        return await self.subs[name].discard(idem, reason)

    async def rollback(self, name, idem, block):
        await self.subs[name].rollback(idem, block)

    async def replay(self, name, idem):
        return (await self.subs[name].replay(idem))["payload"]

    async def pause(self, name):
        return await self.subs[name].pause("lunch")

    async def resume(self, name):
        return await self.subs[name].resume()

    async def unsubscribe(self, name):
        await self.subs[name].unsubscribe()

    async def reconnect(self):
        """What a user can do for a client that does not do it by itself."""
        await self.engine.connect()

    async def listener(self, name=None):
        """Waits until the task that listens has ended, and tells how."""
        task = self.listening(name)
        await asyncio.wait([task])
        if task.cancelled():
            return "cancelled"
        return "returned" if task.exception() is None else f"{type(task.exception()).__name__}: {task.exception()}"

    async def close(self):
        await self.engine.close()

    abandon = close


class Grpc(Client):
    def listening(self, name):
        return self.tasks[name]

    async def watch(self, name):
        """Keeps hold of the stream's task, which the client forgets when the stream ends."""
        self.tasks[name] = self.engine._subscription_tasks[name]


class WebSocket(Client):
    def listening(self, name):
        return self.task

    async def watch(self, name):
        self.task = self.engine._message_listener_task

    async def waiting(self):
        """Sends a ping, waits for its pong, and tells how many answers the client has not taken from what came before that."""
        await (await self.engine._ws.ping())
        for _ in range(10):
            await asyncio.sleep(0)
        return len(self.engine._message_callbacks)


class Documented033:
    """0.3.3: subscribe first, then on()."""

    async def subscribe(self, name, auto_ack, option="autoAck"):
        self.subs[name] = await self.engine.subscribe(name, {option: auto_ack})
        self.subs[name].on(self.handle)


class Documented04:
    """0.4: a decorator, with the same methods."""

    async def subscribe(self, name, auto_ack):
        self.subs[name] = self.engine.subscribe(name, auto_ack=auto_ack)
        self.subs[name].handler(self.handle)


class Grpc033(Documented033, Grpc):
    def make(self):
        from ensync import EnSyncEngine
        return EnSyncEngine


class WebSocket033(Documented033, WebSocket):
    def make(self):
        from ensync import EnSyncWebSocketEngine
        return EnSyncWebSocketEngine


class Grpc044(Documented04, Grpc):
    def make(self):
        from ensync_sdk import EnSyncEngine
        return EnSyncEngine


class WebSocket043(Documented04, WebSocket):
    def make(self):
        from ensync_sdk_ws import EnSyncEngine
        return EnSyncEngine

    async def send_sub(self, name):
        """Nothing that is documented sends SUB."""
        await self.subs[name]._ensure_subscription()

    async def replay_inside(self, name, idem):
        """What the documented method means to call."""
        return (await self.engine._replay(idem, name))["payload"]


CLIENTS = {
    "ensync-sdk 0.4.4": Grpc044,
    "ensync-sdk 0.3.3, gRPC": Grpc033,
    "ensync-sdk 0.3.3, WebSocket": WebSocket033,
    "ensync-sdk-ws 0.4.3": WebSocket043,
}


async def main(kind):
    reader = asyncio.StreamReader(limit=1 << 24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    client = None
    logs = Log()
    while line := await reader.readline():
        command = json.loads(line)
        do = command.pop("do")
        try:
            if do == "new":
                client = CLIENTS[kind](**command)
                # 0.4 silences its loggers when it is imported.
                for name in ("EnSync:gRPC", "EnSync WS:"):
                    logger = logging.getLogger(name)
                    logger.setLevel(logging.INFO)
                    logger.handlers = [logs]
                    logger.propagate = False
                say(ok=None)
            else:
                say(ok=await asyncio.wait_for(getattr(client, do)(**command), LIMIT))
        except Exception as error:
            say(error=f"{type(error).__name__}: {error}")


asyncio.run(main(sys.argv[1]))
