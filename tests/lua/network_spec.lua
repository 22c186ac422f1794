--- Whole nodes and a relay in one process, over real sockets on loopback: pairing, services,
--- access.
local support = dofile((os.getenv "PEERUP_SOURCE" or ".") .. "/tests/support/commands.lua")
local core = require "peerup.core"
local fs = require "peerup.fs"
local guests = require "peerup.guests"
local handshake = require "peerup.invite.handshake"
local identity = require "peerup.identity"
local invite_code = require "peerup.invite.code"
local keys = require "peerup.authorized_keys"
local load = require "peerup.config.load"
local log = require "peerup.log"
local node = require "peerup.node"
local offers = require "peerup.invite.offer"
local policy = require "peerup.policy"
local relay_server = require "peerup.relay_server"
local session = require "peerup.invite.session"
local template = require "peerup.config.template"
local uv = require "luv"

local sleep = core.task.sleep

--- A log that a failing test can show.
local function logger()
  local lines = {}
  local l = log.new(function(text) lines[#lines + 1] = text end, "debug")
  l.lines = lines
  return l
end

--- Waits until fn gives something, at most so many seconds.
local function eventually(seconds, fn)
  local ends = uv.now() + seconds * 1000
  while true do
    local value = fn()
    if value then return value end
    if uv.now() > ends then return nil end
    sleep(0.02)
  end
end

local function write_keys(path, ...)
  local lines = {}
  for _, peer in ipairs { ... } do lines[#lines + 1] = peer .. "\n" end
  assert(fs.write(path, table.concat(lines)))
end

--- Starts a relay in a directory, with these members.
local function start_relay(dir, members, extra)
  local path = dir.path .. "/relay-server.yaml"
  assert(fs.write(path, "identity:\n  key_file: relay.key\nnetwork:\n  listen_addresses:\n"
    .. "    - /ip4/127.0.0.1/tcp/0\nsecurity:\n  authorized_keys_file: relay_keys\n"
    .. "  enable_connection_gating: true\n" .. (extra or "")))
  write_keys(dir.path .. "/relay_keys", table.unpack(members))
  local config = assert(load.relay(path))
  local own = assert(identity.load_or_create(config.identity.key_file))
  local relay = assert(relay_server.open { config = config, identity = own, log = logger() })
  assert(relay:start())
  relay:watch()
  relay.addr = relay.host:addrs()[1]
  if not relay.addr:find("/p2p/", 1, true) then
    relay.addr = relay.addr .. "/p2p/" .. relay.peer_id
  end
  relay.keys_path = dir.path .. "/relay_keys"
  return relay
end

--- Makes a node's files; returns its base directory and identity.
local function make_home(dir, name, relay_addr, services)
  local base = dir.path .. "/" .. name
  assert(fs.mkdir(base))
  local own = assert(identity.load_or_create(base .. "/identity.key"))
  if relay_addr then
    local text = template.node { by = "init", relay = relay_addr }
    text = text:gsub('%s+%- "/ip[46]/[^\n]*quic%-v1"', ""):gsub('%s+%- "/ip6/::/tcp/0"', "")
      :gsub("/ip4/0.0.0.0/tcp/0", "/ip4/127.0.0.1/tcp/0")
    assert(fs.write(base .. "/config.yaml", text .. (services or "")))
    assert(fs.write(base .. "/authorized_keys", ""))
  end
  return { base = base, path = base .. "/config.yaml", own = own, peer_id = own.peer_id,
    keys_path = base .. "/authorized_keys" }
end

local function open_node(home, options)
  options = options or {}
  options.config = assert(load.read(home.path, "node"))
  options.identity, options.log = home.own, logger()
  return assert(node.open(options))
end

--- Starts a node as the daemon does; direct: without using its relay.
local function start_node(home, direct)
  local n = open_node(home, { serving = true })
  assert(n:listen())
  assert(n:serve_ping_pong())
  n:sync_services()
  if not direct then assert(n:reserve_all()) end
  n:watch()
  return n
end

local function reserved(n)
  return eventually(5, function()
    for _, r in ipairs(n.host:reservations()) do
      if r.active then return true end
    end
  end)
end

--- A TCP server that answers each line in capitals; returns its port and a close function.
local function shouter()
  local server = uv.new_tcp()
  server:bind("127.0.0.1", 0)
  local clients = {}
  server:listen(16, function()
    local client = uv.new_tcp()
    clients[#clients + 1] = client
    server:accept(client)
    client:read_start(function(_, data)
      if data then client:write(data:upper()) elseif not client:is_closing() then client:close() end
    end)
  end)
  return server:getsockname().port, function()
    server:close()
    for _, client in ipairs(clients) do
      if not client:is_closing() then client:close() end
    end
  end
end

--- Connects to a local port, sends text and gives what comes back; nil when the other side closes.
local function ask(port, text, seconds)
  return core.task.await(function(resume)
    local tcp, timer = uv.new_tcp(), uv.new_timer()
    local function finish(value)
      if tcp:is_closing() then return end
      tcp:close()
      timer:close()
      resume(value)
    end
    timer:start((seconds or 5) * 1000, 0, function() finish(nil) end)
    tcp:connect("127.0.0.1", port, function(problem)
      if problem then return finish(nil) end
      tcp:write(text)
      tcp:read_start(function(_, data) finish(data) end)
    end)
  end)
end

local function port_of(proxy)
  return math.tointeger(tonumber(proxy:address():match(":(%d+)$")))
end

local function service(name, port, extra)
  return ("services:\n  %s:\n    enabled: true\n    local_address: 127.0.0.1:%d\n%s"):format(name,
    port, extra or "")
end

describe("a direct connection", function()
  --- A home with a service, and who knows where it is.
  local function world(dir, extra)
    local port, stop = shouter()
    local laptop, third = make_home(dir, "laptop", support.RELAY),
      make_home(dir, "third", support.RELAY)
    local home = make_home(dir, "home", support.RELAY, service("echo", port,
      extra and extra(laptop)))
    write_keys(home.keys_path, laptop.peer_id, third.peer_id)
    local n = start_node(home, true)
    local w = { home = home, laptop = laptop, third = third, node = n,
      stranger = make_home(dir, "stranger", support.RELAY) }
    function w.client(who)
      local c = open_node(who, { targets = { home.peer_id } })
      c.host:add_addr(home.peer_id, n.host:addrs()[1])
      return c
    end
    return setmetatable(w, { __close = function()
      stop()
      n:close()
    end })
  end

  --- Asks home's service through a proxy; false when that is refused.
  local function shout(w, c)
    local proxy = assert(c.host:proxy_listen("127.0.0.1:0", w.home.peer_id, "/peerup/echo/1.0.0"))
    local answer = ask(port_of(proxy), "hi", 3)
    proxy:close()
    return answer or false
  end

  it("serves who is authorized, and cuts off at once who is not any more", async(function()
    local dir <close> = support.dir()
    local w <close> = world(dir)
    local c <close> = w.client(w.laptop)
    assert.is_false(assert(c.host:connect(w.home.peer_id, { timeout = 5 })).relayed)
    assert.equal("HI", shout(w, c))
    local lost
    c:on_event(function(event)
      if event.type == "disconnected" then lost = uv.now() end
    end)
    local from = uv.now()
    assert.equal(0, (support.run({}, "auth", "remove", w.laptop.peer_id, "--config", w.home.path)))
    assert.is_truthy(eventually(2, function() return lost end))
    assert.is_true(lost - from < 1000)
    assert.is_false(shout(w, c))
    assert.equal(0, (support.run({}, "auth", "add", w.laptop.peer_id, "--config", w.home.path)))
    assert.is_truthy(eventually(2, function() return w.node.rules.authorized[w.laptop.peer_id] end))
    assert.equal("HI", shout(w, c))
  end, 30))

  it("is refused to strangers, who learn nothing", async(function()
    local dir <close> = support.dir()
    local w <close> = world(dir)
    local s <close> = w.client(w.stranger)
    s.host:connect(w.home.peer_id, { timeout = 3 })
    assert.is_nil((s.host:open_stream(w.home.peer_id, "/peerup/echo/1.0.0", { timeout = 3 })))
    assert.same({}, s.host:peer_protocols(w.home.peer_id))
    assert.same({}, w.node.host:conns())
  end, 30))

  it("with allowed_peers serves only them", async(function()
    local dir <close> = support.dir()
    local w <close> = world(dir, function(laptop)
      return "    allowed_peers: [" .. laptop.peer_id .. "]\n"
    end)
    local a <close> = w.client(w.laptop)
    local b <close> = w.client(w.third)
    assert.equal("HI", shout(w, a))
    assert.is_false(shout(w, b))
    assert.is_number(b.host:ping(w.home.peer_id, { timeout = 3 }))
  end, 30))

  it("ends when the authorization expires", async(function()
    local dir <close> = support.dir()
    local w <close> = world(dir)
    assert(fs.write(w.home.keys_path, w.laptop.peer_id
      .. os.date("!  expires=%Y-%m-%dT%H:%M:%SZ\n", os.time() + 2)))
    assert.is_truthy(eventually(1, function()
      local entry = w.node.rules.authorized[w.laptop.peer_id]
      return entry and entry.expires
    end))
    local c <close> = w.client(w.laptop)
    assert.equal("HI", shout(w, c))
    assert.is_truthy(eventually(4, function() return not c.host:best_conn(w.home.peer_id) end))
    assert.is_false(shout(w, c))
  end, 30))

  it("follows changes of the config", async(function()
    local dir <close> = support.dir()
    local w <close> = world(dir)
    local c <close> = w.client(w.laptop)
    assert.equal("HI", shout(w, c))
    assert.equal(0, (support.run({}, "service", "disable", "echo", "--config", w.home.path)))
    assert.is_truthy(eventually(2, function() return next(w.node.exposed) == nil end))
    assert.is_false(shout(w, c))
    assert.equal(0, (support.run({}, "service", "enable", "echo", "--config", w.home.path)))
    assert.is_truthy(eventually(2, function() return next(w.node.exposed) ~= nil end))
    assert.equal("HI", shout(w, c))
    assert(fs.write(w.home.path, "broken: ["))
    sleep(0.3)
    assert.equal("HI", shout(w, c))
    assert.matches("config not taken up", table.concat(w.node.log.lines))
  end, 30))

  it("carries the pings of both kinds", async(function()
    local dir <close> = support.dir()
    local w <close> = world(dir)
    local c <close> = w.client(w.laptop)
    local stream = assert(c.host:open_stream(w.home.peer_id, node.PING_PONG, { timeout = 3 }))
    stream:write(" ping \r\n")
    assert.equal("pong\n", stream:read(64, 3))
    assert.is_nil((stream:read(64, 3)))
    stream = assert(c.host:open_stream(w.home.peer_id, node.PING_PONG, { timeout = 3 }))
    stream:write("pang\n")
    assert.equal("unknown\n", stream:read(64, 3))
    stream:close()
    assert.is_number(c.host:ping(w.home.peer_id, { timeout = 3 }))
  end, 30))
end)

describe("an invite", function()
  it("brings a stranger through a gated relay, and both sides keep the other", async(function()
    local dir <close> = support.dir()
    local home = make_home(dir, "home")
    local relay <close> = start_relay(dir, { home.peer_id })
    home = make_home(dir, "home", relay.addr)
    local n <close> = open_node(home)
    local offer = assert(offers.open { node = n, name = "home box", ttl_s = 60 })
    assert.is_true(offer.relay_admits)
    local invite = assert(invite_code.decode(offer.code))
    assert.equal(home.peer_id, invite.inviter)

    local code, out, errors = support.run({ home = dir.path .. "/laptop" }, "join", "--name",
      "my laptop", offer.code)
    assert.equal(0, code, errors .. table.concat(relay.log.lines) .. table.concat(n.log.lines))
    assert.matches("=== Joined successfully! ===", out)
    assert.matches("peerup ping homebox\n", out)
    assert.is_truthy(eventually(3, function() return offer.state == "joined" end))
    assert.is_true(offer.vouched)
    assert.equal("mylaptop", offer.name)
    assert.equal("my laptop", offer.comment)
    offer:close()

    local joined = assert(load.read(dir.path .. "/laptop/.config/peerup/config.yaml", "node"))
    assert.same({}, load.validate(joined))
    assert.equal(home.peer_id, joined.names.homebox)
    local own = assert(identity.load(joined.identity.key_file))
    assert.equal(own.peer_id, offer.peer)
    assert.matches(home.peer_id .. "  # home box\n", fs.read(joined.security.authorized_keys_file),
      1, true)
    assert.matches(own.peer_id .. "  # my laptop\n", fs.read(home.keys_path), 1, true)
    assert.equal(own.peer_id, load.read(home.path, "node").names.mylaptop)
    assert.matches(own.peer_id .. "  invited_by=" .. home.peer_id .. "  # mylaptop\n",
      fs.read(relay.keys_path), 1, true)
    assert.same({}, relay.guests.by_peer)
  end, 30))

  it("closes after ten wrong codes, with a note for each", async(function()
    local dir <close> = support.dir()
    local home, other = make_home(dir, "home"), make_home(dir, "other")
    local relay <close> = start_relay(dir, { home.peer_id, other.peer_id })
    home, other = make_home(dir, "home", relay.addr), make_home(dir, "other", relay.addr)
    local n <close> = open_node(home)
    local offer = assert(offers.open { node = n, name = "", ttl_s = 60 })
    local wrong = assert(invite_code.decode(offer.code))
    wrong.token = "wrong..."
    for i = 1, session.MAX_WRONG_CODES do
      local m <close> = open_node(other)
      local joined, problem = session.join { node = m, code = wrong, name = "x" }
      assert.is_nil(joined)
      assert.matches("wrong invite code", tostring(problem))
      assert.equal(i, #offer.notes)
    end
    assert.equal("wrong_codes", offer.state)
    local m <close> = open_node(other)
    assert.is_nil((session.join { node = m, code = assert(invite_code.decode(offer.code)),
      name = "x" }))
    assert.equal("", fs.read(home.keys_path))
    offer:close()
  end, 60))

  it("ends with its time, and strangers are refused again", async(function()
    local dir <close> = support.dir()
    local home = make_home(dir, "home")
    local relay <close> = start_relay(dir, { home.peer_id })
    home = make_home(dir, "home", relay.addr)
    local n <close> = open_node(home)
    local offer = assert(offers.open { node = n, name = "", ttl_s = 1 })
    assert.is_truthy(eventually(3, function() return offer.state == "expired" end))
    local code, _, errors = support.run({ home = dir.path .. "/late" }, "join", offer.code)
    assert.equal(1, code)
    assert.matches("peerup relay authorize 12D3KooW", errors)
    assert.is_false(fs.exists(dir.path .. "/late/.config/peerup/config.yaml"))
    offer:close()
  end, 30))
end)

--- Says text on a stream of a protocol and gives the answer; nil when there is none.
local function served(n, peer, protocol, text)
  local stream <close> = n.host:open_stream(peer, protocol, { timeout = 3, limited = true })
  return stream and stream:write(text, 3) and stream:read(256, 3) or nil
end

describe("a guest of the relay", function()
  it("reaches the inviter and nothing else, and is sent away with the invite", async(function()
    local dir <close> = support.dir()
    local home, other, stranger = make_home(dir, "home"), make_home(dir, "other"),
      make_home(dir, "stranger")
    local relay <close> = start_relay(dir, { home.peer_id, other.peer_id })
    for _, name in ipairs { "home", "other", "stranger" } do make_home(dir, name, relay.addr) end
    local o <close> = start_node(make_home(dir, "other", relay.addr))
    assert.is_true(reserved(o))
    local n <close> = open_node(home)
    local s <close> = open_node(stranger, { targets = { home.peer_id, other.peer_id } })
    local offer = assert(offers.open { node = n, name = "", ttl_s = 60 })
    s.host:add_addr(relay.peer_id, relay.addr)
    assert(s.host:connect(relay.peer_id, { timeout = 5 }))
    assert.is_nil(served(s, relay.peer_id, policy.RELAY_INVITE, "open 9\n"))
    assert.is_nil((s.host:connect(other.peer_id, { timeout = 3 })))
    s:add_circuits(home.peer_id)
    assert(s.host:connect(home.peer_id, { timeout = 5 }))
    assert.is_nil(served(s, home.peer_id, node.PING_PONG, "ping\n"))
    local stream = assert(s.host:open_stream(home.peer_id, handshake.PROTOCOL, { timeout = 3,
      limited = true }))
    stream:close()
    offer:close()
    assert.is_truthy(eventually(3, function()
      return s.host:best_conn(relay.peer_id) == nil and s.host:best_conn(home.peer_id) == nil
    end))
  end, 30))

  it("is not let in where members may not invite", async(function()
    local dir <close> = support.dir()
    local home = make_home(dir, "home")
    local relay <close> = start_relay(dir, { home.peer_id }, "  members_may_invite: false\n")
    home = make_home(dir, "home", relay.addr)
    local n <close> = open_node(home)
    local offer = assert(offers.open { node = n, name = "", ttl_s = 60 })
    assert.is_false(offer.relay_admits)
    local code = support.run({ home = dir.path .. "/x" }, "join", offer.code)
    assert.equal(1, code)
    offer:close()
  end, 30))
end)

describe("the relay's side of an invite", function()
  it("takes only its own lines", async(function()
    local dir <close> = support.dir()
    local home = make_home(dir, "home")
    local relay <close> = start_relay(dir, { home.peer_id })
    home = make_home(dir, "home", relay.addr)
    local n <close> = open_node(home)
    n.host:add_addr(relay.peer_id, relay.addr)
    local function say(...)
      local stream = assert(n.host:open_stream(relay.peer_id, policy.RELAY_INVITE, { timeout = 5 }))
      local answers = {}
      for _, text in ipairs { ... } do
        stream:write(text)
        answers[#answers + 1] = stream:read(256, 5) or "end"
      end
      stream:close()
      return table.concat(answers)
    end
    assert.equal("no bad-message\n", say("hello\n"))
    assert.equal("no bad-message\n", say("vouch " .. home.peer_id .. "\n"))
    assert.equal("no bad-ttl\n", say("open 999999\n"))
    assert.equal("ok 9\nno not-a-visitor\nno bad-message\nend", say("open 9\n",
      "vouch " .. support.PEERS[1] .. "\n", "open 9\n", "x"))
    assert.equal("end", (say(("x"):rep(guests.MAX_LINE + 10)):gsub("^no bad%-message\n", "end")))
    assert.is_truthy(eventually(2, function() return next(relay.guests.invites) == nil end))
    assert.equal(home.peer_id .. "\n", fs.read(relay.keys_path))
  end, 30))
end)

describe("services", function()
  --- A relay, a home with a service, and a laptop that home knows.
  local function world(dir, extra)
    local port, stop = shouter()
    local w = { stop = stop, port = port }
    local home, laptop, third = make_home(dir, "home"), make_home(dir, "laptop"),
      make_home(dir, "third")
    w.relay = start_relay(dir, { home.peer_id, laptop.peer_id, third.peer_id })
    w.home = make_home(dir, "home", w.relay.addr, service("echo", port, extra and extra(laptop)))
    w.laptop = make_home(dir, "laptop", w.relay.addr)
    w.third = make_home(dir, "third", w.relay.addr)
    write_keys(w.home.keys_path, laptop.peer_id, third.peer_id)
    w.node = start_node(w.home)
    assert.is_true(reserved(w.node))
    function w.client(who)
      local n = open_node(who, { targets = { w.home.peer_id } })
      return n
    end
    return setmetatable(w, { __close = function()
      stop()
      w.node:close()
      w.relay:close()
    end })
  end

  it("are reached through the relay, and gone within a second of auth remove", async(function()
    local dir <close> = support.dir()
    local w <close> = world(dir)
    local n <close> = w.client(w.laptop)
    local conn = assert(n:reach(w.home.peer_id, 10))
    assert.is_true(conn.relayed)
    local proxy = assert(n.host:proxy_listen("127.0.0.1:0", w.home.peer_id, "/peerup/echo/1.0.0"))
    assert.equal("HELLO", ask(port_of(proxy), "hello"))
    local lost
    n:on_event(function(event)
      if event.type == "disconnected" and event.conn.peer == w.home.peer_id then lost = uv.now() end
    end)
    local from = uv.now()
    assert(keys.update_file(w.home.keys_path, function(text)
      return keys.remove(text, w.laptop.peer_id)
    end))
    assert.is_truthy(eventually(2, function() return lost end))
    assert.is_true(lost - from < 1000)
    assert.is_nil((ask(port_of(proxy), "again", 3)))
  end, 40))

  it("with allowed_peers refuse the others", async(function()
    local dir <close> = support.dir()
    local w <close> = world(dir, function(laptop)
      return "    allowed_peers: [" .. laptop.peer_id .. "]\n"
    end)
    for who, want in pairs { [w.laptop] = "HI", [w.third] = false } do
      local n <close> = w.client(who)
      assert(n:reach(w.home.peer_id, 10))
      local proxy = assert(n.host:proxy_listen("127.0.0.1:0", w.home.peer_id, "/peerup/echo/1.0.0"))
      assert.equal(want, ask(port_of(proxy), "hi", 3) or false)
    end
  end, 40))

  it("follow the config while the daemon runs", async(function()
    local dir <close> = support.dir()
    local w <close> = world(dir)
    local n <close> = w.client(w.laptop)
    assert(n:reach(w.home.peer_id, 10))
    local proxy = assert(n.host:proxy_listen("127.0.0.1:0", w.home.peer_id, "/peerup/new/1.0.0"))
    local code = support.run({}, "service", "add", "new", "127.0.0.1:" .. w.port, "--config",
      w.home.path)
    assert.equal(0, code)
    assert.is_truthy(eventually(2, function() return w.node.exposed["/peerup/new/1.0.0"] end))
    assert.equal("X", ask(port_of(proxy), "x"))
    assert(fs.write(w.home.path, "broken: ["))
    sleep(0.3)
    assert.is_truthy(w.node.exposed["/peerup/new/1.0.0"])
    assert.matches("config not taken up", table.concat(w.node.log.lines))
  end, 40))

  it("cut a peer off when its time is over", async(function()
    local dir <close> = support.dir()
    local w <close> = world(dir)
    local n <close> = w.client(w.laptop)
    assert(fs.write(w.home.keys_path, w.laptop.peer_id
      .. os.date("!  expires=%Y-%m-%dT%H:%M:%SZ\n", os.time() + 3)))
    assert.is_truthy(eventually(1, function()
      local entry = w.node.rules.authorized[w.laptop.peer_id]
      return entry and entry.expires
    end))
    assert(n:reach(w.home.peer_id, 10))
    assert.is_truthy(eventually(5, function() return not n.host:best_conn(w.home.peer_id) end))
    local conn, problem = n:reach(w.home.peer_id, 5)
    assert.is_nil(conn)
    assert.matches("does not know this machine", tostring(problem))
  end, 40))

  it("answer ping-pong, by the command", async(function()
    local dir <close> = support.dir()
    local w <close> = world(dir)
    local code, out, errors = support.run({ home = dir.path }, "ping", w.home.peer_id, "-c", "2",
      "--interval", "10ms", "--config", w.laptop.path)
    assert.equal(0, code, errors)
    assert.matches("^PING %w+ %(%w+%.%.%.%)\nConnecting...\n"
      .. "Connected %[RELAYED%] via /ip4/[^\n]+/p2p%-circuit %(%l+ over tcp%)\n\n"
      .. "seq=1 rtt=[%d.]+ms "
      .. "path=%[RELAYED%]\nseq=2 rtt=[%d.]+ms path=%[%u+%]\n\n%-%-%- %w+ ping statistics %-%-%-\n"
      .. "2 sent, 2 received, 0%% loss, rtt min/avg/max = [%d.]+/[%d.]+/[%d.]+ ms\n$", out)
    code, out = support.run({ home = dir.path }, "ping", "--json", "-c", "1", w.home.peer_id,
      "--config", w.laptop.path)
    assert.equal(0, code)
    assert.matches('^{"seq":1,"peer_id":"%w+","rtt_ms":[%d.]+,"path":"RELAYED","error":""}\n'
      .. '{"sent":1,"received":1,"lost":0,', out)
    local _
    code, _, errors = support.run({ home = dir.path }, "ping", support.PEERS[1], "-c", "1",
      "--config", w.laptop.path)
    assert.equal(1, code)
    assert.matches("^Failed to connect: ", errors)
  end, 60))
end)

describe("the proxy command", function()
  it("prints the path and carries bytes until it is stopped", async(function()
    local dir <close> = support.dir()
    local port, stop = shouter()
    local home, laptop = make_home(dir, "home"), make_home(dir, "laptop")
    local relay <close> = start_relay(dir, { home.peer_id, laptop.peer_id })
    home = make_home(dir, "home", relay.addr, service("echo", port))
    laptop = make_home(dir, "laptop", relay.addr)
    write_keys(home.keys_path, laptop.peer_id)
    local n <close> = start_node(home)
    assert.is_true(reserved(n))
    local ctx = support.context {}
    local code
    local running = core.task.spawn(function()
      local main = require "peerup.cli.main"
      code = main.run(ctx, { "proxy", "--config", laptop.path, home.peer_id, "echo", "0" },
        { support.SOURCE .. "/scripts/commands" })
    end)
    local local_port = eventually(10, function()
      return ctx.text():match("TCP proxy listening on localhost:(%d+)\n")
    end)
    assert.is_truthy(local_port, ctx.text() .. ctx.errors())
    assert.matches("Connected %[RELAYED%] via /ip4/127.0.0.1/tcp/.* %(%l+ over tcp%) %(%d+ms%)\n",
      ctx.text())
    assert.equal("ABC", ask(tonumber(local_port), "abc"))
    -- Both sides are on one machine: a direct path follows, and is told of.
    assert.is_truthy(eventually(10, function()
      return ctx.text():find("Path is now [DIRECT]", 1, true)
    end), ctx.text())
    assert.equal("DEF", ask(tonumber(local_port), "def"))
    ctx:stop("signal")
    running:join()
    assert.equal(0, code)
    assert.matches("Shutting down...\n$", ctx.text())
    stop()
  end, 60))
end)

describe("the daemon command", function()
  it("starts, answers, serves an invite, and stops by the API", async(function()
    local dir <close> = support.dir()
    local home = make_home(dir, "home")
    local relay <close> = start_relay(dir, { home.peer_id })
    home = make_home(dir, "home", relay.addr)
    local main = require "peerup.cli.main"
    local commands = { support.SOURCE .. "/scripts/commands" }
    local ctx, code = support.context {}, nil
    local running = core.task.spawn(function()
      code = main.run(ctx, { "daemon", "--config", home.path }, commands)
    end)
    local socket = home.base .. "/peerup.sock"
    assert.is_truthy(eventually(5, function() return fs.exists(socket) end), ctx.errors())
    assert.matches("Daemon API: " .. socket, ctx.text(), 1, true)
    local again, _, errors = support.run({}, "daemon", "--config", home.path)
    assert.equal(1, again)
    assert.matches("^Daemon API failed to start: daemon already running: ", errors)
    local status, out = support.run({}, "daemon", "status", "--config", home.path)
    assert.equal(0, status)
    assert.matches("^peer_id: " .. home.peer_id .. "\nversion: 1.2.3\n", out)
    local _, text = support.run({}, "daemon", "status", "--json", "--config", home.path)
    assert.matches('^{\n  "peer_id": "' .. home.peer_id, text)

    local inviting, invite_exit = support.context {}, nil
    local invite = core.task.spawn(function()
      invite_exit = main.run(inviting, { "invite", "--non-interactive", "--name", "home",
        "--config", home.path }, commands)
    end)
    local printed = eventually(10, function() return inviting.text():match("^([A-Z2-7-]+)\n$") end)
    assert.is_truthy(printed, inviting.errors())
    local joined, join_out, join_errors = support.run({ home = dir.path .. "/new",
      env = { PEERUP_INVITE_CODE = printed } }, "join", "--non-interactive", "--name", "new")
    assert.equal(0, joined, join_errors)
    assert.equal("", join_out)
    invite:join()
    assert.equal(0, invite_exit)
    assert.equal(printed .. "\n", inviting.text())
    assert.matches('Peer "new" joined and authorized!', inviting.errors())

    local stop_code, stop_out = support.run({}, "daemon", "stop", "--config", home.path)
    assert.equal(0, stop_code)
    assert.equal("Shutdown requested.\n", stop_out)
    running:join()
    assert.equal(0, code)
    assert.matches("Daemon stopped.\n$", ctx.text())
    assert.is_false(fs.exists(socket))
    assert.is_false(fs.exists(home.base .. "/.daemon-cookie"))
    assert.equal(1, (support.run({}, "daemon", "status", "--config", home.path)))
  end, 60))
end)
