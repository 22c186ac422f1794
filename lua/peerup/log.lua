--- Log lines in the form `time=... level=INFO msg=...`, for standard error. Each part of the engine
-- has a level of its own, which may change while it runs.
local nearest = require "peerup.nearest"

local M = {}

local RANK = { debug = 0, info = 1, warn = 2, error = 3, off = 4 }
M.LEVELS = { "debug", "info", "warn", "error", "off" }
--- The parts of the engine; the program's own lines have none.
M.MODULES = { "bindings", "identify", "policy", "proxy", "relay", "swarm" }
M.MODULE_LEVEL = "warn" -- of a part of which nothing is said

local function quote(value)
  local text = tostring(value)
  if text ~= "" and not text:find('[%s"=%c]') then return text end
  return '"' .. text:gsub('[\\"]', "\\%0"):gsub("\n", "\\n"):gsub("%c", "?") .. '"'
end

---@class peerup.log
---@field level string                   of the program's own lines
---@field modules table<string, string>  level by part of the engine
---@field on_levels fun(log: peerup.log)?  called when a level has changed
local Log = {}
Log.__index = Log

--- Makes a log.
---@param write fun(line: string)
---@param level string?
---@param clock (fun(): integer)?
---@return peerup.log
function M.new(write, level, clock)
  local self = setmetatable({ sink = write, level = level or "info", modules = {},
    clock = clock or os.time }, Log)
  self.modules = self:module_levels {}
  return self
end

--- Checks words from a person: a level, and a module when one is named.
---@param level any
---@param module any
---@return true?, string? why
function M.check(level, module)
  local function unknown(word, what, known)
    local near = nearest.of(tostring(word), known)
    return nil, ('"%s" is no %s%s: there are %s'):format(tostring(word), what,
      near and (', did you mean "%s"?'):format(near) or "", table.concat(known, ", "))
  end
  if not RANK[level] then return unknown(level, "log level", M.LEVELS) end
  if module == nil then return true end
  for _, known in ipairs(M.MODULES) do
    if module == known then return true end
  end
  return unknown(module, "log module", M.MODULES)
end

--- The level of every module: those given, and the default for the others.
function Log:module_levels(given)
  local levels = {}
  for _, module in ipairs(M.MODULES) do
    levels[module] = given[module]
      or (RANK[self.level] > RANK[M.MODULE_LEVEL] and self.level or M.MODULE_LEVEL)
  end
  return levels
end

--- Sets levels: the program's (nil: as it is), and those of modules; modules not named go back to
--- the default when all is true.
---@param level string?
---@param modules table<string, string>?
---@param all boolean?
function Log:set(level, modules, all)
  self.level = level or self.level
  if all then self.modules = self:module_levels {} end
  for module, one in pairs(modules or {}) do self.modules[module] = one end
  if self.on_levels then self.on_levels(self) end
end

--- Takes the levels of a configuration's section `log`.
---@param section {level: string, modules: table<string, string>}
function Log:configure(section)
  self:set(section.level ~= "" and section.level or nil, section.modules, true)
end

--- The lowest level of any module: what the engine has to tell of.
---@return string
function Log:engine_level()
  local lowest = "off"
  for _, level in pairs(self.modules) do
    if RANK[level] < RANK[lowest] then lowest = level end
  end
  return lowest
end

local function emit(self, level, message, ...)
  local parts = { "time=" .. os.date("%Y-%m-%dT%H:%M:%S%z", self.clock()),
    "level=" .. level:upper(), "msg=" .. quote(message) }
  for i = 1, select("#", ...), 2 do
    local key, value = select(i, ...)
    if value ~= nil then parts[#parts + 1] = key .. "=" .. quote(value) end
  end
  self.sink(table.concat(parts, " ") .. "\n")
end

--- Writes one line: a message, then pairs of key and value.
function Log:write(level, message, ...)
  if RANK[level] < RANK[self.level] then return end
  emit(self, level, message, ...)
end

--- Writes a line of a part of the engine.
function Log:engine(level, module, text)
  if RANK[level] < RANK[self.modules[module] or M.MODULE_LEVEL] then return end
  emit(self, level, text, "part", module)
end

--- Makes a writer for what strangers can cause as often as they like: beyond so many lines a minute
-- it only counts, and tells the number later.
---@param per_minute integer
---@return fun(level: string, message: string, ...)
function Log:limited(per_minute)
  local window, count, hidden = 0, 0, 0
  return function(level, message, ...)
    local minute = self.clock() // 60
    if minute ~= window then
      if hidden > 0 then self:info("more of these lines were left out", "count", hidden) end
      window, count, hidden = minute, 0, 0
    end
    count = count + 1
    if count > per_minute then
      hidden = hidden + 1
      return
    end
    self:write(level, message, ...)
  end
end

for _, level in ipairs { "debug", "info", "warn", "error" } do
  Log[level] = function(self, message, ...) self:write(level, message, ...) end
end

return M
