-- Approval counts with the very id of the rollout, so that it never approves another one.
obj.spec.upgrade.canary.approvedRollout = obj.status.rollout.id
return obj
