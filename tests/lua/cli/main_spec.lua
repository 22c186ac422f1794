--- lua/peerup/cli/main.lua, context.lua, output.lua, term.lua: usage, hints, exit codes.
local support = dofile((os.getenv "PEERUP_SOURCE" or ".") .. "/tests/support/commands.lua")
local core = require "peerup.core"
local output = require "peerup.cli.output"

local run = support.run

describe("peerup", function()
  it("prints its usage", function()
    local code, out = run({})
    assert.equal(1, code)
    for _, name in ipairs { "init", "whoami", "auth", "relay", "service", "invite", "join", "proxy",
      "ping", "resolve", "status", "config", "daemon", "version" } do
      assert.matches("\n  " .. name .. " ", out)
    end
    assert.matches("/etc/peerup/config.yaml", out)
    for _, words in ipairs { { "help" }, { "--help" }, { "-h" } } do
      code, out = run({}, table.unpack(words))
      assert.equal(0, code)
      assert.matches("^Usage: peerup", out)
    end
  end)

  it("hints at mistyped commands", function()
    local code, out, errors = run({}, "whomai")
    assert.equal(1, code)
    assert.matches("^Unknown command: whomai\nDid you mean 'whoami'%?\n\nUsage: ", errors)
    assert.equal("", out)
    code, out, errors = run({}, "auth", "lst")
    assert.equal("", out)
    assert.equal(1, code)
    assert.matches("Unknown auth subcommand: lst\nDid you mean 'list'", errors)
    code = run({}, "../evil")
    assert.equal(1, code)
  end)

  it("helps with each command", function()
    for _, words in ipairs { { "help", "ping" }, { "ping", "--help" }, { "ping", "-h" } } do
      local code, out = run({}, table.unpack(words))
      assert.equal(0, code)
      assert.matches("Usage: peerup ping", out)
    end
    local code, out = run({}, "help", "auth")
    assert.equal(0, code)
    assert.matches("validate", out)
    code, out = run({}, "auth", "help", "add")
    assert.equal(0, code)
    assert.matches("Usage: peerup auth add", out)
    code, out = run({}, "daemon", "--help")
    assert.equal(0, code)
    assert.matches("Usage: peerup daemon <sub>.*%(also without <sub>%)", out)
  end)

  it("helps with subcommands of subcommands, in any order of words", function()
    for _, words in ipairs { { "relay", "config", "validate", "--help" },
      { "relay", "config", "help", "validate" }, { "relay", "help", "config", "validate" },
      { "help", "relay", "config", "validate" }, { "--help", "relay", "config", "validate" },
      { "relay", "config", "--help", "validate" },
      { "help", "help", "relay", "config", "validate" },
      { "relay", "config", "validate", "--json", "-h" } } do
      local code, out, errors = run({}, table.unpack(words))
      assert.equal(0, code)
      assert.equal("", errors)
      assert.matches("^Usage: peerup relay config validate ", out)
    end
    for _, words in ipairs { { "relay", "config", "--help" }, { "relay", "config", "-h" },
      { "relay", "config", "help" }, { "help", "relay", "config" } } do
      local code, out, errors = run({}, table.unpack(words))
      assert.equal(0, code)
      assert.equal("", errors)
      assert.matches("^Usage: peerup relay config <sub>", out)
    end
  end)

  it("writes usage that nobody asked for to standard error", function()
    for _, words in ipairs { { "auth" }, { "relay", "config" }, { "nonsense" },
      { "auth", "nonsense" }, { "help", "nonsense" }, { "auth", "add" }, { "ping" },
      { "ping", "--nope" } } do
      local code, out, errors = run({}, table.unpack(words))
      assert.is_true(code == 1 or code == 2)
      assert.equal("", out)
      assert.matches("Usage: peerup ", errors)
    end
  end)

  it("gives 2 for bad flags of network commands and 1 for others", function()
    local code, out, errors = run({}, "ping", "x", "--nope")
    assert.equal(2, code)
    assert.equal("", out)
    assert.matches("^flag provided but not defined: %-nope\n.*%-%-interval", errors)
    code, out, errors = run({}, "whoami", "--nope")
    assert.equal("", out)
    assert.equal(1, code)
    assert.matches("^Error: flag provided but not defined: %-nope\n", errors)
    assert.equal(2, (run({}, "daemon", "--nope")))
  end)

  it("prints its version", function()
    for _, word in ipairs { "version", "--version", "-v" } do
      local code, out = run({}, word)
      assert.equal(0, code)
      assert.matches("^peerup " .. core.version():gsub("%p", "%%%0")
        .. " %(.*%) built .*\nLua 5.4 %w+/%w+\n$", out)
    end
    local _, out = run({}, "version", "--json")
    assert.equal(core.version(), require("peerup.json").decode(out).version)
  end)
end)

describe("colours", function()
  it("are only for terminals, and not where NO_COLOR is set", function()
    local function painted(is_terminal, no_color)
      local text
      output.new(function(t) text = t end, is_terminal, no_color):paint("green", "x")
      return text
    end
    assert.equal("\27[32mx\27[0m\n", painted(true, nil))
    assert.equal("\27[32mx\27[0m\n", painted(true, ""))
    assert.equal("x\n", painted(true, "1"))
    assert.equal("x\n", painted(false, nil))
  end)
end)

describe("wait_stop", function()
  it("ends by stop, before or after", async(function()
    local ctx = support.context {}
    core.task.spawn(function() ctx:stop("reason") end)
    assert.equal("reason", ctx:wait_stop())
    ctx = support.context {}
    core.task.spawn(function()
      core.task.sleep(0.01)
      ctx:stop("later")
    end)
    assert.equal("later", ctx:wait_stop())
  end))
end)
