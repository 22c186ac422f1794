--- lua/peerup/config/values.lua; the bulk is in tests/vectors.
local values = require "peerup.config.values"

describe("durations", function()
  it("adds parts and reads fractions", function()
    assert.equal(5400 * 10 ^ 9, values.parse_duration("1.5h"))
    assert.equal(-1500000000, values.parse_duration("-1s500ms"))
    assert.equal(1000, values.parse_duration("1us"))
    assert.equal(1000, values.parse_duration("1µs"))
  end)

  it("refuses what does not fit, and says why", function()
    local ns, problem = values.parse_duration("9999999999h")
    assert.is_nil(ns)
    assert.matches("too long", tostring(problem))
    assert.is_nil((values.parse_duration("99999999999999999999s")))
    assert.matches("unit is missing", tostring(select(2, values.parse_duration("5"))))
  end)

  it("writes as Go does", function()
    local cases = { [0] = "0s", [120000000000] = "2m0s", [300000000] = "300ms", [1] = "1ns",
      [1500000000] = "1.5s", [3661000000000] = "1h1m1s", [-5000000000] = "-5s",
      [1500] = "1.5µs" }
    for ns, text in pairs(cases) do assert.equal(text, values.format_duration(ns)) end
  end)
end)

describe("sizes", function()
  it("refuses what overflows", function()
    assert.is_nil((values.parse_size("99999999999GB")))
    assert.equal(1 << 30, values.parse_size("1GB"))
  end)
end)

describe("host:port", function()
  it("is taken apart", function()
    assert.same({ "localhost", 22 }, { values.split_host_port("localhost:22") })
    assert.same({ "::1", 80 }, { values.split_host_port("[::1]:80") })
    assert.same({ "", 80 }, { values.split_host_port(":80") })
    for _, text in ipairs { "localhost", "a:b", "::1:80", "a:99999", "a b:1", "" } do
      assert.is_nil((values.split_host_port(text)), text)
    end
  end)
end)
