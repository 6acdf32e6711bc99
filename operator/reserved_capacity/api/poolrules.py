"""Update rules of a ComputeUnitPool that need its status: what runs stays as it was ordered.

They stand at the root because only there a rule sees `oldSelf.status`. They work on the state that the operator last
wrote, so a stopped operator opens no hole. Deletion is not seen by a CRD; manifests/install has the policy for it.
"""

from typing import Final

from reserved_capacity.api.base import Rule

# Lists, because CEL in a CRD has no named constants.
_RUNNING: Final = "['Provisioning', 'Active', 'Expiring', 'Renewing']"
_FIXED: Final = "['Provisioning', 'Active', 'Expiring', 'Renewing', 'Expired']"
_FROZEN: Final = "['Expiring', 'Renewing', 'Expired']"

_SAME_ORDER: Final = (
    "n.computeUnits == o.computeUnits && n.term == o.term && n.payment == o.payment && n.provisionBy == o.provisionBy"
)


def _commitment_rule(states: str, broken: str, what: str, remedy: str) -> Rule:
    """Refuses an update in which `broken` holds for a recorded commitment `s` in one of `states`.

    The message names the first such commitment and its end. `format`, not `+` or `string()`: the API server takes the
    length of the latter's result for unbounded and refuses the CRD.
    """
    violation = f"s.state in {states} && {broken}"
    end = "has(s.termEnd) ? 'its term ends at %s'.format([s.termEnd]) : 'its term has not begun'"
    sentence = f"spec.commitments: commitment %s is %s, {what}; %s: {remedy}"
    return Rule(
        "!has(oldSelf.status) || !has(oldSelf.status.commitments)"
        f" || !oldSelf.status.commitments.exists(s, {violation})",
        f"spec.commitments: a commitment that has begun, {what} before status.termEnd: {remedy}",
        message_expression=(
            f"oldSelf.status.commitments.filter(s, {violation}).map(s, '{sentence}'.format([s.id, s.state, {end}]))[0]"
        ),
        field_path=".spec.commitments",
    )


POOL_RULES: Final = (
    _commitment_rule(
        _RUNNING,
        "oldSelf.spec.commitments.exists(o, o.id == s.id) && !self.spec.commitments.exists(n, n.id == s.id)",
        "it cannot be removed",
        "put it back, unless it is renewed it ends by itself",
    ),
    _commitment_rule(
        _FIXED,
        f"oldSelf.spec.commitments.exists(o, o.id == s.id"
        f" && self.spec.commitments.exists(n, n.id == s.id && !({_SAME_ORDER})))",
        "its computeUnits, term, payment and provisionBy are fixed",
        "to grow add a commitment, an agreed reduction is an entry of spec.amendments",
    ),
    _commitment_rule(
        _FROZEN,
        "oldSelf.spec.commitments.exists(o, o.id == s.id"
        " && self.spec.commitments.exists(n, n.id == s.id && n.renewal != o.renewal))",
        "its renewal is frozen from 30 days before the end",
        "to keep the capacity add a commitment",
    ),
    # An amendment may go together with its commitment, once that one has expired.
    Rule(
        "!has(oldSelf.spec.amendments) || oldSelf.spec.amendments.all(o,"
        " !self.spec.commitments.exists(c, c.id == o.commitment)"
        " || (has(self.spec.amendments) && o in self.spec.amendments))",
        "spec.amendments is append-only: put the entry back, and add another one for a further reduction",
        field_path=".spec.amendments",
    ),
    Rule(
        "!has(self.spec.amendments) || self.spec.amendments.all(a,"
        " self.spec.commitments.exists(c, c.id == a.commitment))",
        "spec.amendments[].commitment must be the id of one of spec.commitments",
        field_path=".spec.amendments",
    ),
)
