--- Watches over the configuration of a running daemon or relay: archives what runs, and undoes a
-- change that nobody confirms. Looked at once a second, by a stat of one file.
local fs = require "peerup.fs"
local safety = require "peerup.config.safety"

local M = {}

---@class peerup.config_keeper
local Keeper = {}
Keeper.__index = Keeper

--- Makes one for a configuration that runs now.
---@param options {path: string, text: string, log: peerup.log, now: (fun(): integer)?,
---  reload: (fun(): table?, peerup.err?)?, on_change: fun(action: string)?}
--- reload takes the configuration up again and returns it; without it a change is undone, but only
--- the next start takes it up.
---@return peerup.config_keeper
function M.new(options)
  local self = setmetatable({ path = options.path, log = options.log, reload = options.reload,
    on_change = options.on_change, now = options.now or os.time,
    marker = safety.paths(options.path).marker }, Keeper)
  self:keep(options.text)
  return self
end

local function tell(self, action)
  if self.on_change then self.on_change(action) end
end

--- Notes that a change waits: it may be confirmed before the next look.
local function wait(self)
  if self.waiting then return end
  self.waiting = true
  self.log:info("a new config waits for 'peerup config confirm'")
  tell(self, "apply")
end

--- Archives a configuration that was taken up, unless it waits for its confirmation.
---@param text string
function Keeper:keep(text)
  if fs.exists(self.marker) then return wait(self) end
  local _, problem = safety.keep(self.path, text)
  if problem then
    self.log:warn("config not archived, 'config rollback' has none to go back to", "why",
      tostring(problem))
  end
end

--- To be called once a second.
function Keeper:tick()
  local is_there = fs.exists(self.marker)
  if not is_there and not self.waiting then return end
  local state, problem = safety.look(self.path, self.now())
  if problem and tostring(problem) ~= self.told then
    self.told = tostring(problem)
    self.log:error("the config cannot go back", "why", self.told)
  end
  if state == "waiting" then return wait(self) end
  self.waiting, self.told = false, nil
  if state == "reverted" then
    self.log:warn("the new config was not confirmed in time, the old one is back")
    if self.reload then self.reload() end
    tell(self, "revert")
  else
    self.log:info("the new config is confirmed")
    local text = fs.read(self.path)
    if text then self:keep(text) end
    tell(self, "confirm")
  end
end

return M
