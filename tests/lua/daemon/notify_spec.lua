--- lua/peerup/daemon/notify.lua: what the service manager is told, and when not.
local core = require "peerup.core"
local log = require "peerup.log"
local notify = require "peerup.daemon.notify"
local uv = require "luv"

local function env_of(values)
  return function(name) return values[name] end
end

--- A notifier that says into a list what it would send.
local function make(values, checks)
  local sent, lines = {}, {}
  local n = notify.new {
    env = env_of(values), checks = checks or {},
    log = log.new(function(text) lines[#lines + 1] = text end, "info"),
    send = function(text)
      sent[#sent + 1] = text
      return true
    end,
  }
  return n, sent, lines
end

describe("the service manager", function()
  it("asks for signs of life, or does not", function()
    assert.is_nil(notify.interval(env_of {}))
    assert.is_nil(notify.interval(env_of { WATCHDOG_USEC = "soon" }))
    assert.is_nil(notify.interval(env_of { WATCHDOG_USEC = "90000000", WATCHDOG_PID = "1" }))
    assert.equal(30000, notify.interval(env_of { WATCHDOG_USEC = "90000000",
      WATCHDOG_PID = tostring(uv.os_getpid()) }))
    assert.equal(1000, notify.interval(env_of { WATCHDOG_USEC = "3000000" }))
    assert.equal(30000, notify.interval(env_of { WATCHDOG_USEC = "3600000000" }))
  end)

  it("hears of the start, of life while all is well, and of the end", async(function()
    local good = true
    local n, sent, lines = make({ WATCHDOG_USEC = "60000" }, {
      { name = "one", run = function() return true end },
      { name = "two", run = function() return good, "it is ill" end },
    })
    n:ready()
    core.task.sleep(0.1)
    assert.equal("READY=1", sent[1])
    assert.equal("WATCHDOG=1", sent[2])
    good = false
    core.task.sleep(0.05)
    local count = #sent
    core.task.sleep(0.1)
    assert.equal(count, #sent)
    assert.equal(1, #lines)
    assert.matches('health check failed" name=two error="it is ill"', lines[1])
    good = true
    core.task.sleep(0.1)
    assert.is_true(#sent > count)
    n:stopping()
    count = #sent
    assert.equal("STOPPING=1", sent[count])
    core.task.sleep(0.1)
    assert.equal(count, #sent)
  end))

  it("hears of a check that errs as of one that fails", function()
    local n, _, lines = make({}, { { name = "bad", run = function() error "oh" end } })
    assert.is_false(n:healthy())
    assert.matches("name=bad", lines[1])
  end)

  it("hears of states when they have settled, and not twice", async(function()
    local n, sent = make {}
    local state, asked = "one", 0
    local function words()
      asked = asked + 1
      return state
    end
    n:changed(words)
    n:changed(words)
    state = "two\nlines"
    core.task.sleep(notify.SETTLE_MS / 1000 + 0.2)
    assert.same({ "STATUS=two lines" }, sent)
    assert.equal(1, asked)
    n:changed(words)
    core.task.sleep(notify.SETTLE_MS / 1000 + 0.2)
    assert.equal(1, #sent)
    n:changed(words)
    n:close()
  end))

  it("is not missed when there is none, and told of once when it cannot be reached", function()
    local lines = {}
    local l = log.new(function(text) lines[#lines + 1] = text end, "info")
    local silent = notify.new { env = env_of {}, checks = {}, log = l }
    silent:ready()
    silent:changed(function() return "x" end)
    silent:stopping()
    assert.equal(0, #lines)
    for _, name in ipairs { "/nowhere/at/all", "@peerup-nobody-listens", "relative", "@",
      "/" .. ("x"):rep(200) } do
      local n = notify.new { env = env_of { NOTIFY_SOCKET = name }, checks = {}, log = l }
      n:ready()
      n:stopping()
    end
    assert.equal(5, #lines)
    assert.matches("cannot tell the service manager", lines[1])
  end)
end)
