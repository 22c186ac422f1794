--- Checks of engine/base: varint.json.
local lib = require "lib"
local base = require "peerup_probe".base

local function read(case)
  local bytes = lib.unhex(case.bytes)
  local value, used = base.varint_get(bytes)
  return bytes, value, used
end

local function valid(case)
  local bytes, value, used = read(case)
  lib.equal("value", value, case.value)
  lib.equal("length", used, #bytes)
  lib.equal("bytes", base.varint_put(case.value), bytes)
end

local function questionable(case)
  local _, value, used = read(case)
  lib.accepted("varint", case.accepted, value, used)
  if case.accepted then
    lib.equal("value", value, case.value)
    lib.equal("length", used, case.length)
  end
end

return { varint = { valid = valid, questionable = questionable } }
