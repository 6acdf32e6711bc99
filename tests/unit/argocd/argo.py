"""Runs Argo CD's Lua as Argo CD does: the object as global `obj`, one table as the answer, and hardly any library.

Argo's engine is gopher-lua, a Lua 5.1 with goto; LuaJIT is the nearest one that Python has. A script that comes from the
ConfigMap argocd-cm gets base, package and table: no string, no math, no methods on strings (argo-cd, util/lua/lua.go; the
two functions of os that it also has are left out here).
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CUSTOMIZATIONS = Path(__file__).parents[3] / "manifests/argocd/resource_customizations"
GROUP = CUSTOMIZATIONS / "reservedcapacity.io"
STATUSES = frozenset({"Healthy", "Progressing", "Degraded", "Suspended", "Missing", "Unknown"})
_NOT_GIVEN = ("bit", "coroutine", "debug", "gcinfo", "io", "jit", "math", "os", "python", "string")
_luajit = importlib.import_module("lupa.luajit21")  # a compiled module without types

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Health:
    status: str
    message: str


class _Loader(yaml.SafeLoader):
    """YAML as Kubernetes reads it: a timestamp is a string."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse(text: str) -> list[Any]:
    return [each for each in yaml.load_all(text, _Loader) if each]


def load(path: Path) -> Any:
    """The one document of a file."""
    (document,) = parse(path.read_text())
    return document


def health_of(obj: Object, customizations: Path = CUSTOMIZATIONS) -> Health:
    """What Argo CD shows for this object."""
    answer = run((_directory(obj, customizations) / "health.lua").read_text(), obj)
    health = Health(answer["status"], answer.get("message", ""))
    assert health.status in STATUSES, f"Argo CD would show Unknown, an invalid health status: {health}"
    return health


def actions_of(obj: Object, customizations: Path = CUSTOMIZATIONS) -> list[Object]:
    """The actions that Argo CD offers for this object."""
    offered = run((_directory(obj, customizations) / "actions/discovery.lua").read_text(), obj)
    return [{"name": name, **details} for name, details in sorted(offered.items())]


def acted_on(obj: Object, action: str, customizations: Path = CUSTOMIZATIONS) -> Object:
    """The object as this action would have it."""
    answer = run((_directory(obj, customizations) / "actions" / action / "action.lua").read_text(), obj)
    restored: Object = _with_empty_maps(answer, obj)
    return restored


def _directory(obj: Object, customizations: Path) -> Path:
    return customizations / str(obj["apiVersion"]).partition("/")[0] / str(obj["kind"])


def run(script: str, obj: Object) -> Any:
    """The value that the script returns, as Python."""
    lua = _luajit.LuaRuntime(unpack_returned_tuples=False, register_eval=False, register_builtins=False)
    lua.execute("debug.setmetatable('', nil)")
    names = lua.globals()
    for name in _NOT_GIVEN:
        names[name] = names["package"]["loaded"][name] = None
    names["actionParams"] = lua.table()
    names["obj"] = _to_lua(lua, obj)
    return _to_python(lua.execute(script))


def _to_lua(lua: Any, value: Any) -> Any:
    if isinstance(value, dict):
        items: Any = value.items()
    elif isinstance(value, list):
        items = enumerate(value, 1)
    else:
        return value
    table = lua.table()
    for key, item in items:
        if item is not None:
            table[key] = _to_lua(lua, item)
    return table


def _to_python(value: Any) -> Any:
    """As gopher-json has it: a table with the keys 1..n is a list, and so is an empty one."""
    if _luajit.lua_type(value) != "table":
        return int(value) if isinstance(value, float) and value.is_integer() else value
    pairs = {key: _to_python(item) for key, item in value.items()}
    return list(pairs.values()) if list(pairs) == list(range(1, len(pairs) + 1)) else pairs


def _with_empty_maps(new: Any, old: Any) -> Any:
    """Argo's `cleanReturnedObj`: what was an empty map before is not an empty list now."""
    if new == [] and isinstance(old, dict):
        return {}
    if isinstance(new, dict) and isinstance(old, dict):
        return {key: _with_empty_maps(item, old.get(key)) for key, item in new.items()}
    if isinstance(new, list) and isinstance(old, list):
        rest = new[len(old) :]
        return [_with_empty_maps(item, before) for item, before in zip(new, old, strict=False)] + rest
    return new


def body_of(script: str) -> str:
    """A health script without what may differ between kinds: its comment, and who has stopped it."""
    code = "\n".join(line for line in script.splitlines() if not line.startswith("--"))
    return re.sub(r"^(local stopped_by_a_person = )\{.*\}$", r"\1{}", code, flags=re.MULTILINE)
