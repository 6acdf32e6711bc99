obj.spec.upgrade = obj.spec.upgrade or {}
obj.spec.upgrade.paused = false
return obj
