"""What an etcd member keeps, as far as this plugin uses it: keys with their history, and leases.

It speaks the JSON of the gateway, so that the plugin's own reading and writing of it is run too.
It shares no code with the plugin: what is misunderstood twice the same way would not be found.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

Document = dict[str, Any]


class DeclinedError(Exception):
    """The member answers with an error; nothing was done.

    Attributes:
        code: gRPC's.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(slots=True)
class _Item:
    key: bytes
    value: bytes
    created: int
    modified: int
    version: int
    lease: int

    def document(self) -> Document:
        fields = {
            "key": base64.b64encode(self.key).decode(),
            "create_revision": str(self.created),
            "mod_revision": str(self.modified),
            "version": str(self.version),
            "value": base64.b64encode(self.value).decode(),
            "lease": str(self.lease),
        }
        return {name: text for name, text in fields.items() if text not in ("", "0")}


@dataclass(slots=True)
class EtcdState:
    """Carries out what Raft has ordered: a :class:`~constellation_core.consensus.StateMachine`.

    Attributes:
        revision: of the keys.
        term: Raft's, of the last entry.
        leases: ttl by number.
        compacted: what happened up to this revision is forgotten.
    """

    revision: int = 1
    term: int = 0
    leases: dict[int, int] = field(default_factory=dict)
    compacted: int = 0
    _items: dict[bytes, _Item] = field(default_factory=dict)
    _history: list[tuple[int, list[Document]]] = field(default_factory=list)

    def apply(self, index: int, operation: bytes) -> bytes:  # noqa: ARG002
        """Carry out ``[term, path, body]``; the answer, or ``{"declined": [code, message]}``."""
        self.term, path, body = json.loads(operation)
        try:
            return json.dumps(self._carry_out(path, body)).encode()
        except DeclinedError as error:
            return json.dumps({"declined": [error.code, str(error)]}).encode()

    def snapshot(self) -> bytes:
        """Not needed."""
        raise NotImplementedError

    def restore(self, snapshot: bytes) -> None:
        """Not needed."""
        raise NotImplementedError

    def header(self) -> Document:
        """Of an answer that is given now."""
        return {"cluster_id": "7", "revision": str(self.revision), "raft_term": str(self.term)}

    def range(self, body: Document) -> Document:
        """Answer a range."""
        first = base64.b64decode(body["key"])
        end = base64.b64decode(body.get("range_end", ""))
        found = [
            item
            for key, item in sorted(self._items.items())
            if key == first or (end and first <= key < end)
        ]
        if body.get("sort_target") == "MOD":
            found.sort(key=lambda item: item.modified)
        answer: Document = {"header": self.header(), "count": str(len(found))}
        if not body.get("count_only"):
            limit = int(body.get("limit", 0)) or len(found)
            answer["kvs"] = [item.document() for item in found[:limit]]
        return answer

    def events(self, body: Document, start: int) -> list[Document]:
        """What happened from a revision on, as elements of a watch."""
        first = base64.b64decode(body["key"])
        end = base64.b64decode(body.get("range_end", ""))
        elements = []
        for revision, events in self._history:
            if revision < start:
                continue
            wanted = []
            for event in events:
                key = base64.b64decode(event["kv"]["key"])
                filtered = event.get("type") == "DELETE" and "NODELETE" in body.get("filters", ())
                if (key == first or (end and first <= key < end)) and not filtered:
                    wanted.append(event)
            if wanted:
                elements.append({"header": self.header(), "events": wanted})
        return elements

    def compact(self) -> None:
        """Forget what happened."""
        self.compacted = self.revision
        self._history.clear()

    def _carry_out(self, path: str, body: Document) -> Document:
        match path:
            case "/v3/kv/txn":
                return self._txn(body)
            case "/v3/lease/grant":
                number = int(body["ID"])
                if number in self.leases:
                    raise DeclinedError(9, "etcdserver: lease already exists")
                self.leases[number] = int(body["TTL"])
                return {"header": self.header(), "ID": body["ID"], "TTL": body["TTL"]}
            case "/v3/lease/revoke":
                number = int(body["ID"])
                if self.leases.pop(number, None) is None:
                    raise DeclinedError(5, "etcdserver: requested lease not found")
                self._delete([k for k, item in self._items.items() if item.lease == number])
                return {"header": self.header()}
        return {"header": self.header()}

    def _txn(self, body: Document) -> Document:
        holds = all(self._compare(each) for each in body.get("compare", ()))
        operations = body.get("success" if holds else "failure", ())
        for operation in operations:
            lease = int(operation.get("request_put", {}).get("lease", 0))
            if lease and lease not in self.leases:
                raise DeclinedError(5, "etcdserver: requested lease not found")
        responses = []
        events: list[Document] = []
        for operation in operations:
            match operation:
                case {"request_range": asked}:
                    responses.append({"response_range": self.range(asked)})
                case {"request_put": asked}:
                    events.append(self._put(asked))
                    responses.append({"response_put": {}})
                case {"request_delete_range": asked}:
                    key = base64.b64decode(asked["key"])
                    events += self._removed([key] if key in self._items else [])
                    responses.append({"response_delete_range": {}})
        self._happened(events)
        answer = {"header": self.header(), "responses": responses}
        return answer | ({"succeeded": True} if holds else {})

    def _compare(self, comparison: Document) -> bool:
        item = self._items.get(base64.b64decode(comparison["key"]))
        match comparison:
            case {"target": "MOD", "mod_revision": text}:
                return int(text) == (item.modified if item else 0)
            case {"target": "CREATE", "create_revision": text}:
                return int(text) == (item.created if item else 0)
        raise DeclinedError(3, "an unknown comparison")

    def _put(self, asked: Document) -> Document:
        key, value = base64.b64decode(asked["key"]), base64.b64decode(asked.get("value", ""))
        before, now = self._items.get(key), self.revision + 1
        created, version = (before.created, before.version) if before else (now, 0)
        item = _Item(key, value, created, now, version + 1, int(asked.get("lease", 0)))
        self._items[key] = item
        return {"kv": item.document()}

    def _removed(self, keys: list[bytes]) -> list[Document]:
        for key in keys:
            del self._items[key]
        revision = str(self.revision + 1)
        return [
            {
                "type": "DELETE",
                "kv": {"key": base64.b64encode(key).decode(), "mod_revision": revision},
            }
            for key in keys
        ]

    def _delete(self, keys: list[bytes]) -> None:
        self._happened(self._removed(keys))

    def _happened(self, events: list[Document]) -> None:
        if events:
            self.revision += 1
            self._history.append((self.revision, events))
