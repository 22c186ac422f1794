local core = require "peerup.core"
package.path = os.getenv "PEERUP_SOURCE" .. "/tests/support/?.lua;" .. package.path
local hosts = require "hosts"

local task = core.task

--- Connects to a host with this policy; returns whether a stream could be opened, the questions and
--- the log.
local function try(policy, log_level)
  local questions, log = {}, {}
  local server <close> = hosts.new {
    policy = function(question)
      questions[#questions + 1] = question
      return policy(question)
    end,
    on_log = function(level, part, line)
      if part == "policy" then
        log[#log + 1] = level .. " " .. line
      end
    end,
    log_level = log_level or "info",
  }
  assert(server:handle("/test/1.0.0", function(stream)
    stream:write("hello")
  end))
  local client <close> = hosts.new()
  hosts.introduce(client, server)
  local stream <close> = client:open_stream(server:peer_id(), "/test/1.0.0", { timeout = 3 })
  local got = stream and stream:read_exactly(5, 3)
  return got == "hello", questions, table.concat(log, "\n"), client:peer_id()
end

describe("a policy", function()
  it("is asked at each door, with a fresh table", async(function()
    local allowed, questions, _, client = try(function(question)
      question.spoilt = true
      return true
    end)
    assert.is_true(allowed)
    local by_ask = {}
    for _, question in ipairs(questions) do
      if question.ask ~= "stream" or question.protocol == "/test/1.0.0" then
        by_ask[question.ask] = question
      end
    end
    assert.is_nil(by_ask.accept.peer)
    assert.matches("^/ip4/127.0.0.1/tcp/", by_ask.accept.addr)
    assert.equal(client, by_ask.inbound.peer)
    assert.equal(client, by_ask.stream.peer)
    assert.is_false(by_ask.stream.relayed)
    assert.not_equal(by_ask.accept, by_ask.inbound)
  end))

  it("denies, and its reason is logged", async(function()
    local function policy(question)
      return question.ask ~= "stream", "not today"
    end
    local allowed, _, log = try(policy)
    assert.is_false(allowed)
    assert.matches("info denied stream of .- to peer 12D3.*: not today", log)
    allowed, _, log = try(policy, "warn")
    assert.is_false(allowed)
    assert.equal("", log)
  end))

  it("denies connections", async(function()
    for _, ask in ipairs { "accept", "inbound" } do
      local allowed, questions = try(function(question)
        return question.ask ~= ask
      end)
      assert.is_false(allowed)
      assert.equal(ask, questions[#questions].ask)
    end
  end))

  it("denies dialing", async(function()
    local server <close> = hosts.new()
    local client <close> = hosts.new { policy = function(question)
      return question.ask ~= "dial"
    end }
    hosts.introduce(client, server)
    local conn, err = client:connect(server:peer_id(), { timeout = 3 })
    assert.is_nil(conn)
    assert.is_string(err.code)
    assert.equal(0, #server:conns())
  end))

  for what, case in pairs {
    ["throws"] = { function() error("my mistake") end, "my mistake" },
    ["throws what is no text"] = { function() error({}) end, "no text" },
    ["answers nothing"] = { function() end, "nil, not a boolean" },
    ["answers a truthy value"] = { function() return 1 end, "number, not a boolean" },
    ["runs for ever"] = { function() while true do end end, "budget" }, -- luacheck: ignore
    ["runs for ever, protected"] = { function()
      while true do
        pcall(function()
          while true do end -- luacheck: ignore
        end)
      end
    end, "budget" },
    ["runs for ever in coroutines"] = { function()
      while true do
        coroutine.wrap(function()
          while true do end -- luacheck: ignore
        end)()
      end
    end, "budget" },
    ["waits"] = { function() task.sleep(0) return true end, "inside a task" },
    ["yields"] = { function() coroutine.yield() return true end, "yield" },
    ["spawns"] = { function() task.spawn(function() end) return true end, "may not call" },
    ["recurses for ever"] = { function()
      local function f() return 1 + f() end
      return f()
    end, "budget" },
  } do
    it("that " .. what .. " denies, and that is logged", async(function()
      local allowed, _, log = try(case[1])
      assert.is_false(allowed)
      assert.matches("error denied accept at /ip4/127.0.0.1", log)
      assert.matches(case[2], log)
    end))
  end

  it("may not call the engine", async(function()
    local server
    local problem
    server = hosts.new { policy = function()
      local ok
      ok, problem = pcall(server.conns, server)
      return not ok
    end }
    local _ <close> = server
    local client <close> = hosts.new()
    hosts.introduce(client, server)
    client:connect(server:peer_id(), { timeout = 3 })
    assert.matches("may not call the engine", problem)
  end))

  it("has its whole budget for each question", async(function()
    local allowed = try(function()
      local sum = 0
      for i = 1, 200000 do
        sum = sum + i
      end
      return sum > 0
    end)
    assert.is_true(allowed)
  end))

  it("is asked again by recheck", async(function()
    local open = true
    local server <close> = hosts.new { policy = function()
      return open
    end }
    local client <close> = hosts.new()
    hosts.introduce(client, server)
    assert(client:connect(server:peer_id()))
    hosts.eventually(function()
      return #server:conns() == 1
    end)
    assert.equal(0, server:recheck())
    open = false
    assert.is_true(server:recheck() >= 1)
    hosts.eventually(function()
      return #server:conns() == 0 and #client:conns() == 0
    end)
  end))
end)
