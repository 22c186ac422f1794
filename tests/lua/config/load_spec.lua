--- lua/peerup/config/load.lua, schema.lua, template.lua, show.lua
local support = dofile((os.getenv "PEERUP_SOURCE" or ".") .. "/tests/support/commands.lua")
local fs = require "peerup.fs"
local load = require "peerup.config.load"
local show = require "peerup.config.show"
local template = require "peerup.config.template"
local uv = require "luv"

local NODE = template.node { by = "init", relay = support.RELAY }

local function decode(text, kind)
  return load.decode(text, kind or "node", "dir/x.yaml")
end

describe("decode", function()
  it("reads the generated file", function()
    local config = assert(decode(NODE))
    assert.same({}, config.warnings)
    assert.same({}, load.validate(config))
    assert.equal("dir/identity.key", config.identity.key_file)
    assert.equal("dir/authorized_keys", config.security.authorized_keys_file)
    assert.equal(120 * 10 ^ 9, config.relay.reservation_interval)
    assert.same({ support.RELAY }, config.relay.addresses)
    assert.is_true(config.protocols.ping_pong.enabled)
  end)

  it("knows transports, and a certificate and its key together", function()
    local head = "network:\n  listen_addresses: [/ip4/0.0.0.0/tcp/0]\n"
    local config = assert(decode(head .. "  transports: [quic, websocket]\n  websocket:\n"
      .. "    certificate_file: c.pem\n    key_file: /etc/k.pem\n"))
    assert.same({ "quic", "websocket" }, config.network.transports)
    assert.equal("dir/c.pem", config.network.websocket.certificate_file)
    assert.equal("/etc/k.pem", config.network.websocket.key_file)
    for text, want in pairs {
      ["  transports: [quic, tpc]\n"] =
        'line 3: network.transports[2]: "tpc" is no transport, did you mean "tcp"?',
      ["  websocket:\n    certificate_file: c.pem\n"] =
        "line 4: network.websocket.key_file: is required beside certificate_file",
      ["  websocket:\n    key_file: c.pem\n"] =
        "line 4: network.websocket.certificate_file: is required beside key_file",
    } do
      local all = table.concat(load.validate(assert(decode(head .. text))), "\n")
      assert.is_truthy(all:find(want, 1, true), all)
    end
  end)

  it("keeps a network of its own", function()
    local config = assert(decode(template.node { by = "join", relay = "/x", network = "lab" }))
    assert.equal("lab", config.discovery.network)
  end)

  it("names file, line and key of a wrong value", function()
    for text, want in pairs {
      ["version: 1\nnetwork:\n  listen_addresses: a\n"] =
        "dir/x.yaml: line 3: network.listen_addresses: must be a list",
      ["relay:\n  reservation_interval: 2x\n"] = "line 2: relay.reservation_interval",
      ["services:\n  ssh:\n    enabled: maybe\n"] =
        "line 3: services.ssh.enabled: must be true or false",
      ["identity: 3\n"] = "line 1: identity: must be a mapping",
      ["version: one\nnames: [a]\n"] = "line 1: version: must be an integer",
    } do
      local config, problem = decode(text)
      assert.is_nil(config)
      assert.is_truthy(tostring(problem):find(want, 1, true), tostring(problem))
    end
  end)

  it("warns of unknown keys with the nearest known one", function()
    local config = assert(decode("securty:\n  x: 1\nrelay:\n  adresses: []\nfoo: 1\n"))
    assert.equal(3, #config.warnings)
    assert.matches('line 1: securty: unknown key, did you mean "security"', config.warnings[1])
    assert.matches('line 5: foo: unknown key$', config.warnings[2])
    assert.matches('line 4: relay.adresses: unknown key, did you mean "addresses"',
      config.warnings[3])
  end)

  it("refuses duplicate keys and newer versions", function()
    local _, problem = decode("version: 1\nversion: 1\n")
    assert.matches('failed to parse YAML: .*line 2: mapping key "version" already defined at '
      .. "line 1", tostring(problem))
    _, problem = decode("version: 2\n")
    assert.equal("config version too new: version 2 is newer than supported version 1; please "
      .. "upgrade peerup", tostring(problem))
    assert.equal(1, decode("version: 0\n").version)
  end)

  it("is gated unless it says otherwise", function()
    assert.is_true(decode("version: 1\n").security.enable_connection_gating)
    assert.is_false(decode("security:\n  enable_connection_gating: false\n").security
      .enable_connection_gating)
  end)

  it("fills a relay's defaults; 0 means default, less is refused", function()
    local config = assert(decode("resources:\n  max_reservations: 0\n", "relay"))
    assert.equal(128, config.resources.max_reservations)
    assert.equal(16, config.resources.max_circuits)
    assert.equal(64 << 20, config.resources.session_data_limit)
    assert.equal(600 * 10 ^ 9, config.resources.session_duration)
    assert.is_true(config.security.members_may_invite)
    assert.is_nil((decode("resources:\n  max_circuits: -1\n", "relay")))
    assert.equal(1 << 20, decode("resources:\n  session_data_limit: 1 mb\n", "relay").resources
      .session_data_limit)
  end)
end)

describe("validate", function()
  local function faults(change)
    local text = change(NODE)
    assert.not_equal(NODE, text)
    return table.concat(load.validate(assert(decode(text))), "\n")
  end

  it("finds what the daemon could not use", function()
    local function replaced(a, b)
      return faults(function(text)
        local at, stop = text:find(a, 1, true)
        return text:sub(1, at - 1) .. b .. text:sub(stop + 1)
      end)
    end
    assert.matches("relay.addresses%[1%]: .*must end in /p2p/",
      replaced("/p2p/" .. support.PEERS[3], ""))
    assert.matches("reservation_interval: must be more than zero", replaced('"2m"', '"0s"'))
    assert.matches("names.home: ", replaced("names: {}", "names: {home: nonsense}"))
    assert.matches("line %d+: services.SSH: invalid service name", replaced("names: {}",
      'names: {}\nservices:\n  SSH:\n    enabled: true\n    local_address: "a:1"\n'))
    assert.matches("local_address: .*is not host:port", replaced("names: {}",
      "names: {}\nservices:\n  ssh:\n    enabled: true\n"))
    assert.matches("is a protocol of peerup itself", replaced("names: {}",
      'names: {}\nservices:\n  invite:\n    local_address: "a:1"\n'))
    assert.matches("allowed_peers%[1%]", replaced("names: {}", "names: {}\nservices:\n  ssh:\n"
      .. '    local_address: "a:1"\n    allowed_peers: [bad]\n'))
    assert.matches("key_file: is required", replaced('key_file: "identity.key"', ""))
    assert.matches("listen_addresses%[1%]: .*no address",
      replaced("/ip4/0.0.0.0/tcp/0", "nonsense"))
    assert.matches("authorized_keys_file: is required", replaced(
      'authorized_keys_file: "authorized_keys"', ""))
  end)
end)

describe("files", function()
  it("must not be open to others", function()
    local dir <close> = support.dir()
    local path = support.node_home(dir)
    assert.is_truthy(load.read(path, "node"))
    uv.fs_chmod(path, tonumber("644", 8))
    local config, problem = load.read(path, "node")
    assert.is_nil(config)
    assert.equal("key_mode", problem.code)
    assert.matches("chmod 600", tostring(problem))
  end)

  it("are looked for in order", function()
    local dir <close> = support.dir()
    local path = support.node_home(dir)
    assert.equal(path, load.find(nil, dir.path))
    local _, problem = load.find(dir.path .. "/none.yaml", dir.path)
    assert.matches("config file not found: ", tostring(problem))
    _, problem = load.find(nil, dir.path .. "/nowhere")
    assert.matches("/etc/peerup/config.yaml", tostring(problem))
    assert.matches("peerup init", tostring(problem))
  end)

  it("resolve paths beside themselves, also a relay's", function()
    local dir <close> = support.dir()
    local path = dir.path .. "/relay-server.yaml"
    assert(fs.write(path, 'identity:\n  key_file: "r.key"\n'))
    assert.equal(dir.path .. "/r.key", load.relay(path).identity.key_file)
  end)
end)

describe("show", function()
  it("reads back as the same config", function()
    local text = NODE:gsub("names: {}", 'names: {"on": "' .. support.PEERS[1]
      .. '"}\nservices:\n  ssh:\n    enabled: true\n    local_address: "[::1]:22"\n')
    local config = assert(decode(text))
    local again = assert(load.decode(show.yaml(config), "node", "dir/x.yaml"))
    assert.same({}, again.warnings)
    assert.same(config.names, again.names)
    assert.same(config.services, again.services)
    assert.same(config.network, again.network)
    assert.equal(config.relay.reservation_interval, again.relay.reservation_interval)
    assert.matches("reservation_interval: 2m0s", show.yaml(config))
  end)
end)
