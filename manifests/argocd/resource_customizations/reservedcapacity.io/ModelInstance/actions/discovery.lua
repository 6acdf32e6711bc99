-- Only what makes sense now is offered, judged as `kubectl reserved` judges it from what the status says.
local actions = {}
if obj.spec.suspend then
  actions["resume"] = {["iconClass"] = "fa fa-fw fa-play", ["displayName"] = "Resume"}
else
  actions["suspend"] = {["iconClass"] = "fa fa-fw fa-pause", ["displayName"] = "Suspend (units stay held and paid)"}
end

local upgrade = obj.spec.upgrade or {}
local phase = "Idle"
local current = nil
if obj.status ~= nil then
  if obj.status.rollout ~= nil and obj.status.rollout.phase ~= nil then
    phase = obj.status.rollout.phase
  end
  if obj.status.snapshot ~= nil then
    current = obj.status.snapshot.current
  end
end
if upgrade.paused then
  actions["resume-rollout"] = {["iconClass"] = "fa fa-fw fa-play", ["displayName"] = "Resume rollout"}
elseif phase ~= "Idle" and phase ~= "Halted" then
  actions["pause-rollout"] = {["iconClass"] = "fa fa-fw fa-pause", ["displayName"] = "Pause rollout"}
end

-- A status of an older spec tells of another rollout.
if obj.status == nil or obj.status.observedGeneration ~= obj.metadata.generation then
  return actions
end
if phase == "AwaitingApproval" and upgrade.canary ~= nil then
  actions["approve-rollout"] = {["iconClass"] = "fa fa-fw fa-check", ["displayName"] = "Approve rollout"}
end
-- The way back is known while somebody runs what ran before: the same rule as in rollback/action.lua.
local versions = 0
local profile = nil
for _, member in ipairs(obj.status.members or {}) do
  local other = member.snapshot ~= obj.spec.snapshot or member.profile ~= (obj.spec.profile or "default")
  if other and member.snapshot == current and member.profile ~= profile then
    profile = member.profile
    versions = versions + 1
  end
end
if versions == 1 then
  actions["rollback"] = {["iconClass"] = "fa fa-fw fa-undo", ["displayName"] = "Roll back"}
end
return actions
