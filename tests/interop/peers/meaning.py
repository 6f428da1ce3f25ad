"""Tells what JSON documents mean to Python's `json`: a line of base64 each in, a line of ASCII each out, as `json.rs` spells it.

With the argument `skeleton` it tells the skeleton that ensync-sdk makes of each document instead, as JSON.
"""
import base64
import json
import struct
import sys


def meaning(value):
    if value is None:
        return "z"
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, (int, float)):
        return "n" + struct.pack(">d", float(value) + 0.0).hex()
    if isinstance(value, str):
        return "s" + value.encode().hex() + ";"
    if isinstance(value, list):
        return "a(" + "".join(map(meaning, value)) + ")"
    return "o(" + "".join(f"{name}:{value}" for name, value in sorted((k.encode().hex(), meaning(v)) for k, v in value.items())) + ")"


if sys.argv[1:] == ["skeleton"]:
    try:
        from ensync_core.payload_utils import get_payload_skeleton as skeleton
    except ImportError:
        # 0.3.3 has it in its gRPC client, as a method that uses nothing of it.
        from ensync import EnSyncEngine

        def skeleton(value):
            return EnSyncEngine._get_payload_skeleton(None, value)

    def tell(value):
        return json.dumps(skeleton(value))
else:
    tell = meaning

for line in sys.stdin:
    try:
        print(tell(json.loads(base64.b64decode(line).decode())))
    except (ValueError, RecursionError) as error:
        print(f"! {type(error).__name__}: {error}")
