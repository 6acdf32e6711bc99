-- Health of PriceBook. Its `Ready` condition already draws the line that Argo CD draws:
--   True     this generation of the spec is fulfilled                   Healthy
--   Unknown  it is on its way and gets there by itself                  Progressing
--   False    it stays as it is until somebody acts: see the message     Degraded
-- False here: a price for an offering that does not exist (UnknownOffering), or a day without a price (PriceGap).
-- The status follows kstatus: observedGeneration, Ready, and Reconciling and Stalled only while they are True.
local stopped_by_a_person = {}

local hs = {status = "Progressing", message = "Waiting for the operator"}
if obj.metadata.deletionTimestamp ~= nil then
  hs.message = "Pending deletion"
  return hs
end
if obj.status == nil or obj.status.conditions == nil then
  return hs
end
if obj.status.observedGeneration ~= obj.metadata.generation then
  hs.message = "Waiting for the operator to see the newest spec"
  return hs
end

local ready = nil
local stopped = false
for _, condition in ipairs(obj.status.conditions) do
  if condition.type == "Ready" then
    ready = condition
  end
  if stopped_by_a_person[condition.reason] then
    stopped = true
  end
end
if ready == nil then
  return hs
end

hs.message = ready.message
if ready.status == "False" then
  hs.status = "Degraded"
elseif stopped then
  hs.status = "Suspended"
elseif ready.status == "True" then
  hs.status = "Healthy"
end
return hs
