"""Owns what happens to contracts: the end of a term comes near, somebody renews or not, a reduction is agreed.

Ends come seldom, and all else would see less of its own if they came often: so these happen only where a Focus names them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from reserved_capacity.ports import COMPUTE_UNIT_POOLS
from tests.fakes.controllers import ref_of

if TYPE_CHECKING:
    from tests.simulation.users import Users


def reach_end(users: Users) -> bool:
    """To about the end of a term: days ahead, in the middle of the drain, or over it."""
    ends = [
        each["termEnd"]
        for pool in users.cluster.all_stored(COMPUTE_UNIT_POOLS)
        for each in (pool.get("status") or {}).get("commitments") or ()
        if each.get("termEnd") and each["state"] != "Expired"
    ]
    if not ends:
        return False
    ahead = timedelta(minutes=users.chance.choice((-1, 0, 20, 59, 5 * 24 * 60)))
    delta = datetime.fromisoformat(users.chance.choice(ends)) - ahead - users.cluster.now()
    if delta <= timedelta():
        return False
    users.wait(delta)
    return True


def amend(users: Users) -> bool:
    if (pool := users.any_of(COMPUTE_UNIT_POOLS)) is None:
        return False
    agreed, order = pool["spec"].get("amendments") or [], users.chance.choice(pool["spec"]["commitments"])
    day = (users.cluster.now() + timedelta(days=users.chance.choice((-3, 0, 1, 2, 20)))).strftime("%Y-%m-%d")
    entry = {"commitment": order["id"], "at": day, "computeUnits": users.chance.choice((0, 100, 200)), "reason": "-"}
    known = any((each["commitment"], each["at"]) == (order["id"], day) for each in agreed)
    if known or entry["computeUnits"] >= order["computeUnits"]:
        return False
    users.cluster.user_patch(ref_of(COMPUTE_UNIT_POOLS, pool), {"spec": {"amendments": [*agreed, entry]}})
    return True


def choose_renewal(users: Users) -> bool:
    """Where it is not frozen yet."""
    if (pool := users.any_of(COMPUTE_UNIT_POOLS)) is None:
        return False
    states = {each["id"]: each["state"] for each in (pool.get("status") or {}).get("commitments") or ()}
    orders = [
        {**each, "renewal": {"policy": users.chance.choice(("Renew", "Expire"))}}
        if states.get(each["id"], "Ordered") in ("Ordered", "Provisioning", "Active")
        else each
        for each in pool["spec"]["commitments"]
    ]
    users.cluster.user_patch(ref_of(COMPUTE_UNIT_POOLS, pool), {"spec": {"commitments": orders}})
    return True


ENDS: Mapping[str, Callable[[Users], bool]] = {
    "reach_end": reach_end,
    "amend": amend,
    "choose_renewal": choose_renewal,
}
WEIGHTS: Mapping[str, float] = {"reach_end": 1, "amend": 0.3, "choose_renewal": 0.3}
