--- lua/peerup/config/yaml.lua
local yaml = require "peerup.config.yaml"

describe("parse", function()
  it("gives lines and columns", function()
    local root = yaml.parse("# c\na: 1\nb:\n  - x\n  - {y: z}\n")
    assert.equal(2, root.line)
    local b, key = yaml.get(root, "b")
    assert.equal(3, key.line)
    assert.equal(5, b.last_line)
    assert.equal(5, b.items[2].line)
    assert.equal("z", yaml.get(b.items[2], "y").value)
  end)

  it("reads only the first document, and none at all", function()
    assert.equal("1", yaml.get(yaml.parse("a: 1\n---\na: 2\n"), "a").value)
    local root, problem = yaml.parse("# nothing\n")
    assert.is_nil(root)
    assert.is_nil(problem)
  end)

  it("names the line of a fault", function()
    for text, line in pairs { ["a: 1\na: 2\n"] = 2, ["a: [\nb: 1"] = 3, ["a: 1\n\tb: 2"] = 2,
      ["x: 1\n<<: {a: 1}\n"] = 2, ["? [a]\n: 1\n"] = 1, ["a: *none\n"] = 1 } do
      local root, problem = yaml.parse(text)
      assert.is_nil(root, text)
      assert.equal(line, problem.line, text)
    end
  end)

  it("follows anchors but is not blown up by them", function()
    assert.equal("1", yaml.get(yaml.parse("a: &x 1\nb: *x\n"), "b").value)
    local lines = { "a0: &a0 [x, x, x, x, x, x, x, x, x, x]" }
    for i = 1, 9 do
      local item = "*a" .. (i - 1)
      lines[#lines + 1] = ("a%d: &a%d [%s]"):format(i, i, (item .. ", "):rep(9) .. item)
    end
    local root, problem = yaml.parse(table.concat(lines, "\n"))
    assert.is_nil(root)
    assert.matches("too large", problem.message)
    root, problem = yaml.parse("a: &a [*a]")
    assert.is_nil(root)
    assert.matches("contains itself", problem.message)
  end)

  it("does not nest without end", function()
    local root, problem = yaml.parse(("["):rep(40) .. ("]"):rep(40))
    assert.is_nil(root)
    assert.matches("too deep", problem.message)
  end)
end)

describe("scalars", function()
  local function value(text) return yaml.get(yaml.parse("k: " .. text), "k") end

  it("are booleans of YAML 1.1 and 1.2", function()
    for _, text in ipairs { "true", "yes", "On", "y" } do
      assert.is_true(yaml.to_boolean(value(text)))
    end
    for _, text in ipairs { "false", "no", "OFF", "n" } do
      assert.is_false(yaml.to_boolean(value(text)))
    end
    assert.is_nil(yaml.to_boolean(value('"true"')))
    assert.is_nil(yaml.to_boolean(value("tRue")))
  end)

  it("are integers", function()
    for text, want in pairs { ["12"] = 12, ["-3"] = -3, ["0x10"] = 16, ["0o17"] = 15,
      ["0b101"] = 5, ["1_000"] = 1000, ["+4"] = 4 } do
      assert.equal(want, yaml.to_integer(value(text)), text)
    end
    for _, text in ipairs { "1.5", "abc", '"12"', "1e3", "99999999999999999999" } do
      assert.is_nil(yaml.to_integer(value(text)), text)
    end
  end)

  it("are null", function()
    assert.is_true(yaml.is_null(value("")))
    assert.is_true(yaml.is_null(value("~")))
    assert.is_false(yaml.is_null(value('""')))
  end)
end)
