--- lua/peerup/transports.lua: what is dialled, where is listened, and with which web certificate.
package.path = os.getenv "PEERUP_SOURCE" .. "/tests/support/?.lua;" .. package.path
local fs = require "peerup.fs"
local hosts = require "hosts"
local log = require "peerup.log"
local support = dofile(os.getenv "PEERUP_SOURCE" .. "/tests/support/commands.lua")
local transports = require "peerup.transports"

local function config(addresses, names, web)
  return { dir = ".", network = { listen_addresses = addresses, transports = names or {},
    websocket = web or { certificate_file = "", key_file = "" } } }
end

local function logger()
  local lines = {}
  return log.new(function(text) lines[#lines + 1] = text end, "debug"), lines
end

--- Listens as the configuration says; returns the host's addresses, or the error.
local function listen(c, lines)
  local host <close> = hosts.new { listen = false }
  local out, got = logger()
  local ok, problem = transports.listen(host, c, out)
  if lines then table.move(got, 1, #got, 1, lines) end
  return ok and host:addrs(), problem
end

describe("transports", function()
  it("are known by the addresses", function()
    for addr, name in pairs {
      ["/ip4/192.0.2.1/udp/1/quic-v1"] = "quic", ["/ip4/192.0.2.1/tcp/1"] = "tcp",
      ["/ip4/192.0.2.1/tcp/1/ws"] = "websocket", ["/dns4/x.example/tcp/443/tls/ws"] = "websocket",
      ["/ip4/192.0.2.1/udp/1/quic-v1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"
        .. "/p2p-circuit"] = "quic",
    } do
      assert.equal(name, transports.of(addr), addr)
    end
  end)

  it("that are off are not dialled, whatever a hook says of the others", function()
    local c = config({}, { "tcp", "websocket" })
    local seen
    local hook = transports.on_dial(function() return c end, function(_, candidates)
      seen = #candidates
      return { candidates[2], candidates[1] }
    end)
    local tcp, quic, ws = { addr = "/ip4/192.0.2.1/tcp/1" },
      { addr = "/ip4/192.0.2.1/udp/1/quic-v1" }, { addr = "/ip4/192.0.2.1/tcp/1/ws" }
    assert.same({ ws, tcp }, hook("peer", { quic, tcp, ws }))
    assert.equal(2, seen)
    c = config({}) -- taken up again while it runs
    assert.same({ tcp, quic }, hook("peer", { quic, tcp }))
  end)

  it("that are off end a dial with a reason", async(function()
    local server <close> = hosts.new()
    local c = config({}, { "quic" })
    local client <close> = hosts.new {
      listen = false, on_dial = transports.on_dial(function() return c end),
    }
    hosts.introduce(client, server)
    local conn, problem = client:connect(server:peer_id(), { timeout = 5 })
    assert.is_nil(conn)
    assert.equal("denied", problem.code, tostring(problem))
    c = config({}, { "quic", "tcp" })
    conn, problem = client:connect(server:peer_id(), { timeout = 5 })
    assert.is_not_nil(conn, tostring(problem))
    assert.equal("tcp", conn.transport)
  end))

  it("that are off are not listened on", async(function()
    local both = { "/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1" }
    assert.equal(2, #listen(config(both)))
    local addrs = listen(config(both, { "quic" }))
    assert.equal(1, #addrs)
    assert.matches("/quic%-v1$", addrs[1])
    local none, problem = listen(config(both, { "websocket" }))
    assert.is_falsy(none)
    assert.matches("cannot listen on any address", tostring(problem))
  end))

  it("that cannot be served are told", async(function()
    local lines = {}
    local unknown = "/ip4/127.0.0.1/udp/0/quic-v1/webtransport"
    assert.equal(1, #listen(config { "/ip4/127.0.0.1/tcp/0", unknown }, lines))
    assert.matches("address not supported", table.concat(lines, "\n"))
  end))
end)

describe("the web certificate", function()
  local WSS = "/ip4/127.0.0.1/tcp/0/tls/ws"

  it("of our own is the same after a restart", async(function()
    local dir <close> = support.dir()
    local c = config { WSS }
    c.dir = dir.path
    local first, problem = listen(c)
    assert.is_truthy(first, tostring(problem))
    local hash = first[1]:match("/certhash/([^/]+)$")
    assert.is_truthy(hash, first[1])
    assert.equal(hash, listen(c)[1]:match("/certhash/([^/]+)$"))
    local file = fs.join(dir.path, transports.CERTIFICATE_FILE)
    assert.is_true(fs.check_private(file))
    assert(fs.write(file, "rubbish"))
    local none
    none, problem = listen(c)
    assert.is_falsy(none)
    assert.matches("web_certificate.pem", tostring(problem))
  end))

  it("of the user is taken, and taken again when it is renewed", async(function()
    local dir <close> = support.dir()
    local file = fs.join(dir.path, "own.pem")
    local maker <close> = hosts.new { listen = false }
    assert(maker:web_keep(file))
    local c = config({ WSS }, nil, { certificate_file = file, key_file = file })
    local addrs, problem = listen(c)
    assert.is_truthy(addrs, tostring(problem))
    assert.is_nil(addrs[1]:match("/certhash/")) -- authorities vouch for it, not a pin
    assert.same({ file, file }, transports.watched(c))
    local host <close> = hosts.new { listen = false }
    local out, lines = logger()
    transports.renew(host, c, out, "/another")
    assert.equal(0, #lines)
    transports.renew(host, c, out, file)
    assert.matches("web certificate taken up", lines[1])
    assert(fs.write(file, "half"))
    transports.renew(host, c, out, file)
    assert.matches("the old one stays", lines[2])
    c.network.websocket.certificate_file = "/nowhere.pem"
    local none
    none, problem = listen(c)
    assert.is_falsy(none)
    assert.matches("network.websocket: .*/nowhere.pem", tostring(problem))
  end))
end)

