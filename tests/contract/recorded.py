"""Owns sequences of operations that are played on an API server, and what it answered, in words that any server shares.

The answers of the real API server are on record (recorded.json); the fake has to give the same, the simulation rests
on that. What differs from run to run (uids, versions, names) is told as a relation: which object, newer or the same.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reserved_capacity.adapters.access import Access
from reserved_capacity.adapters.kubernetes import KubernetesCluster
from reserved_capacity.ports import (
    ACCELERATOR_CLASSES,
    CONTROLLER_REVISIONS,
    MODEL_INSTANCES,
    SERVICES,
    ApiError,
    JsonObject,
    Precondition,
    Ref,
    Resource,
    Throttled,
)

RECORD = Path(__file__).with_name("recorded.json")
SEEDS = range(4)
STEPS = 150
LABEL = "recorded"
NOBODY = "11111111-1111-4111-8111-111111111111"
HOLD = "example.com/hold"

KINDS: Mapping[str, Resource] = {
    "class": ACCELERATOR_CLASSES,
    "instance": MODEL_INSTANCES,
    "service": SERVICES,
    "revision": CONTROLLER_REVISIONS,
}
WITH_STATUS = ("class", "instance", "class", "instance", "revision")  # the last has none: not found
NAMES = ("x", "y")
SELECTORS = ("", "turn=1", "turn!=1", "turn", "!turn", "turn in (0, 2)", "turn notin (0, 2)")


_CHANGES: Mapping[str, Sequence[str]] = {
    "create": ("", "", "held"),
    "patch": (
        *("turn 0", "turn 1", "turn 2", "no turn", "hidden", "shown"),
        *("held", "held more", "let go", "spec 1", "spec 2", "nothing"),
    ),
    "status": ("status 1", "status 2", "status 2 and spec 2"),
    "list": SELECTORS,
}


@dataclass(frozen=True, slots=True)
class Operation:
    """`seen`: what it is decided on: the newest answer, an older one, the uid alone, or somebody else's uid."""

    verb: str
    kind: str
    name: str
    seen: str = "newest"
    change: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.verb, self.kind, self.name, self.change, f"on {self.seen}")))


def operations(seed: int) -> list[Operation]:
    """Creates, patches, statuses, deletes and reads in any order, on few objects: so they meet."""
    chance = random.Random(seed)
    made = []
    for _ in range(STEPS):
        kind, name = chance.choice([*KINDS]), chance.choices(NAMES, weights=(3, 1))[0]
        verb = chance.choices(("create", "patch", "status", "delete", "get", "list"), weights=(25, 35, 12, 13, 5, 10))[
            0
        ]
        seen = chance.choices(("newest", "older", "uid", "nobody"), weights=(60, 15, 15, 10))[0]
        changes = _CHANGES.get(verb)
        change = chance.choice(changes) if changes else ""
        if verb == "status":
            kind = chance.choice(WITH_STATUS)
        made.append(Operation(verb, kind, name, seen, change))
    return made


