--- lua/peerup/log.lua: levels of the program and of the engine's parts, also while it runs.
local log = require "peerup.log"

local function logger(level)
  local lines = {}
  return log.new(function(text) lines[#lines + 1] = text end, level, function() return 0 end), lines
end

describe("a log", function()
  it("writes what is high enough", function()
    local l, lines = logger()
    l:debug "no"
    l:info("yes", "key", 'a "b"\n', "nothing", nil)
    l:engine("info", "swarm", "no")
    l:engine("warn", "swarm", "engine")
    assert.equal(2, #lines)
    assert.matches('level=INFO msg=yes key="a \\"b\\"\\n"\n$', lines[1])
    assert.matches('level=WARN msg=engine part=swarm\n$', lines[2])
    assert.equal("warn", l:engine_level())
  end)

  it("of a quiet command has a quiet engine", function()
    assert.equal("error", logger("error"):engine_level())
    assert.equal("off", logger("off"):engine_level())
  end)

  it("changes while it runs, and tells", function()
    local l, lines = logger()
    local told
    l.on_levels = function(changed) told = changed:engine_level() end
    l:set(nil, { swarm = "debug" })
    assert.equal("debug", told)
    l:engine("debug", "swarm", "now")
    l:engine("debug", "proxy", "not this one")
    assert.equal(1, #lines)
    l:set "debug"
    l:debug "and the program"
    assert.equal(2, #lines)
    l:configure { level = "error", modules = { proxy = "info" } }
    assert.equal("info", told)
    l:warn "no more"
    l:engine("warn", "swarm", "back to the default of a program that is quiet")
    l:engine("info", "proxy", "this one")
    assert.equal(3, #lines)
  end)

  it("knows its words", function()
    assert.is_true(log.check "debug")
    assert.is_true(log.check("off", "swarm"))
    local _, why = log.check "inof"
    assert.equal('"inof" is no log level, did you mean "info"?: there are debug, info, warn, '
      .. "error, off", why)
    _, why = log.check("info", "swram")
    assert.matches('"swram" is no log module, did you mean "swarm"', why)
    _, why = log.check(nil)
    assert.matches('"nil" is no log level', why)
  end)
end)
