--- Checks of lua/peerup/verify.lua and emoji.lua: sas.json, sas_emoji_table.json.
local lib = require "lib"
local emoji = require "peerup.emoji"
local verify = require "peerup.verify"

local function emoji_table(case)
  lib.equal("length", #case.data, 256)
  for _, row in ipairs(case.data) do
    lib.equal("emoji " .. row.index, emoji[math.tointeger(row.index)], lib.unhex(row.utf8))
  end
end

local function pair(case)
  for _, turn in ipairs { { case.a, case.b }, { case.b, case.a } } do
    local code = assert(verify.code(turn[1], turn[2]))
    lib.equal("emoji", code.emoji, case.emoji)
    lib.equal("digits", code.digits, case.digits)
    lib.equal("fingerprint", code.fingerprint, case.fingerprint)
  end
end

return {
  sas = { pair = pair },
  sas_emoji_table = { data = emoji_table },
}