@dataclass(slots=True)
class Player:
    """Plays operations through the operator's own client. `run` names what this run makes, on a shared cluster."""

    access: Access
    run: str
    namespace: str = "default"
    _known: dict[Ref, list[JsonObject]] = field(default_factory=dict)
    _names: dict[str, str] = field(default_factory=dict)
    _cluster: KubernetesCluster = field(init=False)

    def __post_init__(self) -> None:
        self._cluster = KubernetesCluster(self.access.api_client(), reload=self.access.reload)

    async def play(self, seed: int) -> list[str]:
        """Operation and answer, one after the other."""
        self._known.clear()
        self._names.clear()
        return [f"{operation} -> {await self._answer(seed, operation)}" for operation in operations(seed)]

    async def clean(self) -> None:
        """Others use the cluster, too."""
        for ref in [self.ref(seed, kind, name) for seed in SEEDS for kind in KINDS for name in NAMES]:
            if (left := await self._cluster.get(ref)) is None:
                continue
            any_version = Precondition(left["metadata"]["uid"], None)
            if left["metadata"].get("finalizers"):
                await self._cluster.patch(ref, any_version, {"metadata": {"finalizers": None}})
            await self._cluster.delete(ref, any_version)

    # --------------------------------------------------------------------------------------------------------- playing

    async def _answer(self, seed: int, operation: Operation) -> str:
        try:
            return await self._carried_out(seed, operation)
        except ApiError as error:
            return type(error).__name__

    async def _carried_out(self, seed: int, operation: Operation) -> str:
        ref = self.ref(seed, operation.kind, operation.name)
        match operation.verb:
            case "create":
                return self._told(ref, await self._cluster.create(ref.resource, self._body(ref, operation)))
            case "patch":
                merge = self._merge(ref, operation)
                return self._told(ref, await self._cluster.patch(ref, self._seen(ref, operation.seen), merge))
            case "status":
                body = self._status(ref, operation)
                return self._told(ref, await self._cluster.replace_status(ref, self._seen(ref, operation.seen), body))
            case "delete":
                await self._cluster.delete(ref, self._seen(ref, operation.seen))
                return "done"
            case "get":
                found = await self._cluster.get(ref)
                return "none" if found is None else self._told(ref, found)
        selector = ",".join(filter(None, (f"{LABEL}={self._place(seed)}", operation.change)))
        listing = await self._cluster.list(ref.resource, label_selector=selector)
        newest = max((int(obj["metadata"]["resourceVersion"]) for obj in listing.items), default=0)
        assert int(listing.resource_version) >= newest, "a LIST is as new as all that it holds"
        return (
            " ".join(obj["metadata"]["name"].removeprefix(f"{self._place(seed)}-") for obj in listing.items) or "none"
        )

    def ref(self, seed: int, kind: str, name: str) -> Ref:
        resource = KINDS[kind]
        return Ref(resource, self.namespace if resource.namespaced else "", f"{self._place(seed)}-{name}")

    def _place(self, seed: int) -> str:
        return f"{self.run}-{seed}"

    def _seen(self, ref: Ref, seen: str) -> Precondition:
        known = self._known.get(ref)
        if not known or seen == "nobody":
            return Precondition(NOBODY, None)
        newest = known[-1]["metadata"]
        older = known[-2 if len(known) > 1 else -1]["metadata"]
        chosen = older if seen == "older" else newest
        return Precondition(chosen["uid"], None if seen == "uid" else chosen["resourceVersion"])

    # --------------------------------------------------------------------------------------------------------- content

    def _body(self, ref: Ref, operation: Operation) -> JsonObject:
        place = {"namespace": ref.namespace} if ref.namespace else {}
        finalizers = {"finalizers": [HOLD]} if operation.change == "held" else {}
        labels = {LABEL: ref.name.rsplit("-", 1)[0]}
        return {"metadata": {"name": ref.name, **place, "labels": labels, **finalizers}, **_content(ref.resource, 0)}

    def _merge(self, ref: Ref, operation: Operation) -> JsonObject:
        word, _, value = operation.change.partition(" ")
        match word:
            case "turn":
                return {"metadata": {"labels": {"turn": value}}}
            case "no":
                return {"metadata": {"labels": {"turn": None}}}
            case "hidden":
                return {"metadata": {"labels": {LABEL: "hidden"}}}
            case "shown":
                return {"metadata": {"labels": {LABEL: ref.name.rsplit("-", 1)[0]}}}
            case "held":
                return {"metadata": {"finalizers": [HOLD, "example.com/second"] if value else [HOLD]}}
            case "let":
                return {"metadata": {"finalizers": None}}
            case "spec":
                return _content(ref.resource, int(value))
        return {}

    def _status(self, ref: Ref, operation: Operation) -> JsonObject:
        known = self._known.get(ref)
        body = dict(known[-1]) if known else {"metadata": {"name": ref.name}, **_content(ref.resource, 0)}
        if operation.change.endswith("spec 2"):
            body |= _content(ref.resource, 2)
        return body | {"status": {"summary": operation.change}}

    # --------------------------------------------------------------------------------------------------------- telling

    def _told(self, ref: Ref, obj: JsonObject) -> str:
        known = self._known.setdefault(ref, [])
        before = [each for each in known if each["metadata"]["uid"] == obj["metadata"]["uid"]]
        told = self.words(ref.resource, obj, self._names)
        if before:
            than, version = (int(each["metadata"]["resourceVersion"]) for each in (before[-1], obj))
            told += ", newer" if version > than else ", same version" if version == than else ", older"
        known.append(obj)
        return told

    @staticmethod
    def words(resource: Resource, obj: JsonObject, names: dict[str, str]) -> str:
        """`names` are the uids that were told before."""
        metadata, labels = obj["metadata"], dict(obj["metadata"].get("labels") or {})
        told = [names.setdefault(metadata["uid"], f"uid {len(names)}")]
        told += ["hidden"] if labels.pop(LABEL, "hidden") == "hidden" else []
        told += [f"{key} {value}" for key, value in sorted(labels.items())]
        told += [f"held by {len(metadata['finalizers'])}"] if metadata.get("finalizers") else []
        told += ["deleted"] if "deletionTimestamp" in metadata else []
        if resource in (ACCELERATOR_CLASSES, MODEL_INSTANCES):
            told += [f"generation {metadata.get('generation')}", (obj.get("status") or {}).get("summary", "no status")]
        return ", ".join([*told, f"content {_number(resource, obj)}"])

    # -------------------------------------------------------------------------------------------------------- watching

    async def version(self, kind: str) -> str:
        while True:
            try:
                listing = await self._cluster.list(KINDS[kind], label_selector=f"{LABEL}=nobody")
            except Throttled as error:  # its CRD was made a moment ago
                await asyncio.sleep(error.retry_after)
                continue
            return listing.resource_version

    async def watched_all(self, since: Mapping[str, str], seed: int) -> JsonObject:
        events = await asyncio.gather(*(self.watched(kind, since[kind], seed) for kind in KINDS))
        return dict(zip(KINDS, events, strict=True))

    async def watched(self, kind: str, since: str, seed: int) -> list[str]:
        """All events of the seed's objects since that version, in order."""
        resource = KINDS[kind]
        api = f"apis/{resource.group}" if resource.group else "api"
        query = {
            "watch": "true",
            "resourceVersion": since,
            "timeoutSeconds": "1",
            "labelSelector": f"{LABEL}={self._place(seed)}",
        }
        url = f"{self.access.server}/{api}/{resource.version}/{resource.plural}"
        async with (
            self.access.session(lambda _: None, _nowhere) as session,
            session.get(url, params=query) as response,
        ):
            lines = (await response.text()).splitlines()
        events: list[str] = []
        names: dict[str, str] = {}
        before = 0
        for line in lines:
            event = json.loads(line)
            version = int(event["object"]["metadata"]["resourceVersion"])
            assert version > before, "events come in the order of their versions"
            before = version
            name = event["object"]["metadata"]["name"].removeprefix(f"{self._place(seed)}-")
            events.append(f"{event['type']} {name}: {self.words(resource, event['object'], names)}")
        return events


