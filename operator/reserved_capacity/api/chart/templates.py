"""Owns how a manifest of `crds/` and `manifests/install` becomes a template of the chart.

As text, so that the comments stay. Every change counts its matches: a manifest that no longer looks as expected stops the
generator instead of giving a chart that installs the wrong account.
"""

from __future__ import annotations

import re
from typing import Final

import yaml

from reserved_capacity.api.meta import OPERATOR_ACCOUNT, OPERATOR_NAMESPACE, OPERATOR_USER

_PART_OF: Final = "    app.kubernetes.io/part-of: reserved-capacity\n"
_LABELS: Final = '    {{- include "reserved-capacity.labels" . | nindent 4 }}\n'
_ACCOUNT_NAME: Final = '{{ include "reserved-capacity.serviceAccountName" . }}'
_USER: Final = f"system:serviceaccount:{{{{ .Release.Namespace }}}}:{_ACCOUNT_NAME}"


class UnexpectedManifestError(Exception):
    """A manifest is not what the chart's generator was written for."""


def crd(source: str, text: str) -> str:
    """Upgraded with the release, and left in the cluster when it is uninstalled."""
    name = yaml.safe_load(text)["metadata"]["name"]
    annotations = (
        "  {{- if or .Values.crds.keep .Values.crds.annotations }}\n"
        "  annotations:\n"
        "    {{- if .Values.crds.keep }}\n"
        "    helm.sh/resource-policy: keep\n"
        "    {{- end }}\n"
        "    {{- with .Values.crds.annotations }}\n"
        "    {{- toYaml . | nindent 4 }}\n"
        "    {{- end }}\n"
        "  {{- end }}\n"
    )
    metadata = f"metadata:\n  name: {name}\n"
    body = _replaced(_escaped(_without_header(text)), metadata, f"{metadata}  labels:\n{_LABELS}{annotations}", 1)
    return _template(source, body, condition=".Values.crds.install")


def policy(source: str, text: str) -> str:
    """A policy and its binding. Those that guard contracts stay with the CRDs; those that bind the operator go with it."""
    body = _escaped(text)
    if OPERATOR_USER in body:
        body = _replaced(body, OPERATOR_USER, _USER, 1)
    else:
        keep = "  {{- if .Values.crds.keep }}\n  annotations:\n    helm.sh/resource-policy: keep\n  {{- end }}\n"
        body = _replaced(body, f"  labels:\n{_PART_OF}", f"{keep}  labels:\n{_PART_OF}", 2)
    return _template(source, _replaced(body, _PART_OF, _LABELS, 2))


def operator_rights(source: str, text: str) -> str:
    """The operator's roles and bindings, in the release's namespace and for its account."""
    body = _escaped(text)
    kinds = [document["kind"] for document in yaml.safe_load_all(text)]
    if sorted(kinds) != ["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"]:
        raise UnexpectedManifestError(f"{source} holds {kinds}")
    # Of the Role, the RoleBinding and both subjects.
    body = _replaced(body, f"  namespace: {OPERATOR_NAMESPACE}\n", "  namespace: {{ .Release.Namespace }}\n", 4)
    subject = "- kind: ServiceAccount\n  name: "
    body = _replaced(body, f"{subject}{OPERATOR_ACCOUNT}\n", f"{subject}{_ACCOUNT_NAME}\n", 2)
    return _template(source, _replaced(body, _PART_OF, _LABELS, len(kinds)))


def user_roles(source: str, text: str) -> str:
    """The ClusterRoles for people."""
    count = sum(1 for _ in yaml.safe_load_all(text))
    return _template(source, _replaced(_escaped(text), _PART_OF, _LABELS, count), condition=".Values.userRoles.enabled")


def alerts(text: str) -> str:
    """The rule groups alone, whether they are written as Prometheus' own file or as a PrometheusRule."""
    document = yaml.safe_load(text)
    groups = document.get("spec", document)["groups"]
    dumped: str = yaml.dump({"groups": groups}, Dumper=_LiteralDumper, sort_keys=False, width=120, allow_unicode=True)
    return dumped


class _LiteralDumper(yaml.SafeDumper):
    """An expression of several lines stays one."""


def _text(dumper: _LiteralDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_LiteralDumper.add_representer(str, _text)


def header(source: str) -> str:
    return f"# Generated from {source} by `python -m reserved_capacity.api.chart`; do not edit."


def _template(source: str, body: str, condition: str = "") -> str:
    text = f"{header(source)}\n{body.strip()}\n"
    if OPERATOR_USER in text:
        raise UnexpectedManifestError(
            f"{source} names the operator's account in a place that the chart does not fill in"
        )
    return f"{{{{- if {condition} }}}}\n{text}{{{{- end }}}}\n" if condition else text


def _escaped(text: str) -> str:
    return text.replace("{{", '{{ "{{" }}')


def _without_header(text: str) -> str:
    return re.sub(r"\A(#[^\n]*\n)+", "", text)


def _replaced(text: str, old: str, new: str, count: int) -> str:
    found = text.count(old)
    if found != count:
        raise UnexpectedManifestError(f"{old.strip()!r} is there {found} times, not {count}")
    return text.replace(old, new)
