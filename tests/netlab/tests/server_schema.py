"""Hooks for Schemathesis: what a document cannot say of a valid request.

A record must be signed, a network must be there before it is asked for, and an address has a form of its own. Each request
that was made from the document keeps all that can stay, and gets the rest here.
"""

import base64
import itertools
import json
import os
import time
import urllib.request

import schemathesis
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SERVER = os.environ["SCHEMA_SERVER"]
ADMIN = os.environ["SCHEMA_ADMIN_TOKEN"]
NETWORKS = "/api/v1/mesh/networks"
NUMBERS = itertools.count(1)


def ask(method, path, body):
    headers = {"Authorization": f"Bearer {ADMIN}", "Content-Type": "application/json"}
    request = urllib.request.Request(SERVER + path, json.dumps(body).encode(), headers, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.status


class Key:
    """An Ed25519 key; its id is the public half in lower-case base32."""

    def __init__(self):
        self.secret = Ed25519PrivateKey.generate()
        self.public = self.secret.public_key().public_bytes_raw()
        self.id = base64.b32encode(self.public).decode().rstrip("=").lower()


def made(network_key=None):
    """A new network of this key, or of none."""
    name = f"net-{next(NUMBERS)}"
    body = {"id": name, "cidr": "10.100.0.0/16", "admission_token": "t" * 32}
    if network_key is not None:
        body["network_key"] = network_key.id
    assert ask("POST", NETWORKS, body) == 201
    return name


def signed(network, record):
    """The record with keys and signature that hold in that network (docs/PROTOCOL.md)."""
    key = Key()
    wireguard = Key().public
    record = record | {
        "node_id": key.id,
        "wireguard_key": base64.b64encode(wireguard).decode(),
        "hostname": f"host-{next(NUMBERS)}",
        # An integer of JSON Schema may be written as 1.0 and has no end; the server's have 64 bits.
        "seq": min(int(record["seq"]), 2**64 - 1),
        "instance": min(int(record["instance"]), 2**64 - 1),
    }
    fields = [
        network.encode(),
        key.public,
        wireguard,
        record["hostname"].encode(),
        record["seq"].to_bytes(8),
        record["instance"].to_bytes(8),
        (record.get("certificate") or "").encode(),
    ]
    statement = b"meshd peer record v2" + b"".join(len(it).to_bytes(4) + it for it in fields)
    return record | {"signature": base64.b64encode(key.secret.sign(statement)).decode()}


def revocation(network, key):
    statement = b"\x01" + Key().public + int(time.time()).to_bytes(8) + b"\x00"
    context = b"meshd revocation v1\0" + network.encode() + b"\0" + key.public
    return base64.b64encode(statement + key.secret.sign(context + statement)).decode()


def create_network(case):
    case.body["id"] = f"net-{next(NUMBERS)}"
    case.body["cidr"] = "192.168.0.0/16"
    # Any text of the alphabet is no key.
    if case.body.get("network_key") is not None:
        case.body["network_key"] = Key().id


def any_network(case):
    case.path_parameters["id"] = made()


def register(case):
    case.path_parameters["id"] = made()
    case.body["record"] = signed(case.path_parameters["id"], case.body["record"])
    if case.body.get("requested_ip") is not None:
        case.body["requested_ip"] = "10.100.7.7"


def deregister(case):
    network = made()
    record = signed(network, {"seq": 1, "instance": 1})
    assert ask("POST", f"{NETWORKS}/{network}/peers", {"record": record}) == 201
    case.path_parameters |= {"id": network, "peer": record["node_id"]}


def revoke(case):
    key = Key()
    case.path_parameters["id"] = made(key)
    case.body["revocation"] = revocation(case.path_parameters["id"], key)


def relay(case):
    """The headers of a WebSocket, which OpenAPI has no words for."""
    upgrade(case)
    case.headers["Sec-WebSocket-Protocol"] = "turn"


def listen(case):
    any_network(case)
    upgrade(case)


def upgrade(case):
    case.headers = dict(case.headers or {}) | {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
    }


MENDED = {
    ("POST", NETWORKS): create_network,
    ("GET", "/api/v1/turn"): relay,
    ("GET", NETWORKS + "/{id}"): any_network,
    ("DELETE", NETWORKS + "/{id}"): any_network,
    ("GET", NETWORKS + "/{id}/events"): listen,
    ("GET", NETWORKS + "/{id}/peers"): any_network,
    ("POST", NETWORKS + "/{id}/peers"): register,
    ("DELETE", NETWORKS + "/{id}/peers/{peer}"): deregister,
    ("POST", NETWORKS + "/{id}/revocations"): revoke,
}


@schemathesis.hook
def before_call(context, case, kwargs):
    mend = MENDED.get((case.method.upper(), case.path))
    if mend is not None:
        mend(case)
