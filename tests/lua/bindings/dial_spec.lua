local core = require "peerup.core"
package.path = os.getenv "PEERUP_SOURCE" .. "/tests/support/?.lua;" .. package.path
local hosts = require "hosts"

--- Connects to a host that listens on TCP and QUIC, with this hook; returns the connection or nil,
--- the error, what the hook was given, the log, and what was dialled.
local function try(on_dial)
  local calls, log, dialled = {}, {}, {}
  local server <close> = hosts.new()
  assert(server:listen "/ip4/127.0.0.1/udp/0/quic-v1")
  local client <close> = hosts.new {
    listen = false,
    on_dial = on_dial and function(peer, candidates)
      calls[#calls + 1] = { peer = peer, count = #candidates, first = candidates[1] }
      return on_dial(candidates)
    end,
    policy = function(question)
      dialled[#dialled + 1] = question.ask == "dial" and question.addr or nil
      return true
    end,
    on_log = function(level, part, line)
      if part == "policy" then
        log[#log + 1] = level .. " " .. line
      end
    end,
  }
  hosts.introduce(client, server)
  local conn, err = client:connect(server:peer_id(), { timeout = 5 })
  for _, call in ipairs(calls) do
    assert.equal(server:peer_id(), call.peer)
  end
  return conn, err, calls, table.concat(log, "\n"), dialled
end

describe("on_dial", function()
  it("sees the candidates in the engine's order", async(function()
    local conn, _, calls = try(function(candidates)
      return candidates
    end)
    assert.equal("quic-v1", conn.transport)
    assert.equal(1, #calls)
    assert.equal(2, calls[1].count)
    local first = calls[1].first
    assert.matches("^/ip4/127.0.0.1/udp/%d+/quic%-v1$", first.addr)
    assert.equal("quic-v1", first.transport)
    assert.is_false(first.relayed)
    assert.equal(0, first.delay_ms)
  end))

  it("drops and delays", async(function()
    local conn, _, _, _, dialled = try(function(candidates)
      for _, candidate in ipairs(candidates) do
        if candidate.transport == "tcp" then
          return { candidate }
        end
      end
    end)
    assert.equal("tcp", conn.transport)
    assert.equal(1, #dialled) -- the policy is asked about what is left only
    conn = try(function(candidates)
      candidates[1].delay_ms, candidates[2].delay_ms = 2000.5, 0
      return { candidates[2], candidates[1] }
    end)
    assert.equal("tcp", conn.transport)
  end))

  it("denies the dial when anything is wrong with it", async(function()
    local function changed(delay_ms)
      return function(candidates)
        candidates[1].delay_ms = delay_ms
        return candidates
      end
    end
    local function constant(value)
      return function()
        return value
      end
    end
    local function forever()
      while true do
        pcall(string.rep, "x", 10)
      end
    end
    local answers = {
      { "an error", function() error "no idea" end, "no idea" },
      { "an error that is no text", function() error {} end, "error that is no text" },
      { "nothing", constant(nil), "a nil, not a list" },
      { "a string", constant "all", "a string, not a list" },
      { "other things", constant { 7 }, "a list that holds a number" },
      { "an invented one", constant { { id = 3, delay_ms = 0 } }, "none of those given" },
      { "half a one", constant { { id = 1.5, delay_ms = 0 } }, "none of those given" },
      { "too many", function(c) return { c[1], c[1], c[1] } end, "more addresses than" },
      { "no delay", changed "soon", "no number of milliseconds" },
      { "a negative delay", changed(-1), "no number of milliseconds" },
      { "no number", changed(0 / 0), "no number of milliseconds" },
      { "no end", forever, "over its budget" },
    }
    for _, answer in ipairs(answers) do
      local name, on_dial, why = table.unpack(answer)
      local conn, err, _, log, dialled = try(on_dial)
      assert.is_nil(conn, name)
      assert.equal("denied", err.code, name)
      assert.matches("the dial hook leaves no address", tostring(err), 1, true)
      assert.matches("error denied dial to peer 12D3", log, 1, true)
      assert.matches(why, log, 1, true)
      assert.equal(0, #dialled, name)
    end
  end))

  it("denies the dial with an empty list, without a word in the log", async(function()
    local conn, err, _, log = try(function()
      return {}
    end)
    assert.is_nil(conn)
    assert.equal("denied", err.code)
    assert.equal("", log)
  end))

  it("may not call the engine", async(function()
    local client, why
    client = hosts.new {
      listen = false,
      on_dial = function(_, candidates)
        local good, err = pcall(client.addrs, client)
        why = not good and tostring(err)
        return candidates
      end,
    }
    local server <close> = hosts.new()
    hosts.introduce(client, server)
    assert(client:connect(server:peer_id(), { timeout = 5 }))
    client:close()
    assert.is_string(why)
  end))

  it("must be a function", function()
    assert.error(function()
      core.host { identity = core.identity.generate(), policy = hosts.allow, on_dial = 7 }
    end)
  end)
end)

describe("what dialling has learned", function()
  it("is told", async(function()
    local host <close> = hosts.new()
    assert.same({ udp_dark = false, ip6_dark = false }, host:dial_state())
  end))

  it("includes the addresses that rest", async(function()
    local host <close> = hosts.new()
    local peer = core.identity.peer_id(core.identity.generate())
    assert.same({}, host:resting_addrs())
    assert(host:add_addr(peer, "/ip4/127.0.0.1/tcp/1"))
    assert.is_nil((host:connect(peer, { timeout = 5 })))
    local resting = host:resting_addrs()
    assert.equal(1, #resting)
    assert.same({ peer, "/ip4/127.0.0.1/tcp/1", 1 },
      { resting[1].peer, resting[1].addr, resting[1].failures })
    assert.is_true(resting[1].rest_s >= 1 and resting[1].rest_s <= 5)
  end))
end)
