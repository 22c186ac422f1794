--- lua/peerup/json.lua
local json = require "peerup.json"

describe("encode", function()
  it("keeps the order of objects and leaves out what is nil", function()
    assert.equal('{"b":1,"a":[],"c":null}', json.encode(json.object("b", 1, "x", nil, "a",
      json.array(), "c", json.null)))
    assert.equal("null", json.encode(json.array_or_null {}))
    assert.equal('["x"]', json.encode(json.array_or_null { "x" }))
    assert.equal('{"a":1,"b":{}}', json.encode { b = {}, a = 1 })
  end)

  it("escapes as Go does", function()
    assert.equal([["\u003ca\u003e\u0026 \"\\ \n\u0001 \u2028é"]],
      json.encode("<a>& \"\\ \n\1 \u{2028}é"))
    assert.equal('"a\u{FFFD}b"', json.encode("a\xffb"))
    assert.equal('"\u{FFFD}\u{FFFD}"', json.encode("\xff\xfe"))
  end)

  it("writes numbers shortly", function()
    assert.equal("[1,1.5,0.1,3,-2]", json.encode { 1, 1.5, 0.1, 3.0, -2 })
  end)

  it("indents", function()
    local value = json.object("a", json.array { 1, json.object("b", "x,{") }, "c", {})
    local indented = json.encode(value, 2)
    assert.equal('{\n  "a": [\n    1,\n    {\n      "b": "x,{"\n    }\n  ],\n  "c": {}\n}',
      indented)
    assert.equal(indented, json.indent(json.encode(value), 2))
    assert.equal('{\n  "a": "\\\\\\""\n}', json.indent([[{"a":"\\\""}]], 2))
  end)

  it("is read back by the decoder", function()
    assert.same({ a = { 1, "é<" } }, json.decode(json.encode { a = { 1, "é<" } }))
    assert.is_nil((json.decode("{")))
  end)
end)
