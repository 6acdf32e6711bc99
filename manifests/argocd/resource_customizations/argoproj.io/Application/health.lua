-- Health of an Application, which Argo CD itself no longer has (argo-cd #3781): without it a sync wave of Applications
-- does not wait for the one before. The same as the script in Argo CD's own manual.
local hs = {status = "Progressing", message = ""}
if obj.status ~= nil and obj.status.health ~= nil and obj.status.health.status ~= nil then
  hs.status = obj.status.health.status
  if obj.status.health.message ~= nil then
    hs.message = obj.status.health.message
  end
end
return hs
