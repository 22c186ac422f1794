--- lua/peerup/names.lua, services.lua, relays.lua; the Go program's own cases are in tests/vectors.
local support = dofile((os.getenv "PEERUP_SOURCE" or ".") .. "/tests/support/commands.lua")
local names = require "peerup.names"
local relays = require "peerup.relays"
local services = require "peerup.services"

local A, B = support.PEERS[1], support.PEERS[2]

describe("names", function()
  it("resolve before peer IDs", function()
    assert.same({ B, "local_config" }, { names.resolve({ [A] = B }, A) })
    assert.same({ A, "peer_id" }, { names.resolve({}, A) })
  end)

  it("that are wrong or unknown say so", function()
    local id, problem = names.resolve({ home = "junk" }, "home")
    assert.is_nil(id)
    assert.matches("invalid peer ID in the config", tostring(problem))
    id, problem = names.resolve({ home = A }, "hom")
    assert.is_nil(id)
    assert.equal('name not found: hom (did you mean "home"?)', tostring(problem))
  end)

  it("run out of numbers without clashing", function()
    local taken = { x = 1 }
    for i = 2, 100 do taken["x-" .. i] = 1 end
    assert.equal("x-1234567890", names.unique("x", taken, 1234567890))
  end)

  it("are found for a peer", function()
    assert.equal("a", names.of({ b = A, a = A, c = B }, A))
    assert.is_nil(names.of({}, A))
  end)
end)

describe("services", function()
  it("may not take the names of our own protocols", function()
    assert.is_true(services.check_name("ssh"))
    assert.is_nil((services.check_name("relay-invite")))
    assert.is_nil((services.check_name("Bad")))
  end)
end)

describe("relay addresses", function()
  it("must end in a peer ID", function()
    assert.equal(B, relays.parse("/ip4/1.2.3.4/tcp/1/p2p/" .. B).peer)
    assert.matches("must end in /p2p/", tostring(select(2, relays.parse("/ip4/1.2.3.4/tcp/1"))))
    assert.is_nil((relays.parse("nonsense")))
  end)

  it("have short forms", function()
    local cases = {
      ["1.2.3.4"] = "/ip4/1.2.3.4/tcp/7777", ["1.2.3.4:80"] = "/ip4/1.2.3.4/tcp/80",
      ["[::1]:80"] = "/ip6/::1/tcp/80", ["[::1]"] = "/ip6/::1/tcp/7777",
      ["2001:db8::1"] = "/ip6/2001:db8::1/tcp/7777",
    }
    for text, want in pairs(cases) do
      assert.equal(want .. "/p2p/" .. A, relays.build(assert(relays.parse_short(text)), A))
    end
    for _, text in ipairs { "example.com", "1.2.3.4:0", "1.2.3.4:70000", "1.2.3", "[zz]:1", "" } do
      assert.is_nil((relays.parse_short(text)), text)
    end
    assert.matches("hostnames not accepted", tostring(select(2, relays.parse_short("a.b:1"))))
    assert.is_nil((relays.build({ family = "ip4", ip = "1.2.3.4", port = 1 }, "x")))
  end)

  it("carry circuits", function()
    assert.equal(support.RELAY .. "/p2p-circuit/p2p/" .. A, relays.circuit(support.RELAY, A))
  end)
end)
