--- Tells the service manager (systemd's sd_notify) that a daemon or relay is ready, alive, ending,
-- and what it is about (ops.md 2). Without NOTIFY_SOCKET it is silent.
local core = require "peerup.core"
local uv = require "luv"

local M = {}

M.LONGEST_MS = 30000 -- between two signs of life, however patient the manager is
M.SETTLE_MS = 500    -- what goes on is told so long after it changed

---@class peerup.notifier
local Notifier = {}
Notifier.__index = Notifier

--- How often a sign of life is due: a third of what the manager waits for: one may be late.
--- nil when it waits for none, or for those of another process.
---@param env fun(name: string): string?
---@return integer? ms
function M.interval(env)
  local usec, pid = math.tointeger(tonumber(env "WATCHDOG_USEC")), tonumber(env "WATCHDOG_PID")
  if not usec or usec < 1 or pid and pid ~= uv.os_getpid() then return nil end
  return math.max(1, math.min(M.LONGEST_MS, usec // 3000))
end

--- Makes one.
---@param options {env: (fun(name: string): string?), log: peerup.log,
---  checks: {name: string, run: fun(): boolean?, string?}[],
---  send: (fun(text: string): true?, any)?}
--- checks: what has to hold for a sign of life; a check that fails says why.
---@return peerup.notifier
function M.new(options)
  local socket = options.env "NOTIFY_SOCKET"
  local send = options.send
  if not send and socket and socket ~= "" then
    send = function(text) return core.system.notify(socket, text) end
  end
  return setmetatable({ log = options.log, checks = options.checks, sender = send,
    interval = send and M.interval(options.env) }, Notifier)
end

function Notifier:send(text)
  if not self.sender then return end
  local ok, problem = self.sender(text)
  if not ok and not self.told then
    self.told = true
    self.log:warn("cannot tell the service manager", "why", tostring(problem))
  end
end

--- Tells whether all checks hold, and logs which does not, when that changes.
---@return boolean
function Notifier:healthy()
  for _, check in ipairs(self.checks) do
    local ok, good, why = pcall(check.run)
    if not ok then good, why = false, good end
    if not good then
      local text = check.name .. ": " .. tostring(why)
      if text ~= self.failing then
        self.failing = text
        self.log:warn("health check failed", "name", check.name, "error", tostring(why))
      end
      return false
    end
  end
  if self.failing then self.log:info("health checks pass again") end
  self.failing = nil
  return true
end

--- Tells that the start is over, and begins to give signs of life.
function Notifier:ready()
  self:send "READY=1"
  if not self.interval then return end
  self.timer = uv.new_timer()
  self.timer:start(self.interval, self.interval, function()
    if self:healthy() then self:send "WATCHDOG=1" end
  end)
  self.timer:unref()
end

--- Tells in a few words what goes on, soon: what changed just now may change more. Words that were
--- told last are not repeated.
---@param words fun(): string
function Notifier:changed(words)
  if not self.sender or self.soon then return end
  self.soon = uv.new_timer()
  self.soon:start(M.SETTLE_MS, 0, function()
    self.soon:close()
    self.soon = nil
    local text = words()
    if text ~= self.told_last then self:send("STATUS=" .. text:gsub("%c", " ")) end
    self.told_last = text
  end)
  self.soon:unref()
end

--- Tells that the end has begun.
function Notifier:stopping()
  self:close()
  self:send "STOPPING=1"
end

function Notifier:close()
  for _, name in ipairs { "timer", "soon" } do
    local timer = self[name]
    if timer and not timer:is_closing() then timer:close() end
    self[name] = nil
  end
end

return M
