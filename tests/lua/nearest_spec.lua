--- lua/peerup/nearest.lua, and that each word which names something gets the nearest name: of
-- commands, of files, and of the daemon's API.
local support = dofile((os.getenv "PEERUP_SOURCE" or ".") .. "/tests/support/commands.lua")
local fs = require "peerup.fs"
local json = require "peerup.json"
local keys = require "peerup.authorized_keys"
local nearest = require "peerup.nearest"
local routes = require "peerup.daemon.routes"
local services = require "peerup.services"

describe("the nearest word", function()
  it("is a few edits away", function()
    local known = { "list", "validate", "add", "remove" }
    assert.equal("list", nearest.of("lst", known))
    assert.equal("list", nearest.of("LIST", known))
    assert.equal("list", nearest.of("lsit", known))
    assert.equal("validate", nearest.of("valdate", known))
    assert.equal("add", nearest.of("ad", known))
    for _, word in ipairs { "", "xyz", "something", ("l"):rep(nearest.MAX_BYTES + 1) } do
      assert.is_nil(nearest.of(word, known))
      assert.equal("", nearest.hint(word, known))
    end
    assert.equal(' (did you mean "add"?)', nearest.hint("addd", known))
    assert.equal(" (did you mean --add?)", nearest.hint("addd", known, "--%s"))
  end)

  it("costs little, whatever is asked", function()
    local many = {}
    for i = 1, 20000 do many[i] = ("a"):rep(150) .. i end
    local from = os.clock()
    nearest.of(("a"):rep(149) .. "x", many)
    assert.is_true(os.clock() - from < 5)
    assert.is_nil(nearest.of(("a"):rep(1000000), many))
  end)
end)