def _content(resource: Resource, number: int) -> JsonObject:
    """Something valid that differs by number."""
    if resource == ACCELERATOR_CLASSES:
        labels = {"recorded": str(number)}
        gpus = {"gpuResource": "nvidia.com/gpu", "gpusPerNode": 8, "computeUnitsPerNode": 800}
        return {"spec": {"nodeSelector": {"matchLabels": labels}, **gpus}}
    if resource == MODEL_INSTANCES:
        return {"spec": {"poolRef": "p", "offering": "o", "snapshot": "s", "instances": number}}
    if resource == SERVICES:
        ports = [{"name": "http", "port": 80 + number, "targetPort": 80, "protocol": "TCP"}]
        return {"spec": {"ports": ports, "selector": {"app": "x"}}}
    return {"revision": number, "data": {}}


def _number(resource: Resource, obj: JsonObject) -> int:
    if resource == ACCELERATOR_CLASSES:
        return int(obj["spec"]["nodeSelector"]["matchLabels"]["recorded"])
    if resource == MODEL_INSTANCES:
        return int(obj["spec"]["instances"])
    if resource == SERVICES:
        return int(obj["spec"]["ports"][0]["port"]) - 80
    return int(obj["revision"])


async def play_operations(access: Access, run: str) -> JsonObject:
    """Every seed: what was answered, and what a watch told of it."""
    player = Player(access, run)
    since = {kind: await player.version(kind) for kind in KINDS}
    answers = {f"answers to seed {seed}": await player.play(seed) for seed in SEEDS}
    events = {f"events of seed {seed}": await player.watched_all(since, seed) for seed in SEEDS}
    await player.clean()
    return {**answers, **events}


async def _nowhere(_path: str) -> None:
    """A watch that was given a version begins there."""
