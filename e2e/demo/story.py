"""What the demo does, in the order in which a provider and then a customer do it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence

from e2e.demo.shell import Shell

_ODD_COMMITMENT = [
    {
        "op": "add",
        "path": "/spec/commitments/-",
        "value": {"id": "po-10023-2", "computeUnits": 150, "term": "OneYear", "provisionBy": "2027-06-01"},
    }
]
_CHEAPER = [{"op": "replace", "path": "/spec/computeUnits/0/pricePerComputeUnitMonth", "value": "180.00"}]


def install(shell: Shell, cluster_dir: str) -> None:
    """The provider's part before the operator starts: nodes and CRDs."""
    shell.tell("The provider has two nodes of 8 GPUs. KWOK plays them: pods become Ready there and run nothing.")
    shell.run(f"env CLUSTER_DIR={shlex.quote(cluster_dir)} python -m e2e.cluster nodes --count 2 --prefix demo")
    shell.tell("The provider installs the CRDs, the admission policies and the operator's rights.")
    shell.run("kubectl apply --server-side -k manifests/install")
    shell.run("kubectl wait --for=condition=Established crd --all --timeout=30s")


def buy_and_serve(shell: Shell) -> None:
    """From the catalogue to a model that serves."""
    shell.tell("The catalogue, the prices, and one customer: 600 compute units for a year, GPT-4 Turbo twice on them.")
    shell.run("kubectl apply --server-side -k manifests/samples")
    shell.tell("The pool is Ready when nodes carry its claim, the model when its members answer.")
    shell.run("kubectl wait cup/prod -n acme --for=condition=Ready --timeout=60s", timeout_seconds=75)
    shell.run("kubectl wait mi/chat -n acme --for=condition=Ready --timeout=60s", timeout_seconds=75)
    shell.run("kubectl get reserved -A")
    shell.run("kubectl describe cup/prod -n acme", since="Status:")
    shell.run("kubectl get pods -n acme -o wide")
    shell.run("kubectl reserved status -n acme")


def wait_for_capacity(shell: Shell) -> None:
    """Requests that cannot be met say what they need, and disturb nothing."""
    shell.tell("The pool is full. Another model waits, and says for what.")
    shell.run("kubectl apply --server-side -f manifests/samples/customer/fast.yaml")
    _expect(shell, "fast", "CapacityReserved", "WaitingForComputeUnits")
    shell.tell("Three instances are more than the customer bought. The two keep serving.")
    shell.run("kubectl scale mi/chat -n acme --replicas=3")
    _expect(shell, "chat", "Accepted", "ExceedsPool")
    shell.tell("One instance is below the minimum of GPT-4 Turbo. The two keep serving.")
    shell.run("kubectl scale mi/chat -n acme --replicas=1")
    _expect(shell, "chat", "Accepted", "BelowMinimumInstances")
    shell.tell("No instance gives the units back once the pods are gone, and the model that waited gets its place.")
    shell.run("kubectl scale mi/chat -n acme --replicas=0")
    shell.run("kubectl wait mi/fast -n acme --for=condition=Ready --timeout=60s", timeout_seconds=75)
    shell.run("kubectl get cup,mi -n acme")
    shell.run("kubectl get pods -n acme -o wide")


def be_refused(shell: Shell) -> None:
    """What a contract does not allow. The API server refuses it alone, with or without an operator."""
    shell.tell("The API server refuses what breaks the contract: half a block, ...")
    shell.refused(_patch("cup/prod -n acme", _ODD_COMMITMENT), because="multiple of 100")
    shell.tell("... a price that changes after it was published, ...")
    shell.refused(_patch("pricebook/usd", _CHEAPER), because="append-only")
    shell.tell("... and the deletion of a pool whose term runs.")
    shell.refused("kubectl delete cup/prod -n acme --timeout=20s", because="commitment")


def _expect(shell: Shell, instance: str, condition: str, reason: str) -> None:
    path = f'{{.status.conditions[?(@.type=="{condition}")].reason}}'
    shell.run(f"kubectl wait mi/{instance} -n acme --for=jsonpath='{path}'={reason} --timeout=30s")
    shell.run("kubectl get mi -n acme")
    shell.run(f"kubectl get mi/{instance} -n acme -o jsonpath='{{.status.summary}}'")


def _patch(target: str, operations: Sequence[Mapping[str, object]]) -> str:
    return f"kubectl patch {target} --type=json -p '{json.dumps(operations)}'"
