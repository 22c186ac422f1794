--- lua/peerup/config/safety.lua and keeper.lua: archive, apply, confirm, revert, and a crash or a
-- full disk between any two of their steps.
local support = dofile((os.getenv "PEERUP_SOURCE" or ".") .. "/tests/support/commands.lua")
local fs = require "peerup.fs"
local keeper = require "peerup.config.keeper"
local log = require "peerup.log"
local safety = require "peerup.config.safety"
local template = require "peerup.config.template"

local NOW = 1800000000

local function text(by)
  return template.node { by = by, relay = support.RELAY }
end

local function setup(dir)
  local path, new = dir.path .. "/config.yaml", dir.path .. "/new.yaml"
  assert(fs.write(path, text "init"))
  assert(fs.write(new, text "join"))
  return path, new
end

local function logger()
  local lines = {}
  return log.new(function(line) lines[#lines + 1] = line end, "debug"), lines
end

describe("a change of the config", function()
  it("goes back unless it is confirmed", function()
    local dir <close> = support.dir()
    local path, new = setup(dir)
    assert(safety.apply(path, new, "node", 60, NOW))
    assert.equal(text "join", fs.read(path))
    assert.equal(NOW + 60, safety.pending(path).deadline)
    for _, file in pairs(safety.paths(path)) do
      if fs.exists(file) then assert.is_true(fs.check_private(file)) end
    end
    local ok, problem = safety.apply(path, new, "node", 60, NOW)
    assert.is_nil(ok)
    assert.matches("already pending", tostring(problem))
    assert.equal("waiting", safety.look(path, NOW + 59))
    assert.equal(text "join", fs.read(path))
    assert.equal("reverted", safety.look(path, NOW + 60))
    assert.equal(text "init", fs.read(path))
    assert.equal("none", safety.look(path, NOW + 61))
    ok, problem = safety.confirm(path)
    assert.is_nil(ok)
    assert.matches("no commit%-confirmed pending", tostring(problem))
  end)

  it("stays when it is confirmed", function()
    local dir <close> = support.dir()
    local path, new = setup(dir)
    assert(safety.apply(path, new, "node", 60, NOW))
    assert(safety.confirm(path))
    assert.equal("none", safety.look(path, NOW + 61))
    assert.equal(text "join", fs.read(path))
    assert.is_false(fs.exists(safety.paths(path).backup))
  end)

  it("is refused when it is bad, and nothing is touched", function()
    local dir <close> = support.dir()
    local path, new = setup(dir)
    for bad, why in pairs {
      ["network: [\n"] = "new config is invalid",
      ["version: 1\n"] = "new config has validation errors",
    } do
      assert(fs.write(new, bad))
      local ok, problem = safety.apply(path, new, "node", 60, NOW)
      assert.is_nil(ok)
      assert.matches(why, tostring(problem))
    end
    assert(fs.write(new, text "join"))
    for _, seconds in ipairs { 0, -5, safety.TIMEOUT_MAX_S + 1 } do
      assert.is_nil(safety.apply(path, new, "node", seconds, NOW))
    end
    assert.equal(text "init", fs.read(path))
    assert.is_false(fs.exists(safety.paths(path).marker))
  end)

  it("is whole after a crash or a full disk at any step", function()
    local write, remove = fs.write, fs.remove
    local function broken(fn, at)
      local count = 0
      return function(...)
        count = count + 1
        if count == at then error "crash" end
        return fn(...)
      end
    end
    local function full(fn, at)
      local count = 0
      return function(path, ...)
        count = count + 1
        if count >= at then return nil, { code = "io_error", message = "no space" } end
        return fn(path, ...)
      end
    end
    for at = 1, 4 do
      for _, breaks in ipairs { broken, full } do
        local dir <close> = support.dir()
        local path, new = setup(dir)
        fs.write = breaks(write, at)
        pcall(safety.apply, path, new, "node", 60, NOW)
        fs.write = write
        local now = fs.read(path)
        assert.is_true(now == text "init" or now == text "join")
        if now == text "join" then assert.is_not_nil(safety.pending(path)) end
        safety.look(path, NOW + 60) -- what is left of it is undone in time
        assert.equal(text "init", fs.read(path))
        assert.is_false(fs.exists(safety.paths(path).marker))
        assert(safety.apply(path, new, "node", 60, NOW)) -- and is in nobody's way
        fs.remove = broken(remove, 1)
        pcall(safety.look, path, NOW + 60)
        fs.remove = remove
        safety.look(path, NOW + 60)
        assert.equal(text "init", fs.read(path))
        assert.is_false(fs.exists(safety.paths(path).marker))
      end
    end
  end)

  it("goes back when the marker is damaged", function()
    local dir <close> = support.dir()
    local path, new = setup(dir)
    assert(safety.apply(path, new, "node", 60, NOW))
    assert(fs.write(safety.paths(path).marker, "{"))
    assert.equal("reverted", safety.look(path, NOW))
    assert.equal(text "init", fs.read(path))
  end)
end)

describe("the archive", function()
  it("is of what ran and was meant, and comes back", function()
    local dir <close> = support.dir()
    local path, new = setup(dir)
    local ok, problem = safety.rollback(path)
    assert.is_nil(ok)
    assert.matches("no last%-known%-good archive", tostring(problem))
    assert.is_true(safety.keep(path, text "init"))
    assert.is_false(safety.keep(path, text "init")) -- an idle daemon writes nothing
    assert(safety.apply(path, new, "node", 60, NOW))
    assert.is_false(safety.keep(path, text "join")) -- not yet
    assert.equal(text "init", fs.read(safety.paths(path).archive))
    assert(safety.confirm(path))
    assert(fs.write(path, "broken: ["))
    assert(safety.rollback(path))
    assert.equal(text "init", fs.read(path))
  end)
end)

describe("the keeper of a running daemon", function()
  local function make(path, clock)
    local l, lines = logger()
    local reloads, told = 0, {}
    local k = keeper.new { path = path, text = fs.read(path), log = l,
      now = function() return clock.now end,
      reload = function() reloads = reloads + 1 end,
      on_change = function(action) told[#told + 1] = action end }
    return k, lines, told, function() return reloads end
  end

  it("undoes what is not confirmed, and goes on", function()
    local dir <close> = support.dir()
    local path, new = setup(dir)
    local clock = { now = NOW }
    local k, lines, told, reloads = make(path, clock)
    k:tick()
    assert.equal(0, #lines)
    assert(safety.apply(path, new, "node", 60, NOW))
    k:tick()
    k:tick()
    assert.same({ "apply" }, told)
    clock.now = NOW + 60
    k:tick()
    k:tick()
    assert.same({ "apply", "revert" }, told)
    assert.equal(1, reloads())
    assert.equal(text "init", fs.read(path))
    assert.matches("not confirmed in time", table.concat(lines))
  end)

  it("archives what is confirmed", function()
    local dir <close> = support.dir()
    local path, new = setup(dir)
    local clock = { now = NOW }
    local k, _, told = make(path, clock)
    assert.equal(text "init", fs.read(safety.paths(path).archive))
    assert(safety.apply(path, new, "node", 60, NOW))
    k:tick()
    k:keep(text "join") -- taken up, but not confirmed
    assert.equal(text "init", fs.read(safety.paths(path).archive))
    assert(safety.confirm(path))
    clock.now = NOW + 100
    k:tick()
    assert.equal(text "join", fs.read(safety.paths(path).archive))
    assert.equal(text "join", fs.read(path))
    assert.same({ "apply", "confirm" }, told)
  end)

  it("tells once when it cannot write", function()
    local dir <close> = support.dir()
    local path, new = setup(dir)
    local clock = { now = NOW }
    local k, lines = make(path, clock)
    assert(safety.apply(path, new, "node", 60, NOW))
    k:tick()
    clock.now = NOW + 60
    local revert = safety.revert
    safety.revert = function() return nil, "no space" end
    local count = #lines
    k:tick()
    k:tick()
    safety.revert = revert
    assert.equal(count + 1, #lines)
    k:tick()
    assert.equal(text "init", fs.read(path))
  end)
end)
