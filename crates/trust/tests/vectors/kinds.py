"""Writes kinds.json: one statement of every kind, made without a line of comity's code. Needs cbor2, pynacl and blake3.

Dictionaries are written in the order of RFC 8949 section 4.2.1 by cbor2's canonical mode.
"""

import json

import blake3
import cbor2
import nacl.signing

MS = 1_790_000_000_000
HOUR = 3_600_000


def key(seed):
    return nacl.signing.SigningKey(bytes([seed]) * 32)


def public(seed):
    return key(seed).verify_key.encode()


def h(text):
    return blake3.blake3(text.encode()).digest()


def cbor(value):
    return cbor2.dumps(value, canonical=True)


def seal(kind, payload, seed):
    protected = cbor({1: -19, 3: "application/comity+cbor", 4: public(seed)})
    signed = cbor(["Signature1", protected, f"comity/1/{kind}".encode(), payload])
    signature = key(seed).sign(signed).signature
    # The tag, an array of four; the unprotected headers are an empty map.
    return b"\xd2\x84" + cbor(protected) + b"\xa0" + cbor(payload) + cbor(signature)


def addresses(*pairs):
    return b"".join(b"\x04" + bytes(map(int, ip.split("."))) + port.to_bytes(2, "big") for ip, port in pairs)


CAPABILITY = {
    0: "fx.rates",
    1: "Exchange rates",
    2: "Reference rates of the day",
    3: ["EUR to USD on 1 March"],
    4: [5 * 8],
    5: ["ecb", "fx"],
    6: [b"\xa0", b"\xf5"],
    7: {},
    8: 0,
    9: True,
    10: False,
    11: "2026-11-01",
    12: 60_000_000,
}

KINDS = {
    "record": {
        0: 1, 1: 7, 2: MS, 3: MS + HOUR, 4: h("next"), 5: "Rates Ltd", 6: "Keeps tables",
        7: addresses(("127.0.0.1", 4433)), 8: [CAPABILITY], 9: h("before"),
    },
    "digest": {
        0: 1, 1: 7, 2: MS, 3: MS + HOUR, 4: h("record"), 5: 0, 6: "fx.rates", 7: "Exchange rates", 8: [5 * 8],
        9: {}, 10: [], 11: bytes(32), 12: h("interface"), 13: addresses(("127.0.0.1", 4433)), 14: 5,
    },
    "beat": {0: 1, 1: 8, 2: MS, 3: MS + HOUR, 4: 0, 5: 1},
    "tombstone": {0: 1, 1: 9, 2: MS, 3: MS + HOUR, 4: "fx.rates"},
    "peer": {0: 1, 1: 10, 2: MS, 3: MS + HOUR, 4: addresses(("127.0.0.1", 4433), ("10.0.0.1", 1)), 5: True},
    "veiled": {0: 1, 1: 11, 2: MS, 3: MS + HOUR, 4: h("label"), 5: 12, 6: bytes(554)},
    "grant": {
        0: 1, 1: h("parent"), 2: public(2), 3: [{0: "fx.*"}], 4: MS, 5: MS + HOUR, 6: 5, 7: 2, 8: 0,
        9: 9, 10: [3, 60_000], 12: ["provenance"],
    },
    "revoke": {0: [0, h("link")], 1: MS, 2: MS + HOUR, 3: 0},
    "revoke-set": {0: 1, 1: 3, 2: MS, 3: 1, 4: h("entries")},
    "endorse": {0: 1, 1: public(2), 2: {0: "fx.*"}, 3: MS, 4: MS + HOUR, 5: 1},
    "evidence": {0: 1, 1: "trace", 2: b"blob", 3: h("binding"), 4: MS},
    "rotate": {0: 1, 1: public(1), 2: public(2), 3: h("next"), 4: MS},
    "charter": {0: 1, 1: 1, 2: "partners", 3: [0, []], 4: MS, 5: MS + HOUR},
    "admit": {0: 1, 1: public(9), 2: public(2), 3: "fx.*", 4: MS, 5: MS + HOUR},
    "trust": {0: 1, 1: public(2), 2: MS, 3: MS + HOUR},
    "receipt-root": {0: 1, 1: h("receipts"), 2: 3, 3: MS},
}

if __name__ == "__main__":
    rows = []
    for kind, value in KINDS.items():
        payload = cbor(value)
        envelope = seal(kind, payload, 1)
        rows.append({
            "kind": kind,
            "payload": payload.hex(),
            "envelope": envelope.hex(),
            "hash": "b3:" + blake3.blake3(envelope).hexdigest(),
        })
    print(json.dumps({"made_with": "kinds.py: cbor2, pynacl, blake3", "secret": "01" * 32, "kinds": rows}, indent=1))
