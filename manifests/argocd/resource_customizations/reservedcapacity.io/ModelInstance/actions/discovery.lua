local actions = {}
if obj.spec.suspend then
  actions["resume"] = {["iconClass"] = "fa fa-fw fa-play", ["displayName"] = "Resume"}
else
  actions["suspend"] = {["iconClass"] = "fa fa-fw fa-pause", ["displayName"] = "Suspend (units stay held and paid)"}
end
return actions
