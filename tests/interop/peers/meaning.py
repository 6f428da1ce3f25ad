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
    from ensync_core.payload_utils import get_payload_metadata

    def tell(value):
        return json.dumps(get_payload_metadata(value)["skeleton"])
else:
    tell = meaning

for line in sys.stdin:
    try:
        print(tell(json.loads(base64.b64decode(line).decode())))
    except (ValueError, RecursionError) as error:
        print(f"! {type(error).__name__}: {error}")
