--- Values inside configuration files: durations, data sizes, labels (config.md 1 to 3).
-- Durations are integers of nanoseconds, as the file format's origin (Go) counts them.
local err = require "peerup.err"

local M = {}

local UNITS = {
  ns = 1, us = 1000, ["µs"] = 1000, ["μs"] = 1000, ms = 1000000,
  s = 1000000000, m = 60000000000, h = 3600000000000,
}
local SIZES = { B = 1, KB = 1024, MB = 1024 ^ 2 // 1 | 0, GB = 1024 ^ 3 // 1 | 0 }
local MAX_NS = math.maxinteger

--- Adds without wrapping; nil when the sum leaves the range.
local function add(a, b)
  if b > MAX_NS - a then return nil end
  return a + b
end

--- Parses a duration such as "1h30m" or "300ms".
---@param text string
---@return integer? nanoseconds, peerup.err? err
function M.parse_duration(text)
  local function bad(why)
    return nil, err.say("malformed", ('invalid duration "%s": %s'):format(text, why))
  end
  local sign, rest = text:match("^([+-]?)(.*)$")
  if rest == "0" then return 0 end
  if rest == "" then return bad("it is empty") end
  local total = 0
  while rest ~= "" do
    local whole, fraction, tail = rest:match("^(%d*)%.(%d*)(.*)$")
    if not whole then
      whole, tail = rest:match("^(%d*)(.*)$")
      fraction = ""
    end
    if whole == "" and fraction == "" then return bad("a number is expected") end
    local unit, after = tail:match("^([^%.%d]+)(.*)$")
    if not unit then return bad("a unit is missing (ns, us, ms, s, m, h)") end
    local scale = UNITS[unit]
    if not scale then
      return bad(('unknown unit "%s" (known: ns, us, ms, s, m, h)'):format(unit))
    end
    local value = whole == "" and 0 or math.tointeger(tonumber(whole))
    if not value or value > MAX_NS // scale then return bad("it is too long") end
    local part = value * scale
    if fraction ~= "" then
      -- Beyond 18 digits a fraction is less than a nanosecond of any unit.
      local digits = fraction:sub(1, 18)
      part = part + math.floor(tonumber("0." .. digits) * scale)
    end
    total = add(total, part)
    if not total then return bad("it is too long") end
    rest = after
  end
  return sign == "-" and -total or total
end

--- Writes a duration as Go does: "2m0s", "1.5s", "300ms", "0s".
---@param ns integer
---@return string
function M.format_duration(ns)
  if ns == 0 then return "0s" end
  local sign = ns < 0 and "-" or ""
  ns = math.abs(ns)
  local function decimal(value, scale)
    local whole, part = value // scale, value % scale
    if part == 0 then return ("%d"):format(whole) end
    local width = #tostring(scale) - 1
    return (("%d.%0" .. width .. "d"):format(whole, part):gsub("0+$", ""))
  end
  if ns < UNITS.us then return ("%s%dns"):format(sign, ns) end
  if ns < UNITS.ms then return sign .. decimal(ns, UNITS.us) .. "µs" end
  if ns < UNITS.s then return sign .. decimal(ns, UNITS.ms) .. "ms" end
  local hours, minutes = ns // UNITS.h, ns % UNITS.h // UNITS.m
  local text = decimal(ns % UNITS.m, UNITS.s) .. "s"
  if hours > 0 or minutes > 0 then text = minutes .. "m" .. text end
  if hours > 0 then text = hours .. "h" .. text end
  return sign .. text
end

--- Parses a data size: an integer, an optional space, and B, KB, MB or GB (powers of 1024).
---@param text string
---@return integer? bytes, peerup.err? err
function M.parse_size(text)
  local function bad(why)
    return nil, err.say("malformed", ('invalid data size "%s": %s'):format(text, why))
  end
  local trimmed = text:match("^%s*(.-)%s*$")
  if trimmed == "" then return bad("it is empty") end
  local number, unit = trimmed:match("^([+]?%d+)%s*(%a*)$")
  if not number then return bad("an integer and B, KB, MB or GB is expected, such as 64MB") end
  local scale = unit == "" and 1 or SIZES[unit:upper()]
  if not scale then return bad(('unknown unit "%s" (known: B, KB, MB, GB)'):format(unit)) end
  local value = math.tointeger(tonumber((number:gsub("^%+", ""))))
  if not value or value > math.maxinteger // scale then return bad("it is too large") end
  return value * scale
end

--- Tells whether text may name a service or a network: a DNS label in lower case.
---@param text string
---@return boolean
function M.is_label(text)
  return #text >= 1 and #text <= 63 and text:find("^[a-z0-9][a-z0-9-]*$") ~= nil
    and text:sub(-1) ~= "-"
end

M.LABEL_RULE = "must be 1-63 lowercase alphanumeric characters or hyphens, "
  .. "starting and ending with alphanumeric"

--- Checks a label and says what is wrong with it.
---@param what string  "service" or "network"
---@param text string
---@return true?, peerup.err?
function M.check_label(what, text)
  if M.is_label(text) then return true end
  if text == "" then
    return nil, err.say("invalid", ("invalid %s name: name cannot be empty"):format(what))
  end
  return nil, err.say("invalid", ('invalid %s name: "%s" %s'):format(what,
    text:gsub("%c", "?"), M.LABEL_RULE))
end

--- Takes "host:port" apart; IPv6 hosts stand in brackets.
---@param text string
---@return string? host, integer|peerup.err port
function M.split_host_port(text)
  local host, port = text:match("^%[([^%[%]]+)%]:(%d+)$")
  if not host then host, port = text:match("^([^:%[%]%s]*):(%d+)$") end
  local number = port and math.tointeger(tonumber(port))
  if not host or not number or #port > 5 or number > 65535 then
    return nil, err.say("invalid", ('"%s" is not host:port (such as localhost:22)'):format(text))
  end
  return host, number
end

return M
