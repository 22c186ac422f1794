--- lua/peerup/config/edit.lua; the Go program's own cases are in tests/vectors.
local edit = require "peerup.config.edit"
local yaml = require "peerup.config.yaml"

describe("add_name", function()
  it("follows other layouts", function()
    assert.equal("names:\n    b: \"Q\"\n    a: x\n", edit.add_name("names:\n    a: x\n", "b", "Q"))
    assert.equal('names: {a: "x", b: "Q"}', edit.add_name('names: {a: "x"}', "b", "Q"))
    assert.equal("names:\n  b: \"Q\"\nz: 1", edit.add_name("names:\nz: 1", "b", "Q"))
  end)

  it("is not fooled by a section of the same name deeper down", function()
    local text = edit.add_name("x:\n  names: 1\n", "b", "Q")
    assert.equal("Q", yaml.get(yaml.get(yaml.parse(text), "names"), "b").value)
    assert.equal("1", yaml.get(yaml.get(yaml.parse(text), "x"), "names").value)
  end)

  it("does not touch what stands, and refuses to take a name away", function()
    assert.equal('names: {a: "Q"}', edit.add_name('names: {a: "Q"}', "a", "Q"))
    local text, problem = edit.add_name('names: {a: "Q"}', "a", "R")
    assert.is_nil(text)
    assert.equal("exists", problem.code)
  end)

  it("quotes what YAML would read otherwise", function()
    local text = edit.add_name("names: {}\n", "null", "Q")
    assert.equal("names:\n  \"null\": \"Q\"\n", text)
  end)

  it("refuses a broken file and an impossible layout", function()
    assert.equal("malformed", select(2, edit.add_name("a: [", "b", "Q")).code)
    local text, problem = edit.add_name("names: [a]\n", "b", "Q")
    assert.is_nil(text)
    assert.equal("unsupported", problem.code)
  end)
end)

describe("relays", function()
  it("are added to any list", function()
    assert.equal('relay: {addresses: [/a, "/b" ]}',
      edit.add_relay("relay: {addresses: [/a ]}", "/b"))
    assert.equal('relay:\n  addresses:\n  - /a\n  - "/b"\n# end\n',
      edit.add_relay("relay:\n  addresses:\n  - /a\n# end\n", "/b"))
    assert.equal("relay:\n  addresses: [/a]\n", edit.add_relay("relay:\n  addresses: [/a]\n", "/a"))
  end)

  it("are removed, the last one leaving an empty list", function()
    assert.equal('relay:\n  addresses: ["/a"]\n',
      edit.remove_relay('relay:\n  addresses: ["/a", "/b"]\n', "/b"))
    assert.equal('relay:\n  addresses: ["/b"]\n',
      edit.remove_relay('relay:\n  addresses: ["/a", "/b"]\n', "/a"))
    assert.equal("relay:\n  addresses: [] # keep\n  x: 1\n",
      edit.remove_relay("relay:\n  addresses: # keep\n    - /a\n  x: 1\n", "/a"))
    local _, problem = edit.remove_relay("relay:\n  addresses: [/a]\n", "/z")
    assert.equal("not_found", problem.code)
  end)
end)

describe("services", function()
  local TEXT = "# top\nservices:\n    ssh: # shell\n        enabled: true # on\n"
    .. '        local_address: "localhost:22"\n    # a page\n    web: {enabled: false}\nz: 1\n'

  it("are added in the layout that is there", function()
    local text = edit.add_service(TEXT, "new", { local_address = "h:1", protocol = "/x" })
    assert.equal(TEXT:gsub("z: 1\n", "    new:\n      enabled: true\n      local_address: \"h:1\"\n"
      .. '      protocol: "/x"\nz: 1\n'), text)
    assert.equal("exists", select(2, edit.add_service(TEXT, "ssh", { local_address = "h:1" })).code)
    assert.equal('a: 1\n\nservices:\n  new:\n    enabled: true\n    local_address: "h:1"\n',
      edit.add_service("a: 1\n", "new", { local_address = "h:1" }))
    assert.equal('services: {a: {enabled: true}, new: {enabled: true, local_address: "h:1"}}',
      edit.add_service("services: {a: {enabled: true}}", "new", { local_address = "h:1" }))
    local _, problem = edit.add_service("services: [a]", "new", { local_address = "h:1" })
    assert.equal("unsupported", problem.code)
    _, problem = edit.add_service("a: 1\n...\n", "new", { local_address = "h:1" })
    assert.equal("unsupported", problem.code)
  end)

  it("are quoted when another reader would take their names for something else", function()
    for _, name in ipairs { "no", "12", "true" } do
      assert.matches('  "' .. name .. '":\n',
        edit.add_service("a: 1\n", name, { local_address = "h:1" }), 1, true)
    end
  end)

  it("are switched, comments staying", function()
    assert.equal(TEXT:gsub("true # on", "false # on"), edit.set_service_enabled(TEXT, "ssh", false))
    assert.equal(TEXT:gsub("enabled: false", "enabled: true"),
      edit.set_service_enabled(TEXT, "web", true))
    assert.equal("services:\n  a:\n    enabled: true\n    local_address: x:1\n",
      edit.set_service_enabled("services:\n  a:\n    local_address: x:1\n", "a", true))
    assert.equal("not_found", select(2, edit.set_service_enabled(TEXT, "nix", true)).code)
  end)

  it("are removed; the last one leaves {}", function()
    assert.equal("# top\nservices:\n    # a page\n    web: {enabled: false}\nz: 1\n",
      edit.remove_service(TEXT, "ssh"))
    assert.equal("services: {}", edit.remove_service("services:\n  a:\n    enabled: true", "a"))
    assert.equal("services: {}\n", edit.remove_service("services:\n  a:\n    enabled: true\n", "a"))
  end)

  it("keep the line ends of the file", function()
    local text = edit.add_service("services:\r\n  a:\r\n    enabled: true\r\n", "b",
      { local_address = "h:1" })
    assert.is_nil(text:find("[^\r]\n"))
  end)
end)
