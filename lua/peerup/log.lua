--- Log lines in the form `time=... level=INFO msg=...`, for standard error.
local M = {}

local RANK = { debug = 0, info = 1, warn = 2, error = 3, off = 4 }

local function quote(value)
  local text = tostring(value)
  if text ~= "" and not text:find('[%s"=%c]') then return text end
  return '"' .. text:gsub('[\\"]', "\\%0"):gsub("\n", "\\n"):gsub("%c", "?") .. '"'
end

---@class peerup.log
local Log = {}
Log.__index = Log

--- Makes a log.
---@param write fun(line: string)
---@param level string?
---@param clock (fun(): integer)?
---@return peerup.log
function M.new(write, level, clock)
  return setmetatable({ sink = write, rank = RANK[level or "info"], clock = clock or os.time }, Log)
end

--- Writes one line: a message, then pairs of key and value.
function Log:write(level, message, ...)
  if RANK[level] < self.rank then return end
  local parts = { "time=" .. os.date("%Y-%m-%dT%H:%M:%S%z", self.clock()),
    "level=" .. level:upper(), "msg=" .. quote(message) }
  for i = 1, select("#", ...), 2 do
    local key, value = select(i, ...)
    if value ~= nil then parts[#parts + 1] = key .. "=" .. quote(value) end
  end
  self.sink(table.concat(parts, " ") .. "\n")
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