describe("a mistyped", function()
  local function home()
    local dir = support.dir()
    local _, base = support.node_home(dir, function(text)
      return (text:gsub("\nnames:[^\n]*", ""):gsub("\nservices:[^\n]*", ""))
        .. "\nnames:\n  laptop: " .. support.PEERS[1] .. "\nservices:\n  web:\n    enabled: true\n"
        .. "    local_address: localhost:80\n"
    end)
    assert(fs.write(base .. "/authorized_keys",
      assert(keys.add("", support.PEERS[2], "phone", {}))))
    assert(fs.write(dir.path .. "/relay.yaml",
      (assert(fs.read(support.SOURCE .. "/examples/relay-server.yaml")))))
    assert(fs.write(dir.path .. "/relay_authorized_keys",
      assert(keys.add("", support.PEERS[2], "phone", {}))))
    return dir
  end

  local function says(dir, hint, ...)
    local code, out, errors = support.run({ home = dir.path }, ...)
    local label = table.concat({ ... }, " ")
    assert.equal(1, code, label)
    assert.equal("", out, label)
    assert.is_truthy(errors:find(hint, 1, true), label .. ": " .. errors)
  end

  it("command or subcommand is an error with the usage, and a hint", async(function()
    local dir <close> = home()
    for _, words in ipairs { { "relay", "relya" }, { "relay", "help", "relya" } } do
      says(dir, "Did you mean '" .. words[1] .. "'?", words[#words])
    end
    says(dir, "Unknown command: relya\nDid you mean 'relay'?\n\nUsage: peerup <command>", "relya")
    says(dir, "Unknown command: relya\nDid you mean 'relay'?", "help", "relya")
    says(dir, "Unknown auth subcommand: lst\nDid you mean 'list'?\n\nUsage: peerup auth", "auth",
      "lst")
    says(dir, "Unknown auth subcommand: lst\nDid you mean 'list'?", "auth", "help", "lst")
    says(dir, "Unknown auth subcommand: lst\nDid you mean 'list'?", "help", "auth", "lst")
    says(dir, "Unknown relay config subcommand: validat\nDid you mean 'validate'?\n\n"
      .. "Usage: peerup relay config", "relay", "config", "validat")
    says(dir, "flags stand behind the command: --json\n\nUsage: peerup <command>", "--json",
      "status")
    says(dir, "flags stand behind the subcommand of auth: --json", "auth", "--json", "list")
    says(dir, "(did you mean ping?)", "manual", "pnig")
  end))

  it("name of the config gets the nearest", async(function()
    local dir <close> = home()
    local almost = support.PEERS[2]:sub(1, -2)
    local relay = support.RELAY:gsub("tcp/7777", "tcp/777")
    says(dir, '(did you mean "web"?)', "service", "enable", "wbe")
    says(dir, '(did you mean "web"?)', "service", "disable", "wbe")
    says(dir, '(did you mean "web"?)', "service", "remove", "wbe")
    says(dir, '(did you mean "laptop"?)', "resolve", "lapotp")
    says(dir, '(did you mean "laptop"?)', "ping", "lapotp", "-c", "1")
    says(dir, '(did you mean "laptop"?)', "traceroute", "lapotp")
    says(dir, '(did you mean "laptop"?)', "proxy", "lapotp", "web", "0")
    says(dir, '(did you mean "' .. support.PEERS[1] .. '"?)', "resolve",
      support.PEERS[1]:sub(1, -3))
    says(dir, '(did you mean "' .. support.RELAY .. '"?)', "relay", "remove", relay)
    says(dir, "(did you mean " .. support.PEERS[2] .. "  # phone?)", "auth", "remove", "pone")
    says(dir, "(did you mean " .. support.PEERS[2] .. "  # phone?)", "auth", "remove", almost)
    says(dir, "(did you mean " .. support.PEERS[2] .. "  # phone?)", "relay", "deauthorize",
      almost, "--config", dir.path .. "/relay.yaml")
  end))

  it("target gets the nearest, whichever command takes one", async(function()
    local dir <close> = home()
    local _, _, _, ctx = support.run({}, "version")
    local seen = 0
    local function descend(words, command)
      for _, sub in ipairs(command.commands or {}) do
        local longer = table.move(words, 1, #words, 1, {})
        longer[#longer + 1] = sub.name
        descend(longer, sub)
      end
      local first = not command.commands and (command.args or {})[1]
      if not first or first[1] ~= "target" then return end
      seen = seen + 1
      local line = table.move(words, 1, #words, 1, {})
      line[#line + 1] = "lapotp"
      for i = 2, #command.args do
        if not command.args[i].optional then line[#line + 1] = "7" end
      end
      says(dir, '(did you mean "laptop"?)', table.unpack(line))
    end
    for _, command in ipairs(ctx.commands()) do descend({ command.name }, command) end
    assert.is_true(seen >= 5)
    says(dir, "(did you mean " .. support.PEERS[2] .. "  # phone?)", "verify", "pohne")
  end))

  it("name in a request to the daemon gets the nearest", async(function()
    local state = {
      node = { names = { laptop = support.PEERS[1] }, exposed = {
        ["/peerup/web/1.0.0"] = { name = "web" } }, unexpose_until_end = function() end },
      proxies = { by_id = { ["proxy-1"] = {} } },
    }
    local function problem(route, body, parameter)
      local data, why, status = routes.routes[route].run(state, { body = json.encode(body or {}) },
        parameter)
      assert.is_nil(data)
      assert.is_true(status == 400 or status == 404)
      return tostring(why)
    end
    for _, route in ipairs { "POST /v1/ping", "POST /v1/traceroute" } do
      assert.matches('did you mean "laptop"', problem(route, { peer = "lapotp" }))
    end
    assert.matches('did you mean "laptop"', problem("POST /v1/resolve", { name = "lapotp" }))
    assert.matches('did you mean "laptop"', problem("POST /v1/connect", { peer = "lapotp",
      service = "web", listen = "localhost:0" }))
    assert.matches('did you mean "web"', problem("DELETE /v1/expose/{name}", nil, "wbe"))
    assert.matches('did you mean "proxy%-1"', problem("DELETE /v1/connect/{id}", nil, "prxy-1"))
  end))

  it("service of a daemon's connection is noted, though the port is made", async(function()
    local host = { best_conn = function() return {} end, protect = function() end,
      peer_protocols = function() return { "/peerup/web/1.0.0" } end,
      proxy_listen = function() return { address = function() return "127.0.0.1:1" end } end }
    local state = { node = { names = { laptop = support.PEERS[1] }, host = host } }
    for service, note in pairs { wbe = 'the peer offers no service wbe (did you mean "web"?)',
      web = false } do
      local data = assert(routes.routes["POST /v1/connect"].run(state, { body = json.encode {
        peer = "laptop", service = service, listen = "localhost:0" } }))
      assert.equal("127.0.0.1:1", data.listen_address)
      assert.equal(note or nil, data.note)
    end
  end))

  it("service of a peer gets the nearest that the peer has told", function()
    local told = {}
    local host = { peer_protocols = function() return told end }
    assert.is_nil(services.missing(host, "p", "wbe"))
    told = { "/ipfs/ping/1.0.0", "/peerup/web/1.0.0", "/peerup/invite/1.0.0", "/peerup/ssh/1.0.0" }
    assert.is_nil(services.missing(host, "p", "web"))
    assert.equal('the peer offers no service wbe (did you mean "web"?)',
      services.missing(host, "p", "wbe"))
    assert.equal("the peer offers no service invit", services.missing(host, "p", "invit"))
  end)
end)
