--- lua/peerup/cli/args.lua; the order of the Go program is in tests/vectors.
local args = require "peerup.cli.args"

local COMMAND = {
  name = "x", summary = "does x",
  args = { { "target" }, { "rest", many = true, optional = true } },
  options = {
    { "count", short = "c", alias = "n", type = "integer", default = "4" },
    { "name", type = "string" }, { "wait", type = "duration" },
    { "json", type = "flag" }, { "non-interactive", type = "flag" },
  },
}

local function parse(...)
  return args.parse(COMMAND, { ... })
end

describe("flags", function()
  it("stand anywhere, with one or two dashes, with = or a space", function()
    for _, words in ipairs { { "t", "-c", "5", "--json" }, { "-json", "--count=5", "t" },
      { "--c", "5", "t", "-json=true" }, { "-n=5", "--json=1", "t" } } do
      local a = assert(parse(table.unpack(words)))
      assert.equal(5, a.count)
      assert.is_true(a.json)
      assert.equal("t", a.target)
    end
  end)

  it("take values that look like flags, and defaults", function()
    local a = assert(parse("t", "--name", "-x"))
    assert.equal("-x", a.name)
    assert.equal(4, a.count)
    assert.equal(-3, parse("t", "-c", "-3").count)
    assert.equal("", parse("t", "--name=").name)
    assert.equal(1500000000, parse("t", "--wait", "1.5s").wait)
  end)

  it("can be switched off, and end at --", function()
    assert.is_nil(parse("t", "--json=false").json)
    local a = assert(parse("--json", "--", "-c", "--x"))
    assert.equal("-c", a.target)
    assert.same({ "--x" }, a.rest)
    assert.is_true(a.non_interactive == nil)
  end)

  it("that are wrong are named", function()
    local function problem(...)
      local a, p = parse(...)
      assert.is_nil(a)
      assert.equal("usage", p.code)
      return tostring(p)
    end
    assert.equal("flag provided but not defined: -jsn (did you mean --json?)",
      problem("t", "--jsn"))
    assert.equal("flag needs an argument: -name", problem("t", "--name"))
    assert.matches('invalid value "x" for flag %-c: must be an integer', problem("t", "-c", "x"))
    assert.matches('invalid boolean value "maybe" for %-json', problem("t", "--json=maybe"))
    assert.equal("missing argument: <target>", problem("--json"))
    assert.matches("invalid duration", problem("t", "--wait", "5"))
  end)
end)

describe("positionals", function()
  it("that nobody asked for are handed back", function()
    local one = { name = "y", summary = "y", args = { { "a", optional = true } } }
    local a = assert(args.parse(one, { "1", "2", "3" }))
    assert.equal("1", a.a)
    assert.same({ "2", "3" }, a.extra)
    assert.is_nil(assert(args.parse(one, {})).a)
  end)
end)

describe("help", function()
  it("tells all that can be given", function()
    for _, word in ipairs { "--help", "-h", "-help" } do
      local a, problem = parse(word)
      assert.is_nil(a)
      assert.equal("help", problem.code)
      for _, text in ipairs { "does x", "--count", "-c", "-n", "--non-interactive", "--config",
        "target", "(default 4)" } do
        assert.is_truthy(problem.message:find(text, 1, true), text)
      end
      assert.is_nil(problem.message:find("(default:", 1, true)) -- said once
    end
  end)
end)
