local core = require "peerup.core"

local META = os.getenv "PEERUP_SOURCE" .. "/bindings/meta/core.lua"

--- Reads the functions and methods that meta/core.lua declares: name of table or class -> set.
local function declared()
  local sets, class_of, class = {}, { core = "core" }, nil
  for line in io.lines(META) do
    class = line:match("^%-%-%-@class ([%w_.]+)") or class
    local variable = line:match("^local ([%w_]+) = {}")
    if variable and variable ~= "core" then
      class_of[variable] = class
      sets[class] = sets[class] or {}
    end
    local owner, name = line:match("^function ([%w_.]+)[.:]([%w_]+)%(")
    if owner then
      local key = class_of[owner] or owner
      sets[key] = sets[key] or {}
      sets[key][name] = true
    end
  end
  return sets
end

local function functions_of(t, skip)
  local set = {}
  for name, value in pairs(t) do
    if type(value) == "function" and not (skip or {})[name] then
      set[name] = true
    end
  end
  return set
end

describe("meta/core.lua", function()
  local sets = declared()
  local registry = debug.getregistry()

  it("declares every table and function that there is, and no other", function()
    local _ = core.http.serve
    local real = { core = functions_of(core) }
    for name, value in pairs(core) do
      if type(value) == "table" then
        real["core." .. name] = functions_of(value)
      end
    end
    local wanted = {}
    for name, set in pairs(sets) do
      if name == "core" or name:match("^core%.") then
        wanted[name] = set
      end
    end
    assert.same(wanted, real)
  end)

  for _, class in ipairs { "peerup.task", "peerup.host", "peerup.stream", "peerup.proxy",
    "peerup.http_server" } do
    it("declares the methods of " .. class, function()
      local _ = core.http
      assert.same(sets[class], functions_of(registry[class].__index))
    end)
  end

  it("knows no class that is not there", function()
    for name in pairs(sets) do
      if name ~= "core" and not name:match("^core%.") then
        assert.is_table(registry[name], name)
      end
    end
  end)
end)

describe("peerup.core", function()
  it("tells its version", function()
    assert.matches("^%d+%.%d+%.%d+$", core.version())
    assert.matches("^%x+$", core.commit() == "unknown" and "0" or core.commit())
    assert.matches("^%d%d%d%d%-%d%d%-%d%d$", core.built())
  end)

  it("has nothing under other names", function()
    assert.is_nil(core.hosts)
    assert.is_nil(core[1])
    assert.is_nil(core.h)
  end)
end)

describe("core.error", function()
  it("takes the sentence from the map, and adds the detail", function()
    local err = core.error("timeout", "relay X gave no answer")
    assert.equal("timeout", err.code)
    assert.equal("relay X gave no answer", err.detail)
    assert.equal("timed out: relay X gave no answer", err.message)
    assert.equal(err.message, tostring(err))
    assert.equal("timed out", tostring(core.error("timeout", "")))
    assert.equal("timed out", tostring(core.error("timeout")))
  end)

  it("takes codes of Lua's own", function()
    assert.equal("no such name: x", tostring(core.error("unknown_name", "no such name: x")))
    assert.equal("unknown_name", tostring(core.error("unknown_name")))
  end)

  it("wants a code", function()
    assert.has_error(function()
      core.error()
    end)
    assert.has_error(function()
      core.error({}, "x")
    end)
  end)

  it("survives being spoilt", function()
    local err = core.error("timeout")
    err.message = nil
    assert.equal("unknown error", tostring(err))
  end)
end)
