package.path = os.getenv "PEERUP_SOURCE" .. "/tests/support/?.lua;" .. package.path
local commands = require "commands"
local fs = require "peerup.fs"
local verify = require "peerup.verify"

local PEER = commands.PEERS[1]

--- A home that knows PEER as "laptop"; returns its own peer ID and the path of authorized_keys.
local function home(dir)
  local _, base = commands.node_home(dir)
  local _, own = commands.run({ home = dir.path }, "whoami")
  local path = fs.join(base, "authorized_keys")
  assert(fs.write(path, "# mine\n" .. PEER .. "  group=a  # laptop\n" .. commands.PEERS[2] .. "\n"))
  return own:match "%S+", path
end

describe("verify", function()
  it("shows the code, and keeps a yes in its place", function()
    local dir <close> = commands.dir()
    local own, path = home(dir)
    local code = assert(verify.code(own, PEER))
    local exit, out = commands.run({ home = dir.path, input = { " YES " } }, "verify", "laptop")
    assert.equal(0, exit)
    assert.matches("Verification code:  " .. code.emoji, out, 1, true)
    assert.matches("Numeric code:       " .. code.digits, out, 1, true)
    assert.equal("# mine\n" .. PEER .. "  verified=" .. code.fingerprint .. "  group=a  # laptop\n"
      .. commands.PEERS[2] .. "\n", fs.read(path))
    exit, out = commands.run({ home = dir.path }, "auth", "validate")
    assert.equal(0, exit, out)
    exit, out = commands.run({ home = dir.path }, "verify", PEER, "--json")
    assert.equal(0, exit)
    assert.matches('"verified": true', out, 1, true)
  end)

  it("takes everything else for a no, the end of the input too", function()
    for _, input in ipairs { { "" }, { "n" }, { "yess" }, {} } do
      local dir <close> = commands.dir()
      local _, path = home(dir)
      local before = fs.read(path)
      local exit, out = commands.run({ home = dir.path, input = input }, "verify", PEER)
      assert.equal(0, exit)
      assert.matches("nothing was changed", out)
      assert.equal(before, fs.read(path))
    end
  end)

  it("refuses whom it does not know, and itself", function()
    local dir <close> = commands.dir()
    local own = home(dir)
    local exit, _, problem = commands.run({ home = dir.path }, "verify", commands.PEERS[3])
    assert.equal(1, exit)
    assert.matches("peerup auth add", problem, 1, true)
    exit, _, problem = commands.run({ home = dir.path }, "verify", "nobody")
    assert.equal(1, exit)
    assert.matches('Cannot resolve target "nobody"', problem)
    exit = commands.run({ home = dir.path }, "verify", own)
    assert.equal(1, exit)
  end)

  it("counts only with the key that was compared", function()
    local dir <close> = commands.dir()
    local own = home(dir)
    local code = assert(verify.code(own, PEER))
    local entry = { peer_id = PEER, verified = code.fingerprint }
    assert.is_true(verify.is_verified(own, entry))
    assert.is_false(verify.is_verified(commands.PEERS[3], entry))
    assert.equal(('[VERIFIED] Peer "x" verified (%s)'):format(code.fingerprint),
      (verify.badge(own, entry, "x")))
    entry.verified = ""
    assert.equal('[UNVERIFIED] Peer "x" not verified. Run: peerup verify x',
      (verify.badge(own, entry, "x")))
    assert.is_nil((verify.badge(own, nil, "x")))
  end)
end)
